package io.github.retmask.model;

import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;

/// Cosines and sines of one [RopeSpec] by position, computed in double and rounded once.
///
/// @param cos `[P, R/2]`
/// @param sin `[P, R/2]`
public record RopeTable(Tensor cos, Tensor sin) {

  /// The table for positions below `positions`.
  public static RopeTable of(RopeSpec spec, int positions, TensorArena arena) {
    double[] speeds = spec.inverseFrequencies();
    float[] cos = new float[positions * speeds.length];
    float[] sin = new float[positions * speeds.length];
    for (int p = 0; p < positions; p++) {
      for (int i = 0; i < speeds.length; i++) {
        double angle = p * speeds[i];
        cos[p * speeds.length + i] = (float) StrictMath.cos(angle);
        sin[p * speeds.length + i] = (float) StrictMath.sin(angle);
      }
    }
    return new RopeTable(
        arena.floats("rope.cos", positions, speeds.length).copyFrom(cos),
        arena.floats("rope.sin", positions, speeds.length).copyFrom(sin));
  }

  /// Positions covered.
  public int positions() {
    return (int) cos.dim(0);
  }
}
