package io.github.retmask.gguf;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.MissingNode;
import io.github.retmask.io.FormatException;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// A tokenizer.json in GGUF's terms: tokens by id with their types, and merges or scores. Rows of the
/// embedding without a token are filled up with unused ones, since llama.cpp counts tokens, not rows.
///
/// Three kinds have a counterpart: byte-level BPE (`gpt2`), BPE with byte fallback as SentencePiece
/// makes it (`llama`), and words between white space (`t5`, in which a word is a token of its own:
/// texts of known words get the same ids). Of others the file carries the tokenizer.json alone.
final class GgufVocabulary {
  private static final JsonMapper JSON = new JsonMapper();
  private static final String SPACE = "\u2581"; // a space in SentencePiece's tokens

  private final @Nullable String json;
  private final JsonNode tree;
  private final @Nullable Tokenizer tokenizer;
  private final List<String> tokens;
  private final int[] types;
  private final int[] ends;
  private @Nullable String problem;

  private GgufVocabulary(
      @Nullable String json,
      JsonNode tree,
      @Nullable Tokenizer tokenizer,
      List<String> tokens,
      int[] types,
      int[] ends,
      @Nullable String problem) {
    this.json = json;
    this.tree = tree;
    this.tokenizer = tokenizer;
    this.tokens = tokens;
    this.types = types;
    this.ends = ends;
    this.problem = problem;
  }

  /// That of a model without a tokenizer.
  ///
  /// @param ends tokens that end a text
  static GgufVocabulary none(int[] ends) {
    return new GgufVocabulary(
        null,
        MissingNode.getInstance(),
        null,
        List.of(),
        new int[0],
        ends,
        "the model has no tokenizer");
  }

  /// That of a model's tokenizer.
  ///
  /// @param model a checkpoint folder or a GGUF file
  /// @param ends tokens that end a text
  /// @param rows rows of the embedding
  static GgufVocabulary of(Path model, Tokenizer tokenizer, int[] ends, int rows)
      throws IOException {
    boolean isFile = Files.isRegularFile(model);
    Path file = isFile ? model : model.resolve("tokenizer.json");
    String json = isFile ? GgufTokenizer.read(model).json() : Tokenizer.json(model);
    JsonNode tree;
    try {
      tree = JSON.readTree(json);
    } catch (JsonProcessingException e) {
      throw new FormatException(file + ": not valid JSON: " + e.getOriginalMessage(), e);
    }
    if (tokenizer.vocabSize() > rows) {
      throw new FormatException(
          "%s: ids up to %d, but the embedding has %d rows"
              .formatted(file, tokenizer.vocabSize() - 1, rows));
    }
    if (ends.length > GgufKeys.ENDS.size()) {
      throw new FormatException(
          "%s: %d tokens end a text; GGUF holds at most %d"
              .formatted(model, ends.length, GgufKeys.ENDS.size()));
    }
    List<String> tokens = new ArrayList<>();
    for (int id = 0; id < rows; id++) {
      tokens.add("[PAD" + id + "]");
    }
    int[] types = new int[rows];
    Arrays.fill(types, GgufTokenizer.UNUSED);
    JsonNode bpe = tree.path("model");
    boolean fallback = bpe.path("byte_fallback").asBoolean();
    for (Map.Entry<String, JsonNode> entry : bpe.path("vocab").properties()) {
      int id = entry.getValue().asInt();
      boolean isByte = fallback && entry.getKey().matches("<0x[0-9A-F]{2}>");
      tokens.set(id, entry.getKey());
      types[id] = isByte ? GgufTokenizer.BYTE : GgufTokenizer.NORMAL;
    }
    String unknown = bpe.path("unk_token").asText("");
    for (JsonNode added : tree.path("added_tokens")) {
      int id = added.path("id").asInt();
      tokens.set(id, added.path("content").asText());
      types[id] =
          added.path("content").asText().equals(unknown)
              ? GgufTokenizer.UNKNOWN
              : added.path("special").asBoolean()
                  ? GgufTokenizer.CONTROL
                  : GgufTokenizer.USER_DEFINED;
    }
    return new GgufVocabulary(json, tree, tokenizer, tokens, types, ends, null);
  }

  /// Why llama.cpp cannot tokenize with this, or null when it can; known once written.
  @Nullable String problem() {
    return problem;
  }

  void writeTo(GgufWriter to) {
    ids(to);
    if (tokenizer == null || json == null) {
      to.put(GgufKeys.MODEL, "no_vocab");
      return;
    }
    model(to);
    to.put(GgufKeys.HUGGING_FACE, json);
    String template = tokenizer.chatTemplateSource("default");
    if (template != null) {
      to.put(GgufKeys.TEMPLATE, template);
    }
    String toolTemplate = tokenizer.chatTemplateSource("tool_use");
    if (toolTemplate != null) {
      to.put(GgufKeys.TOOL_TEMPLATE, toolTemplate);
      to.putTexts("tokenizer.chat_templates", List.of("tool_use"));
    }
  }

  private void model(GgufWriter to) {
    JsonNode model = tree.path("model");
    String type = model.path("type").asText("");
    if (type.equals("BPE") && model.path("byte_fallback").asBoolean()) {
      to.put(GgufKeys.MODEL, "llama");
      tokens(to, tokens);
      to.putFloats(GgufKeys.SCORES, scores(model));
      to.put(GgufKeys.ADD_SPACE, tree.toString().contains("\"prepend"));
      return;
    }
    PreTokenizer pre =
        type.equals("BPE")
            ? PreTokenizer.of(tree.path("pre_tokenizer"), model.path("ignore_merges").asBoolean())
            : null;
    if (pre != null) {
      to.put(GgufKeys.MODEL, "gpt2");
      to.put(GgufKeys.PRE, pre.names().getFirst());
      tokens(to, tokens);
      to.putTexts(GgufKeys.MERGES, merges(model));
    } else if (type.equals("WordLevel")
        && tree.at("/pre_tokenizer/type").asText().equals("WhitespaceSplit")) {
      to.put(GgufKeys.MODEL, "t5");
      List<String> words = new ArrayList<>(tokens);
      for (int id = 0; id < types.length; id++) {
        if (types[id] == GgufTokenizer.NORMAL) {
          words.set(id, SPACE + words.get(id));
        }
      }
      tokens(to, words);
      to.putFloats(GgufKeys.SCORES, new float[types.length]);
      to.put(GgufKeys.ADD_SPACE, true);
      to.put("tokenizer.ggml.remove_extra_whitespaces", true);
    } else {
      problem =
          "its kind of tokenizer (%s after %s) has no counterpart in GGUF"
              .formatted(type, tree.at("/pre_tokenizer/type").asText("no pre-tokenizer"));
      to.put(GgufKeys.MODEL, "no_vocab");
    }
  }

  private void tokens(GgufWriter to, List<String> spelled) {
    to.putTexts(GgufKeys.TOKENS, spelled);
    to.putInts(GgufKeys.TYPES, types);
  }

  /// Merges as texts; a tokenizer.json has them as texts or as pairs.
  private static List<String> merges(JsonNode model) {
    List<String> merges = new ArrayList<>();
    for (JsonNode merge : model.path("merges")) {
      merges.add(
          merge.isTextual()
              ? merge.textValue()
              : merge.path(0).asText() + " " + merge.path(1).asText());
    }
    return merges;
  }

  /// Scores that put the merges in their order: a token is worth less the later it first arises.
  private float[] scores(JsonNode model) {
    Map<String, Integer> ranks = new HashMap<>();
    for (String merge : merges(model)) {
      int space = merge.indexOf(' ');
      ranks.putIfAbsent(merge.substring(0, space) + merge.substring(space + 1), ranks.size());
    }
    float[] scores = new float[tokens.size()];
    for (int id = 0; id < scores.length; id++) {
      Integer rank = ranks.get(tokens.get(id));
      scores[id] = rank == null ? 0 : -rank - 1;
    }
    return scores;
  }

  /// The roles of tokens, and whether a text gets BOS and EOS around it.
  private void ids(GgufWriter to) {
    int bos = -1;
    int eos = -1;
    if (tokenizer != null) {
      int[] around = tokenizer.encode("", true); // what is put around no text at all
      bos = tokenizer.bosId() < 0 ? added(true) : tokenizer.bosId();
      eos = tokenizer.eosId() < 0 ? added(false) : tokenizer.eosId();
      boolean addsBos = around.length > 0 && around[0] == bos;
      to.put(GgufKeys.ADD_BOS, addsBos);
      to.put(
          GgufKeys.ADD_EOS, around.length > (addsBos ? 1 : 0) && around[around.length - 1] == eos);
      put(to, GgufKeys.UNKNOWN, tokens.indexOf(tree.at("/model/unk_token").asText("")));
      put(to, GgufKeys.PADDING, tokenizer.padId());
    }
    put(to, GgufKeys.BOS, bos);
    int first = eos;
    boolean listed = Arrays.stream(ends).anyMatch(end -> end == first);
    List<Integer> stops = new ArrayList<>();
    if (listed || ends.length == 0) {
      stops.add(first);
    }
    Arrays.stream(ends).filter(end -> !stops.contains(end)).forEach(stops::add);
    for (int i = 0; i < stops.size(); i++) {
      put(to, GgufKeys.ENDS.get(i), stops.get(i));
    }
  }

  private static void put(GgufWriter to, String key, int id) {
    if (id >= 0) {
      to.put(key, id);
    }
  }

  /// The token that the post-processor puts before or after a text, or -1.
  private int added(boolean before) {
    JsonNode processor = tree.path("post_processor");
    List<JsonNode> all = new ArrayList<>(List.of(processor));
    processor.path("processors").forEach(all::add);
    for (JsonNode one : all) {
      JsonNode pieces = one.path("single");
      JsonNode piece = pieces.path(before ? 0 : pieces.size() - 1);
      if (piece.has("SpecialToken")) {
        String name = piece.at("/SpecialToken/id").asText();
        return one.path("special_tokens").path(name).path("ids").path(0).asInt(-1);
      }
    }
    return -1;
  }
}
