package io.github.retmask.scoring;

import io.github.retmask.tokenizer.ThinkTags;
import io.github.retmask.tokenizer.Tokenizer;

/// How a model that thinks before it answers is scored: what it generates while it thinks is neither
/// a hit nor a part of the answer, and does not count towards the answer's length limit.
///
/// @param tokenizer the model's
/// @param tags what begins and ends the thinking
/// @param maxTokens length limit of the thinking, at least 1; a trial that is still thinking then fails
public record Thinking(Tokenizer tokenizer, ThinkTags tags, int maxTokens) {
  public Thinking {
    if (maxTokens < 1) {
      throw new IllegalArgumentException(
          "%d tokens for thinking, want at least 1".formatted(maxTokens));
    }
  }
}
