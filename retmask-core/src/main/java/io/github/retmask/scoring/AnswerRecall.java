package io.github.retmask.scoring;

import io.github.retmask.eval.Rouge;
import io.github.retmask.tokenizer.Detokenizer;
import io.github.retmask.tokenizer.Tokenizer;
import java.util.HashMap;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// How much of a trial's answer a response repeats, from 0 to 1.
///
/// With an answer text and a tokenizer, ROUGE-1 recall of the response's text. Otherwise the share of
/// the needle's tokens that the response holds, each counted as often as both have it; 0 when it is
/// not known where the needle lies.
///
/// @param tokenizer the model's, or null
record AnswerRecall(@Nullable Tokenizer tokenizer) {
  /// A response must repeat more than this to be a success, as in the published script.
  static final double REQUIRED = 0.5;

  /// @param response generated token ids
  double of(Trial trial, int[] response) {
    if (trial.answer() != null && tokenizer != null) {
      return Rouge.rouge1(trial.answer(), text(tokenizer, response)).recall();
    }
    Map<Integer, Integer> left = new HashMap<>();
    for (int i = trial.needleStart(); i < trial.needleEnd(); i++) {
      left.merge(trial.prompt()[i], 1, Integer::sum);
    }
    int common = 0;
    for (int id : response) {
      if (left.getOrDefault(id, 0) > 0) {
        left.merge(id, -1, Integer::sum);
        common++;
      }
    }
    return trial.hasNeedle() ? (double) common / (trial.needleEnd() - trial.needleStart()) : 0;
  }

  /// An id without a token, which a model with a padded vocabulary can draw, adds nothing.
  private static String text(Tokenizer tokenizer, int[] ids) {
    Detokenizer detokenizer = tokenizer.detokenizer(true);
    StringBuilder text = new StringBuilder();
    for (int id : ids) {
      text.append(detokenizer.add(id));
    }
    return text.append(detokenizer.finish()).toString().strip();
  }
}
