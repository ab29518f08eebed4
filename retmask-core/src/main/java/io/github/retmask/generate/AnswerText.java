package io.github.retmask.generate;

import io.github.retmask.tokenizer.Detokenizer;
import io.github.retmask.tokenizer.Tokenizer;

/// What generated tokens say.
final class AnswerText {
  private AnswerText() {}

  /// The text of `ids` without special tokens. An id without a token, which a model with a padded
  /// vocabulary can draw, adds nothing.
  static String of(Tokenizer tokenizer, int[] ids) {
    try {
      return tokenizer.decode(ids, true);
    } catch (IllegalArgumentException e) {
      Detokenizer detokenizer = tokenizer.detokenizer(true);
      StringBuilder text = new StringBuilder();
      for (int id : ids) {
        text.append(detokenizer.add(id));
      }
      return text.append(detokenizer.finish()).toString();
    }
  }
}
