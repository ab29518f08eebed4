package io.github.retmask.gguf;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// How a byte-level BPE tokenizer cuts text before it merges. GGUF has a name for it
/// (`tokenizer.ggml.pre`), Hugging Face the expressions; both as in `llama_vocab::impl::load` and
/// `llm_tokenizer_bpe` of llama.cpp's llama-vocab.cpp.
///
/// @param names names in GGUF, the one to write first
/// @param expression what is cut out, one piece after another; null is what the ByteLevel
///     pre-tokenizer has built in, the expression of GPT-2
/// @param singleDigits whether every digit is a piece, before the expression is applied
/// @param nfc whether text is first normalised to NFC; llama.cpp never does, Hugging Face's tokenizers
///     of this kind do
/// @param ignoresMerges whether a piece that is a token is taken whole
/// @param addsBos whether texts begin with BOS where the file does not say
record PreTokenizer(
    List<String> names,
    @Nullable String expression,
    boolean singleDigits,
    boolean nfc,
    boolean ignoresMerges,
    boolean addsBos) {

  private static final String WORDS_AND_THREE_DIGITS =
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
          + "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  private static final String WORDS_AND_DIGITS = WORDS_AND_THREE_DIGITS.replace("{1,3}", "");
  private static final String CAPITALS =
      "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+%1$s"
          + "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*%1$s"
          + "|\\p{N}%2$s| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

  static final List<PreTokenizer> ALL =
      List.of(
          new PreTokenizer(
              List.of("llama-bpe", "llama3", "llama-v3", "falcon3"),
              WORDS_AND_THREE_DIGITS,
              false,
              false,
              true,
              true),
          new PreTokenizer(
              List.of("dbrx", "smaug-bpe"), WORDS_AND_THREE_DIGITS, false, false, false, false),
          new PreTokenizer(List.of("qwen2"), WORDS_AND_DIGITS, false, true, false, false),
          new PreTokenizer(
              List.of("deepseek-r1-qwen"), WORDS_AND_DIGITS, false, false, false, false),
          new PreTokenizer(List.of("tekken"), CAPITALS.formatted("", ""), false, false, true, true),
          new PreTokenizer(
              List.of("gpt-4o"),
              CAPITALS.formatted("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "{1,3}"),
              false,
              false,
              false,
              false),
          new PreTokenizer(List.of("smollm"), null, true, false, false, false),
          new PreTokenizer(List.of("gpt-2", "phi-2", "olmo"), null, false, false, false, false));

  /// The one of a name in GGUF, or null when there is none.
  static @Nullable PreTokenizer of(String name) {
    for (PreTokenizer pre : ALL) {
      if (pre.names.contains(name)) {
        return pre;
      }
    }
    return null;
  }

  /// The one of a tokenizer.json, or null when there is none. A normalizer plays no part: GGUF has
  /// none.
  static @Nullable PreTokenizer of(JsonNode preTokenizer, boolean ignoresMerges) {
    String expression = null;
    boolean digits = false;
    boolean byteLevel = false;
    boolean sequence = preTokenizer.path("type").asText().equals("Sequence");
    for (JsonNode step : sequence ? preTokenizer.path("pretokenizers") : List.of(preTokenizer)) {
      switch (step.path("type").asText()) {
        case "Split" -> {
          if (expression != null || !step.at("/pattern/Regex").isTextual()) {
            return null;
          }
          expression = step.at("/pattern/Regex").textValue();
        }
        case "Digits" -> digits = step.path("individual_digits").asBoolean();
        case "ByteLevel" -> {
          byteLevel = true;
          if (step.path("add_prefix_space").asBoolean()
              || step.path("use_regex").asBoolean(true) != (expression == null)) {
            return null;
          }
        }
        default -> {
          return null;
        }
      }
    }
    for (PreTokenizer pre : ALL) {
      boolean same =
          expression == null ? pre.expression == null : expression.equals(pre.expression);
      if (byteLevel && same && pre.singleDigits == digits && pre.ignoresMerges == ignoresMerges) {
        return pre;
      }
    }
    return null;
  }

  /// The `pre_tokenizer` of a tokenizer.json.
  ObjectNode json() {
    ObjectNode sequence = JsonNodeFactory.instance.objectNode().put("type", "Sequence");
    if (singleDigits) {
      sequence
          .withArray("pretokenizers")
          .addObject()
          .put("type", "Digits")
          .put("individual_digits", true);
    }
    if (expression != null) {
      ObjectNode split = sequence.withArray("pretokenizers").addObject().put("type", "Split");
      split.putObject("pattern").put("Regex", expression);
      split.put("behavior", "Isolated").put("invert", false);
    }
    sequence
        .withArray("pretokenizers")
        .addObject()
        .put("type", "ByteLevel")
        .put("add_prefix_space", false)
        .put("trim_offsets", true)
        .put("use_regex", expression == null);
    return sequence;
  }
}
