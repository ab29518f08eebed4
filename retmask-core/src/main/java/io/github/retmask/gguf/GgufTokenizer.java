package io.github.retmask.gguf;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.FormatException;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// The tokenizer of a GGUF file in Hugging Face's form: the texts of a tokenizer.json and of a
/// tokenizer_config.json.
///
/// Where the file carries a whole tokenizer.json (`tokenizer.huggingface.json`), that is it. Else it is
/// put together from the vocabulary. Two kinds of vocabulary are read: `gpt2`, byte-level BPE with
/// merges; and `llama`, SentencePiece's BPE, whose merges are implied: two neighbours merge when their
/// union is a token, those with the highest score first. They are listed as transformers'
/// `SentencePieceExtractor` lists them.
///
/// @param json text of the tokenizer.json
/// @param config text of the tokenizer_config.json: the roles of special tokens, the chat template
public record GgufTokenizer(String json, String config) {
  private static final JsonMapper JSON = new JsonMapper();

  /// `llama_token_type` of llama.h.
  static final int NORMAL = 1;

  static final int UNKNOWN = 2;
  static final int CONTROL = 3;
  static final int USER_DEFINED = 4;
  static final int UNUSED = 5;
  static final int BYTE = 6;

  /// SentencePiece's own limit is far below; the number of ways to cut a token grows with its length.
  private static final int LONGEST_PIECE = 512;

  private static final String SPACE = "\u2581"; // stands for a space in SentencePiece's tokens

  /// Whether a file has a tokenizer.
  ///
  /// @throws FormatException when it is no GGUF file
  public static boolean isIn(Path path) throws IOException {
    try (GgufFile file = GgufFile.open(path)) {
      GgufMetadata metadata = file.metadata();
      return metadata.has(GgufKeys.HUGGING_FACE)
          || metadata.has(GgufKeys.MODEL) && metadata.has(GgufKeys.TOKENS);
    }
  }

  /// Reads the tokenizer of a file.
  ///
  /// @throws FormatException naming the key that is missing, broken or not supported
  /// @throws IOException when the system refuses to read the file
  public static GgufTokenizer read(Path path) throws IOException {
    try (GgufFile file = GgufFile.open(path)) {
      return new Reader(file.metadata()).read();
    }
  }

  /// The tokenizer of a file, ready to use.
  ///
  /// @throws FormatException naming the key that is missing, broken or not supported
  /// @throws IOException when the system refuses to read the file
  public static Tokenizer load(Path path) throws IOException {
    GgufTokenizer read = read(path);
    return Tokenizer.of(path, read.json, read.config);
  }

  /// One reading.
  private static final class Reader {
    private final GgufMetadata metadata;
    private final List<String> tokens;
    private final long[] types;

    Reader(GgufMetadata metadata) {
      this.metadata = metadata;
      this.tokens = metadata.has(GgufKeys.TOKENS) ? metadata.texts(GgufKeys.TOKENS) : List.of();
      this.types = metadata.has(GgufKeys.TYPES) ? metadata.wholes(GgufKeys.TYPES) : normal();
      if (types.length != tokens.size()) {
        throw metadata.error(
            GgufKeys.TYPES, "has %d items for %d tokens".formatted(types.length, tokens.size()));
      }
    }

    private long[] normal() {
      long[] normal = new long[tokens.size()];
      Arrays.fill(normal, NORMAL);
      return normal;
    }

    GgufTokenizer read() {
      return new GgufTokenizer(json(), config());
    }

    private String json() {
      if (metadata.has(GgufKeys.HUGGING_FACE)) {
        return metadata.text(GgufKeys.HUGGING_FACE);
      }
      String model = metadata.text(GgufKeys.MODEL);
      if (tokens.isEmpty()) {
        throw metadata.error(GgufKeys.TOKENS, "is missing or empty, want a vocabulary");
      }
      ObjectNode json = JsonNodeFactory.instance.objectNode();
      json.put("version", "1.0");
      json.putNull("truncation");
      json.putNull("padding");
      addedTokens(json.putArray("added_tokens"));
      switch (model) {
        case "gpt2" -> byteLevel(json);
        case "llama" -> sentencePiece(json);
        default ->
            throw metadata.error(
                GgufKeys.MODEL,
                "is %s, want gpt2 or llama".formatted(FormatException.quote(model)));
      }
      try {
        return JSON.writeValueAsString(json);
      } catch (JsonProcessingException e) {
        throw metadata.error(GgufKeys.TOKENS, "cannot be written as JSON: " + e.getMessage());
      }
    }

    private void addedTokens(ArrayNode added) {
      for (int id = 0; id < types.length; id++) {
        if (types[id] == CONTROL || types[id] == USER_DEFINED || types[id] == UNKNOWN) {
          added
              .addObject()
              .put("id", id)
              .put("content", tokens.get(id))
              .put("single_word", false)
              .put("lstrip", false)
              .put("rstrip", false)
              .put("normalized", false)
              .put("special", types[id] != USER_DEFINED);
        }
      }
    }

    /// Ids of the tokens that text is made of, by spelling; padding is no part of it.
    private Map<String, Integer> vocabulary(ObjectNode model) {
      ObjectNode vocab = model.putObject("vocab");
      Map<String, Integer> ids = new HashMap<>();
      for (int id = 0; id < types.length; id++) {
        if (types[id] != UNUSED) {
          Integer before = ids.put(tokens.get(id), id);
          if (before != null) {
            throw metadata.error(
                GgufKeys.TOKENS,
                "has %s as %d and as %d"
                    .formatted(FormatException.quote(tokens.get(id)), before, id));
          }
          vocab.put(tokens.get(id), id);
        }
      }
      return ids;
    }

    private void byteLevel(ObjectNode json) {
      String name = metadata.text(GgufKeys.PRE);
      PreTokenizer pre = PreTokenizer.of(name);
      if (pre == null) {
        throw metadata.error(
            GgufKeys.PRE,
            "is %s, want one of %s"
                .formatted(
                    FormatException.quote(name),
                    String.join(
                        ", ",
                        PreTokenizer.ALL.stream().flatMap(p -> p.names().stream()).toList())));
      }
      if (pre.nfc()) {
        json.putObject("normalizer").put("type", "NFC");
      } else {
        json.putNull("normalizer");
      }
      json.set("pre_tokenizer", pre.json());
      postProcessor(json, pre.addsBos());
      json.putObject("decoder")
          .put("type", "ByteLevel")
          .put("add_prefix_space", true)
          .put("trim_offsets", true)
          .put("use_regex", true);
      ObjectNode model = bpe(json, null, pre.ignoresMerges());
      Map<String, Integer> ids = vocabulary(model);
      ArrayNode merges = model.putArray("merges");
      for (String merge : metadata.texts(GgufKeys.MERGES)) {
        int space = merge.indexOf(' ');
        String left = space < 0 ? merge : merge.substring(0, space);
        String right = merge.substring(space + 1);
        if (space < 0
            || !ids.containsKey(left)
            || !ids.containsKey(right)
            || !ids.containsKey(left + right)) {
          throw metadata.error(
              GgufKeys.MERGES,
              "has %s, want two tokens whose union is a token"
                  .formatted(FormatException.quote(merge)));
        }
        merges.addArray().add(left).add(right);
      }
    }

    private static ObjectNode bpe(ObjectNode json, @Nullable String unknown, boolean whole) {
      boolean bytes = unknown != null;
      return json.putObject("model")
          .put("type", "BPE")
          .put("unk_token", unknown)
          .put("fuse_unk", bytes)
          .put("byte_fallback", bytes)
          .put("ignore_merges", whole);
    }

    private void sentencePiece(ObjectNode json) {
      boolean addsSpace = metadata.flagOr(GgufKeys.ADD_SPACE, true);
      ObjectNode normalizer = json.putObject("normalizer").put("type", "Sequence");
      ArrayNode steps = normalizer.putArray("normalizers");
      if (addsSpace) {
        steps.addObject().put("type", "Prepend").put("prepend", SPACE);
      }
      ObjectNode replace = steps.addObject().put("type", "Replace");
      replace.putObject("pattern").put("String", " ");
      replace.put("content", SPACE);
      json.putNull("pre_tokenizer");
      postProcessor(json, true);
      ArrayNode decoders = json.putObject("decoder").put("type", "Sequence").putArray("decoders");
      ObjectNode back = decoders.addObject().put("type", "Replace");
      back.putObject("pattern").put("String", SPACE);
      back.put("content", " ");
      decoders.addObject().put("type", "ByteFallback");
      decoders.addObject().put("type", "Fuse");
      if (addsSpace) {
        decoders
            .addObject()
            .put("type", "Strip")
            .put("content", " ")
            .put("start", 1)
            .put("stop", 0);
      }
      String unknown = role(GgufKeys.UNKNOWN);
      ObjectNode model = bpe(json, unknown == null ? tokens.getFirst() : unknown, false);
      impliedMerges(model.putArray("merges"), vocabulary(model));
    }

    private void impliedMerges(ArrayNode merges, Map<String, Integer> ids) {
      double[] scores = metadata.reals(GgufKeys.SCORES);
      if (scores.length != tokens.size()) {
        throw metadata.error(
            GgufKeys.SCORES, "has %d items for %d tokens".formatted(scores.length, tokens.size()));
      }
      List<Merge> all = new ArrayList<>();
      for (int id = 0; id < types.length; id++) {
        String token = tokens.get(id);
        if (types[id] == NORMAL) {
          if (token.length() > LONGEST_PIECE) {
            throw metadata.error(
                GgufKeys.TOKENS,
                "has a token of %d characters, want at most %d"
                    .formatted(token.length(), LONGEST_PIECE));
          }
          for (int cut = 1; cut < token.length(); cut++) {
            Integer left = ids.get(token.substring(0, cut));
            Integer right = ids.get(token.substring(cut));
            if (left != null && right != null) {
              all.add(new Merge(left, right, scores[id], cut, token.length() - cut));
            }
          }
        }
      }
      all.sort(
          Comparator.comparingDouble(Merge::score)
              .thenComparingInt(Merge::leftLength)
              .thenComparingInt(Merge::rightLength)
              .reversed());
      for (Merge merge : all) {
        merges.addArray().add(tokens.get(merge.left)).add(tokens.get(merge.right));
      }
    }

    private record Merge(int left, int right, double score, int leftLength, int rightLength) {}

    /// BOS before and EOS after a text, where the file asks for them.
    private void postProcessor(ObjectNode json, boolean addsBos) {
      String bos = metadata.flagOr(GgufKeys.ADD_BOS, addsBos) ? role(GgufKeys.BOS) : null;
      String eos = metadata.flagOr(GgufKeys.ADD_EOS, false) ? role(GgufKeys.EOS) : null;
      if (bos == null && eos == null) {
        json.putNull("post_processor");
        return;
      }
      ObjectNode template = json.putObject("post_processor").put("type", "TemplateProcessing");
      ObjectNode special = template.putObject("special_tokens");
      for (String sequences : List.of("single", "pair")) {
        ArrayNode pieces = template.putArray(sequences);
        for (String name : sequences.equals("single") ? List.of("A") : List.of("A", "B")) {
          int segment = name.equals("A") ? 0 : 1;
          addSpecial(pieces, special, bos, segment);
          pieces.addObject().putObject("Sequence").put("id", name).put("type_id", segment);
          addSpecial(pieces, special, eos, segment);
        }
      }
    }

    private void addSpecial(
        ArrayNode pieces, ObjectNode special, @Nullable String token, int segment) {
      if (token == null) {
        return;
      }
      pieces.addObject().putObject("SpecialToken").put("id", token).put("type_id", segment);
      ObjectNode described = special.putObject(token).put("id", token);
      described.putArray("ids").add(tokens.indexOf(token));
      described.putArray("tokens").add(token);
    }

    /// The spelling of the token that a key names by id, or null when the key is missing.
    private @Nullable String role(String key) {
      if (!metadata.has(key) || tokens.isEmpty()) {
        return null;
      }
      int id = metadata.integer(key, 0);
      if (id >= tokens.size()) {
        throw metadata.error(key, "is %d, want a token below %d".formatted(id, tokens.size()));
      }
      return tokens.get(id);
    }

    private String config() {
      ObjectNode config =
          JsonNodeFactory.instance
              .objectNode()
              .put("bos_token", role(GgufKeys.BOS))
              .put("eos_token", role(GgufKeys.EOS))
              .put("unk_token", role(GgufKeys.UNKNOWN))
              .put("pad_token", role(GgufKeys.PADDING))
              .put("clean_up_tokenization_spaces", false);
      if (metadata.has(GgufKeys.ADD_BOS)) {
        config.put("add_bos_token", metadata.flagOr(GgufKeys.ADD_BOS, false));
      }
      if (metadata.has(GgufKeys.ADD_EOS)) {
        config.put("add_eos_token", metadata.flagOr(GgufKeys.ADD_EOS, false));
      }
      template(config.putArray("chat_template"), "default", GgufKeys.TEMPLATE);
      template(config.withArray("chat_template"), "tool_use", GgufKeys.TOOL_TEMPLATE);
      if (!metadata.has(GgufKeys.TEMPLATE)) {
        config.remove("chat_template");
      }
      return config.toString();
    }

    private void template(ArrayNode templates, String name, String key) {
      if (metadata.has(key)) {
        templates.addObject().put("name", name).put("template", metadata.text(key));
      }
    }
  }
}
