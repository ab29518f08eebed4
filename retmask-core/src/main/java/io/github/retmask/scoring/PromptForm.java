package io.github.retmask.scoring;

import java.util.List;

/// How a question about a haystack is put to a model.
public enum PromptForm {
  /// One user turn through the checkpoint's chat template, with the haystack in a `<book>` tag.
  CHAT,
  /// Haystack and question as plain text, for base models.
  PLAIN;

  /// The checkpoints that YoumiMa/RetMask's script prompts through their chat template; it tells them
  /// by the last part of their path.
  private static final List<String> SCRIPT_CHAT_MODELS =
      List.of(
          "Mistral-7B-Instruct-v0.2",
          "Qwen1.5-14B-Chat",
          "Llama-3.1-8B-Instruct",
          "Llama-3.1-70B-Instruct",
          "Qwen3-8B",
          "Qwen3-32B",
          "Qwen3-30B-A3B",
          "Olmo-3-7B-Think",
          "Olmo-3-7B-Instruct");

  /// The form that the script chooses for a checkpoint.
  ///
  /// @param name last part of its path, such as `Qwen3-8B`
  public static PromptForm ofScript(String name) {
    return SCRIPT_CHAT_MODELS.contains(name) ? CHAT : PLAIN;
  }

  /// What stands before the haystack.
  String before() {
    return this == CHAT ? "<book>" : "";
  }

  /// What stands after the haystack.
  String after(String question) {
    String asked = "Based on the content of the book, Question: " + question + "\nAnswer:";
    return this == CHAT ? "</book>\n" + asked : asked;
  }
}
