package io.github.retmask.tokenizer;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonFiles;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/// The vocabulary of a `tokenizer.json`, read in one pass that skips the merges.
///
/// What the native tokenizers library answers with the end of the process, or with minutes of
/// silence, is refused here, before the library sees the file: special tokens that a template uses
/// but does not define (tokenizers 0.21, processors/template.rs, `apply_template`), pieces shorter
/// than the prefix that merging cuts off (models/bpe/model.rs), endless added tokens.
///
/// @param tokens spelling by id, null where an id has no token
/// @param special ids of added tokens marked special
/// @param byteFallback whether the decoder joins tokens such as `<0xE2>` to characters
record TokenizerFile(
    List<@Nullable String> tokens, Map<String, Integer> ids, BitSet special, boolean byteFallback) {
  private static final int MAX_ADDED_LENGTH = 1000; // characters
  private static final List<String> FLAGS =
      List.of("single_word", "lstrip", "rstrip", "normalized", "special");

  static TokenizerFile parse(Path file, String json) {
    try (JsonParser parser = new ObjectMapper().createParser(json)) {
      var reader = new Reader(file, parser, json.length());
      reader.read();
      return reader.result();
    } catch (JsonProcessingException e) {
      throw JsonFiles.notJson(file, e);
    } catch (IOException e) {
      throw new IllegalStateException("reading from memory", e);
    }
  }

  /// Whether an added token that stands elsewhere is missing here, or not special here.
  boolean lacks(Map<Integer, JsonNode> addedTokens) {
    return addedTokens.entrySet().stream().anyMatch(e -> lacks(e.getKey(), e.getValue()));
  }

  private boolean lacks(int id, JsonNode token) {
    String here = id < tokens.size() ? tokens.get(id) : null;
    return here == null
        || (here.equals(token.path("content").textValue())
            && special.get(id) != token.path("special").asBoolean());
  }

  /// The text of the file with those tokens, which transformers adds too when it loads a checkpoint.
  String withAddedTokens(String json, Map<Integer, JsonNode> addedTokens) {
    ObjectNode root;
    try {
      root = (ObjectNode) new ObjectMapper().readTree(json);
    } catch (JsonProcessingException e) {
      throw new IllegalStateException("read once before", e);
    }
    ArrayNode list = root.withArray("added_tokens");
    SortedMap<Integer, JsonNode> all = new TreeMap<>(); // the library counts ids in this order
    list.forEach(there -> all.put(there.path("id").asInt(), there));
    addedTokens.forEach(
        (id, token) -> {
          if (lacks(id, token)) {
            ObjectNode added = list.objectNode().put("id", id);
            added.put("content", token.get("content").textValue());
            for (String flag : FLAGS) {
              added.put(flag, token.path(flag).asBoolean());
            }
            all.put(id, added);
          }
        });
    list.removeAll().addAll(all.values());
    return root.toString();
  }

  private static final class Reader {
    private final Path file;
    private final JsonParser parser;
    private final List<@Nullable String> tokens = new ArrayList<>();
    private final Map<String, Integer> ids = new HashMap<>();
    private final Map<Integer, String> added = new LinkedHashMap<>();
    private final BitSet special = new BitSet();
    private final int maxId; // a token takes more than one character of the file
    private boolean byteFallback;

    Reader(Path file, JsonParser parser, int maxId) {
      this.file = file;
      this.parser = parser;
      this.maxId = maxId;
    }

    void read() throws IOException {
      expect(parser.nextToken(), JsonToken.START_OBJECT, "the file");
      while (parser.nextToken() == JsonToken.FIELD_NAME) {
        String key = parser.currentName();
        JsonToken value = parser.nextToken();
        switch (key) {
          case "model" -> model(value);
          case "added_tokens" -> addedTokens(value);
          case "decoder" -> decoder();
          case "post_processor" -> requireTokensOfTemplates(parser.readValueAsTree());
          default -> parser.skipChildren();
        }
      }
      if (ids.isEmpty() && added.isEmpty()) {
        throw new FormatException(file + ": no model.vocab, want the vocabulary of a tokenizer");
      }
      requireIdsByPlace();
      added.forEach((id, token) -> put(token, id));
    }

    /// The library does not read the ids of added tokens, it counts them anew (tokenizers 0.21,
    /// added_vocabulary.rs, `add_tokens`); where that gives others, ids would silently be wrong.
    private void requireIdsByPlace() {
      int size = ids.size();
      int last = -1;
      for (Map.Entry<Integer, String> token : added.entrySet()) {
        Integer known = ids.get(token.getValue());
        int counted = known != null ? known : Math.max(size, last + 1);
        if (counted != token.getKey()) {
          throw new FormatException(
              "%s: added token %s has id %d, but its place in added_tokens makes it %d"
                  .formatted(
                      file, FormatException.quote(token.getValue()), token.getKey(), counted));
        }
        last = Math.max(last, counted);
      }
    }

    TokenizerFile result() {
      return new TokenizerFile(tokens, ids, special, byteFallback);
    }

    private void model(JsonToken value) throws IOException {
      expect(value, JsonToken.START_OBJECT, "model");
      while (parser.nextToken() == JsonToken.FIELD_NAME) {
        String key = parser.currentName();
        JsonToken start = parser.nextToken();
        if (key.equals("continuing_subword_prefix")) {
          requireNoPrefix(start);
        } else if (!key.equals("vocab")) {
          parser.skipChildren();
        } else if (start == JsonToken.START_ARRAY) {
          scoredVocab();
        } else {
          expect(start, JsonToken.START_OBJECT, "model.vocab");
          while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String token = parser.currentName();
            expect(parser.nextToken(), JsonToken.VALUE_NUMBER_INT, "model.vocab \"" + token + "\"");
            put(token, parser.getIntValue());
          }
        }
      }
    }

    private void requireNoPrefix(JsonToken value) throws IOException {
      if (value != JsonToken.VALUE_NULL && !parser.getText().isEmpty()) {
        throw new FormatException(
            "%s: model.continuing_subword_prefix is %s, only null or \"\" is supported"
                .formatted(file, FormatException.quote(parser.getText())));
      }
    }

    private void requireTokensOfTemplates(JsonNode processor) {
      processor.path("processors").forEach(this::requireTokensOfTemplates);
      for (String template : List.of("single", "pair")) {
        for (JsonNode piece : processor.path(template)) {
          JsonNode id = piece.path("SpecialToken").path("id");
          if (id.isTextual() && !processor.path("special_tokens").has(id.textValue())) {
            throw new FormatException(
                "%s: post_processor.%s uses %s, which is not among its special_tokens"
                    .formatted(file, template, FormatException.quote(id.textValue())));
          }
        }
      }
    }

    /// Unigram models list `[token, score]`; the id is the place in the list.
    private void scoredVocab() throws IOException {
      for (int id = 0; parser.nextToken() == JsonToken.START_ARRAY; id++) {
        expect(parser.nextToken(), JsonToken.VALUE_STRING, "model.vocab[" + id + "]");
        put(parser.getText(), id);
        while (parser.nextToken() != JsonToken.END_ARRAY) {
          parser.skipChildren();
        }
      }
    }

    private void addedTokens(JsonToken value) throws IOException {
      expect(value, JsonToken.START_ARRAY, "added_tokens");
      while (parser.nextToken() == JsonToken.START_OBJECT) {
        int id = -1;
        String content = null;
        boolean isSpecial = false;
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
          String key = parser.currentName();
          parser.nextToken();
          switch (key) {
            case "id" -> id = parser.getIntValue();
            case "content" -> content = parser.getText();
            case "special" -> isSpecial = parser.getBooleanValue();
            default -> parser.skipChildren();
          }
        }
        if (id < 0 || id > maxId || content == null || content.length() > MAX_ADDED_LENGTH) {
          throw new FormatException(
              "%s: an entry of added_tokens has id %d and content %s, want 0 to %d and at most %d characters"
                  .formatted(
                      file,
                      id,
                      content == null ? "null" : FormatException.quote(content),
                      maxId,
                      MAX_ADDED_LENGTH));
        }
        added.put(id, content);
        special.set(id, isSpecial);
      }
    }

    private void decoder() throws IOException {
      if (!parser.currentToken().isStructStart()) {
        return;
      }
      for (int depth = 1; depth > 0; ) {
        JsonToken token = parser.nextToken();
        depth += token.isStructStart() ? 1 : token.isStructEnd() ? -1 : 0;
        byteFallback |= token == JsonToken.VALUE_STRING && parser.getText().equals("ByteFallback");
      }
    }

    private void put(String token, int id) {
      if (id < 0 || id > maxId) {
        throw new FormatException(
            "%s: token %s has id %d, want 0 to %d"
                .formatted(file, FormatException.quote(token), id, maxId));
      }
      while (tokens.size() <= id) {
        tokens.add(null);
      }
      tokens.set(id, token);
      ids.put(token, id);
    }

    private void expect(@Nullable JsonToken found, JsonToken wanted, String where) {
      if (found != wanted) {
        throw new FormatException(file + ": " + where + " is " + found + ", want " + wanted);
      }
    }
  }
}
