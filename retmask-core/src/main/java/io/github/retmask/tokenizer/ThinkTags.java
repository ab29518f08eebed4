package io.github.retmask.tokenizer;

import java.util.List;
import org.jspecify.annotations.Nullable;

/// What begins and ends the part of a response in which a model thinks before it answers. Depending on
/// the tokenizer, a tag is one added token or several pieces of text.
///
/// @param open begins the thinking
/// @param close ends it
public record ThinkTags(String open, String close) {
  /// Spellings in published chat templates.
  private static final List<ThinkTags> KNOWN =
      List.of(
          new ThinkTags("<think>", "</think>"), // DeepSeek-R1, Qwen3, Olmo 3 Think and most others
          new ThinkTags("<thought>", "</thought>"), // EXAONE Deep
          new ThinkTags("[THINK]", "[/THINK]"), // Magistral
          new ThinkTags("<seed:think>", "</seed:think>")); // Seed-OSS

  public ThinkTags {
    if (open.isEmpty() || close.isEmpty() || open.equals(close)) {
      throw new IllegalArgumentException(
          "think tags \"%s\" and \"%s\": want two different texts".formatted(open, close));
    }
  }

  /// The tags that a chat template writes or looks for; null when it knows none.
  public static @Nullable ThinkTags of(ChatTemplate template) {
    for (ThinkTags tags : KNOWN) {
      if (template.mentions(tags.close)) {
        return tags;
      }
    }
    return null;
  }

  /// Whether a prompt ends inside a think block, as templates leave it that open the block themselves.
  public boolean isLeftOpen(Tokenizer tokenizer, int[] prompt) {
    // Every token but one without text holds a byte at least, and white space may follow.
    int from = Math.max(0, prompt.length - 2 * open.length() - 8);
    StringBuilder end = new StringBuilder();
    Detokenizer detokenizer = tokenizer.detokenizer(false);
    for (int i = from; i < prompt.length; i++) {
      end.append(detokenizer.add(prompt[i]));
    }
    return end.append(detokenizer.finish()).toString().stripTrailing().endsWith(open);
  }
}
