package io.github.retmask.generate;

/// Where every head looked while a continuation was generated: for each new token, the largest
/// attention weight of the query that produced it, whose own token is the one before.
///
/// @param layers L
/// @param heads H
/// @param positions absolute position of that weight, `[steps, L, H]`; -1 for a head that a mask
///   replaced by a constant
/// @param weights that weight, `[steps, L, H]`
public record DecodeAttention(int layers, int heads, int[] positions, float[] weights) {

  /// New tokens covered.
  public int steps() {
    return positions.length / (layers * heads);
  }

  /// Position of the largest weight at a step.
  public int position(int step, int layer, int head) {
    return positions[(step * layers + layer) * heads + head];
  }

  /// The largest weight at a step.
  public float weight(int step, int layer, int head) {
    return weights[(step * layers + layer) * heads + head];
  }
}
