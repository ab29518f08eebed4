package io.github.retmask.model;

import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;

/// Cosines and sines of one [RopeSpec], its attention scaling included, computed in double and
/// rounded once.
///
/// @param cos `[P, R/2]`
/// @param sin `[P, R/2]`
record RopeTable(Tensor cos, Tensor sin) {

  /// A row for every position below `positions`, of a spec that does not depend on the context.
  static RopeTable byPosition(RopeSpec spec, int positions, TensorArena arena) {
    double[] speeds = spec.inverseFrequencies(positions);
    Rows rows = new Rows(spec, positions);
    for (int p = 0; p < positions; p++) {
      rows.set(p, p, speeds);
    }
    return rows.table(arena);
  }

  /// A row for every token.
  ///
  /// @param positions `[N]`
  /// @param contexts `[N]`, see [RopeSpec]
  static RopeTable byToken(RopeSpec spec, int[] positions, int[] contexts, TensorArena arena) {
    Rows rows = new Rows(spec, positions.length);
    double[] speeds = {};
    for (int n = 0; n < positions.length; n++) {
      if (n == 0 || !spec.rotatesAlike(contexts[n - 1], contexts[n])) {
        speeds = spec.inverseFrequencies(contexts[n]);
      }
      rows.set(n, positions[n], speeds);
    }
    return rows.table(arena);
  }

  private static final class Rows {
    private final double scaling;
    private final int half; // R/2
    private final float[] cos;
    private final float[] sin;

    Rows(RopeSpec spec, int count) {
      scaling = spec.attentionScaling();
      half = spec.rotaryDim() / 2;
      cos = new float[count * half];
      sin = new float[count * half];
    }

    void set(int row, int position, double[] speeds) {
      for (int i = 0; i < half; i++) {
        double angle = position * speeds[i];
        cos[row * half + i] = (float) (scaling * StrictMath.cos(angle));
        sin[row * half + i] = (float) (scaling * StrictMath.sin(angle));
      }
    }

    RopeTable table(TensorArena arena) {
      long rows = cos.length / half;
      return new RopeTable(
          arena.floats("rope.cos", rows, half).copyFrom(cos),
          arena.floats("rope.sin", rows, half).copyFrom(sin));
    }
  }
}
