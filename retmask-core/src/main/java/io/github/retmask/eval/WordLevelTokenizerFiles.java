package io.github.retmask.eval;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.List;

/// The tokenizer files of a [SyntheticLanguage]: a word-level `tokenizer.json` in the format of
/// Hugging Face tokenizers, and a `tokenizer_config.json` whose chat template turns a user turn
/// that ends in `Question code <key>` into a question prompt.
public final class WordLevelTokenizerFiles {
  private static final JsonNodeFactory NODES = JsonNodeFactory.instance;
  private static final String CHAT_TEMPLATE =
      "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %} Answer"
          + " {{ message['content'] }} {{ eos_token }}{% else %} {{ message['content'] }}{% endif"
          + " %}{% endfor %}{% if add_generation_prompt %} Answer{% endif %}";

  private WordLevelTokenizerFiles() {}

  /// Contents of `tokenizer.json`.
  ///
  /// @param vocabulary words by id; `<bos>`, `<eos>` and `<unk>` are the first three
  public static byte[] tokenizer(List<String> vocabulary) {
    ObjectNode root = NODES.objectNode();
    root.put("version", "1.0");
    root.putNull("truncation");
    root.putNull("padding");
    ArrayNode added = root.putArray("added_tokens");
    for (int id = 0; id < 3; id++) {
      ObjectNode token = added.addObject();
      token.put("id", id);
      token.put("content", vocabulary.get(id));
      for (String flag : List.of("single_word", "lstrip", "rstrip", "normalized")) {
        token.put(flag, false);
      }
      token.put("special", true);
    }
    root.putNull("normalizer");
    root.putObject("pre_tokenizer").put("type", "WhitespaceSplit");
    String bos = vocabulary.get(0);
    ObjectNode post = root.putObject("post_processor");
    post.put("type", "TemplateProcessing");
    for (String form : List.of("single", "pair")) {
      ArrayNode pieces = post.putArray(form);
      pieces.addObject().putObject("SpecialToken").put("id", bos).put("type_id", 0);
      pieces.addObject().putObject("Sequence").put("id", "A").put("type_id", 0);
      if (form.equals("pair")) {
        pieces.addObject().putObject("Sequence").put("id", "B").put("type_id", 1);
      }
    }
    ObjectNode special = post.putObject("special_tokens").putObject(bos);
    special.put("id", bos);
    special.putArray("ids").add(0);
    special.putArray("tokens").add(bos);
    root.putNull("decoder");
    ObjectNode model = root.putObject("model");
    model.put("type", "WordLevel");
    ObjectNode words = model.putObject("vocab");
    for (int id = 0; id < vocabulary.size(); id++) {
      words.put(vocabulary.get(id), id);
    }
    model.put("unk_token", vocabulary.get(2));
    return pretty(root);
  }

  /// Contents of `tokenizer_config.json`.
  public static byte[] tokenizerConfig(List<String> vocabulary) {
    ObjectNode root = NODES.objectNode();
    root.put("bos_token", vocabulary.get(0));
    root.put("eos_token", vocabulary.get(1));
    root.put("unk_token", vocabulary.get(2));
    root.put("add_bos_token", true);
    root.put("clean_up_tokenization_spaces", false);
    root.put("tokenizer_class", "PreTrainedTokenizerFast");
    root.put("chat_template", CHAT_TEMPLATE);
    return pretty(root);
  }

  private static byte[] pretty(ObjectNode root) {
    return (root.toPrettyString() + "\n").getBytes(java.nio.charset.StandardCharsets.UTF_8);
  }
}
