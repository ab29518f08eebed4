package io.github.retmask.train;

import java.util.Arrays;

/// One training sequence.
///
/// @param ids token ids, T >= 2
/// @param weights `[T]`, finite and >= 0: the weight in the loss of predicting `ids[t]` from the
///   tokens before it. 0 means not counted; `weights[0]` is ignored, nothing comes before it
public record Example(int[] ids, float[] weights) {

  /// Checks lengths and weights; the arrays are kept, not copied.
  public Example {
    if (ids.length < 2 || weights.length != ids.length) {
      throw new IllegalArgumentException(
          "example: %d ids and %d weights, want as many of both and at least 2"
              .formatted(ids.length, weights.length));
    }
    for (int t = 1; t < weights.length; t++) {
      if (!(weights[t] >= 0 && weights[t] < Float.POSITIVE_INFINITY)) {
        throw new IllegalArgumentException(
            "example: weight %s at token %d, want finite and at least 0".formatted(weights[t], t));
      }
    }
  }

  /// Every token but the first counts 1.
  public static Example of(int... ids) {
    float[] ones = new float[ids.length];
    Arrays.fill(ones, 1f);
    return new Example(ids, ones);
  }
}
