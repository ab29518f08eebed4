package io.github.retmask.kernels.cpu;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/// [RowDots] of Q4_0 weights: blocks of a half-precision scale d and 16 bytes, whose low halves are
/// the elements 0 to 15 and whose high halves are 16 to 31. An element is `d (q - 8)`, exact in a
/// float and so the same as `d q - 8 d` rounded once. For vectors of eight floats.
final class Q4Dots implements RowDots {
  static final RowDots INSTANCE = new Q4Dots();

  private static final VectorSpecies<Float> SPECIES = Lanes.CHAINS_OF_8;
  private static final VectorSpecies<Integer> INTS = SPECIES.withLanes(int.class);
  private static final VectorSpecies<Byte> BYTES = ByteVector.SPECIES_64;

  private Q4Dots() {}

  @Override
  public void one(
      MemorySegment weight, long at, float[] x, int xAt, int inner, float[] sums, int sumsAt) {
    long row = inner / 32L * 18;
    for (int r = 0; r < ROWS; r += 2) {
      rows(weight, at + r * row, row, x, xAt, inner / 32, sums, sumsAt + CHAINS * r);
    }
  }

  @Override
  public void two(
      MemorySegment weight, long at, float[] x, int xAt, int inner, float[] sums, int sumsAt) {
    one(weight, at, x, xAt, inner, sums, sumsAt);
    one(weight, at, x, xAt + inner, inner, sums, sumsAt + ROWS * CHAINS);
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
      long p0 = at + b * 18L;
      long p1 = at1 + b * 18L;
      FloatVector d0 = scale(w, p0);
      FloatVector d1 = scale(w, p1);
      FloatVector e0 = d0.mul(-8f);
      FloatVector e1 = d1.mul(-8f);
      int i = xAt + 32 * b;
      IntVector q00 = load(w, p0 + 2);
      IntVector q01 = load(w, p0 + 10);
      IntVector q10 = load(w, p1 + 2);
      IntVector q11 = load(w, p1 + 10);
      FloatVector x0 = FloatVector.fromArray(SPECIES, x, i);
      s0 = low(q00).fma(d0, e0).fma(x0, s0);
      s1 = low(q10).fma(d1, e1).fma(x0, s1);
      FloatVector x1 = FloatVector.fromArray(SPECIES, x, i + 8);
      s0 = low(q01).fma(d0, e0).fma(x1, s0);
      s1 = low(q11).fma(d1, e1).fma(x1, s1);
      FloatVector x2 = FloatVector.fromArray(SPECIES, x, i + 16);
      s0 = high(q00).fma(d0, e0).fma(x2, s0);
      s1 = high(q10).fma(d1, e1).fma(x2, s1);
      FloatVector x3 = FloatVector.fromArray(SPECIES, x, i + 24);
      s0 = high(q01).fma(d0, e0).fma(x3, s0);
      s1 = high(q11).fma(d1, e1).fma(x3, s1);
    }
    s0.intoArray(sums, sumsAt);
    s1.intoArray(sums, sumsAt + CHAINS);
  }

  private static FloatVector scale(MemorySegment w, long at) {
    return FloatVector.broadcast(SPECIES, Float.float16ToFloat(w.get(Lanes.I16, at)));
  }

  private static IntVector load(MemorySegment w, long at) {
    return (IntVector)
        ByteVector.fromMemorySegment(BYTES, w, at, Lanes.LE)
            .convertShape(VectorOperators.ZERO_EXTEND_B2I, INTS, 0);
  }

  private static FloatVector low(IntVector q) {
    return (FloatVector) q.and(15).convert(VectorOperators.I2F, 0);
  }

  private static FloatVector high(IntVector q) {
    return (FloatVector) q.lanewise(VectorOperators.LSHR, 4).convert(VectorOperators.I2F, 0);
  }
}
