package io.github.retmask.train;

import java.util.Arrays;

/// Two completions of one prompt, the first preferred.
///
/// @param prompt token ids that both completions continue, the template's tokens included
/// @param chosen token ids of the preferred completion, its end token included where it has one
/// @param rejected token ids of the other
public record PreferencePair(int[] prompt, int[] chosen, int[] rejected) {

  /// Tokens of both rows.
  int tokens() {
    return 2 * prompt.length + chosen.length + rejected.length;
  }

  /// Tokens of the longer row.
  int longest() {
    return prompt.length + Math.max(chosen.length, rejected.length);
  }

  /// Prompt and preferred completion; the completion is labelled.
  Example chosenRow() {
    return row(chosen);
  }

  /// Prompt and the other completion; the completion is labelled.
  Example rejectedRow() {
    return row(rejected);
  }

  private Example row(int[] completion) {
    int[] ids = Arrays.copyOf(prompt, prompt.length + completion.length);
    System.arraycopy(completion, 0, ids, prompt.length, completion.length);
    float[] weights = new float[ids.length];
    Arrays.fill(weights, prompt.length, ids.length, 1f);
    return new Example(ids, weights);
  }
}
