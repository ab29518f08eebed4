package io.github.retmask.generate;

import io.github.retmask.tokenizer.ChatMessage;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// One line of a pair file: the texts, the tokens, or both.
///
/// @param id name of the record
/// @param texts conversation and answers; null when the line has tokens alone
/// @param tokens token ids; null when the line has texts alone
public record PairRecord(String id, @Nullable Texts texts, @Nullable PairTokens tokens) {

  public PairRecord {
    if (texts == null && tokens == null) {
      throw new IllegalArgumentException("pair " + id + ": neither texts nor tokens");
    }
  }

  /// The texts of a line without tokens.
  Texts requireTexts() {
    Texts there = texts;
    if (there == null) {
      throw new IllegalStateException("pair " + id + " has no texts");
    }
    return there;
  }

  /// A conversation with two answers.
  ///
  /// @param prompt turns before the answer, at least one
  /// @param chosen the better answer
  /// @param rejected the other answer
  public record Texts(List<ChatMessage> prompt, String chosen, String rejected) {
    public Texts {
      prompt = List.copyOf(prompt);
    }
  }
}
