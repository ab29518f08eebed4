package io.github.retmask.kernels.cpu;

import static jdk.incubator.vector.VectorOperators.FMA;

import java.util.Objects;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorSpecies;

/// The dot products of [RowDots] with rows that were widened to a heap array.
final class WideDots {
  private static final VectorSpecies<Float> SPECIES = Lanes.CHAINS_OF_8;

  private WideDots() {}

  /// Four rows of w, dense, with one row of x.
  static void one(float[] w, float[] x, int xAt, int inner, float[] sums) {
    // The checks make it long enough: see StoredRowDots.
    Objects.checkFromIndexSize(xAt, inner, x.length);
    Objects.checkFromIndexSize(0, StoredRowDots.ROWS * inner, w.length);
    Objects.checkFromIndexSize(0, RowDots.LEFT, sums.length);
    int whole = inner - inner % RowDots.CHAINS;
    for (int lane = 0; lane < RowDots.CHAINS; lane += RowDots.LANES) {
      FloatVector s0 = FloatVector.zero(SPECIES);
      FloatVector s1 = FloatVector.zero(SPECIES);
      FloatVector s2 = FloatVector.zero(SPECIES);
      FloatVector s3 = FloatVector.zero(SPECIES);
      for (int i = lane; i < whole; i += RowDots.CHAINS) {
        FloatVector x0 = FloatVector.fromArray(SPECIES, x, xAt + i);
        s0 = FloatVector.fromArray(SPECIES, w, i).lanewise(FMA, x0, s0);
        s1 = FloatVector.fromArray(SPECIES, w, inner + i).lanewise(FMA, x0, s1);
        s2 = FloatVector.fromArray(SPECIES, w, 2 * inner + i).lanewise(FMA, x0, s2);
        s3 = FloatVector.fromArray(SPECIES, w, 3 * inner + i).lanewise(FMA, x0, s3);
      }
      s0.intoArray(sums, lane);
      s1.intoArray(sums, lane + 8);
      s2.intoArray(sums, lane + 16);
      s3.intoArray(sums, lane + 24);
    }
    for (int k = whole; k < inner; k++) {
      for (int i = 0; i < StoredRowDots.ROWS; i++) {
        int chain = i * RowDots.CHAINS + k % RowDots.CHAINS;
        sums[chain] = Math.fma(x[xAt + k], w[i * inner + k], sums[chain]);
      }
    }
  }
}
