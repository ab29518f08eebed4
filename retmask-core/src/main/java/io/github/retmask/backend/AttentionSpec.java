package io.github.retmask.backend;

/// What a layer's attention has in common over all rows and heads.
///
/// @param window keys that a query sees, its own included (key > query - window);
///   `Integer.MAX_VALUE` for full causal attention
/// @param scale factor on q . k before the softmax, usually 1 / sqrt(D)
public record AttentionSpec(int window, float scale) {

  /// Full causal attention.
  public static final int NO_WINDOW = Integer.MAX_VALUE;

  public AttentionSpec {
    if (window < 1 || !Float.isFinite(scale)) {
      throw new IllegalArgumentException(
          "attention: window "
              + window
              + " and scale "
              + scale
              + ", want window >= 1 and a finite scale");
    }
  }
}
