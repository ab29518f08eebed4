package io.github.retmask.kernels.cpu;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/// [RowDots] of Q8_0 weights: blocks of a half-precision scale and 32 bytes. An element times its
/// scale is exact in a float. For vectors of eight floats.
final class Q8Dots implements RowDots {
  static final RowDots INSTANCE = new Q8Dots();

  private static final VectorSpecies<Float> SPECIES = Lanes.CHAINS_OF_8;
  private static final VectorSpecies<Byte> BYTES = ByteVector.SPECIES_64;

  private Q8Dots() {}

  @Override
  public void multiply(
      MemorySegment weight,
      long at,
      long row,
      float[] x,
      int xAt,
      int count,
      int inner,
      float[] sums,
      int sumsAt,
      Scratch scratch) {
    for (int j = 0; j < count; j++) {
      for (int r = 0; r < ROWS; r += 2) {
        int sum = sumsAt + (j * ROWS + r) * CHAINS;
        rows(weight, at + r * row, row, x, xAt + j * inner, inner / 32, sums, sum);
      }
    }
  }

  private static void rows(
      MemorySegment weight,
      long at,
      long row,
      float[] x,
      int xAt,
      int blocks,
      float[] sums,
      int sumsAt) {
    MemorySegment w = OffHeap.cast(weight);
    FloatVector s0 = FloatVector.zero(SPECIES);
    FloatVector s1 = FloatVector.zero(SPECIES);
    long at1 = at + row;
    for (int b = 0; b < blocks; b++) {
      long p0 = at + b * 34L;
      long p1 = at1 + b * 34L;
      FloatVector d0 = scale(w, p0);
      FloatVector d1 = scale(w, p1);
      int i = xAt + 32 * b;
      FloatVector x0 = FloatVector.fromArray(SPECIES, x, i);
      s0 = load(w, p0 + 2).mul(d0).fma(x0, s0);
      s1 = load(w, p1 + 2).mul(d1).fma(x0, s1);
      FloatVector x1 = FloatVector.fromArray(SPECIES, x, i + 8);
      s0 = load(w, p0 + 10).mul(d0).fma(x1, s0);
      s1 = load(w, p1 + 10).mul(d1).fma(x1, s1);
      FloatVector x2 = FloatVector.fromArray(SPECIES, x, i + 16);
      s0 = load(w, p0 + 18).mul(d0).fma(x2, s0);
      s1 = load(w, p1 + 18).mul(d1).fma(x2, s1);
      FloatVector x3 = FloatVector.fromArray(SPECIES, x, i + 24);
      s0 = load(w, p0 + 26).mul(d0).fma(x3, s0);
      s1 = load(w, p1 + 26).mul(d1).fma(x3, s1);
    }
    s0.intoArray(sums, sumsAt);
    s1.intoArray(sums, sumsAt + CHAINS);
  }

  private static FloatVector scale(MemorySegment w, long at) {
    return FloatVector.broadcast(SPECIES, Float.float16ToFloat(w.get(Lanes.I16, at)));
  }

  private static FloatVector load(MemorySegment w, long at) {
    return (FloatVector)
        ByteVector.fromMemorySegment(BYTES, w, at, Lanes.LE)
            .convertShape(VectorOperators.B2F, SPECIES, 0);
  }
}
