package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.I64;
import static io.github.retmask.kernels.cpu.Lanes.LE;
import static jdk.incubator.vector.VectorOperators.B2I;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LSHL;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.LongVector;

/// [PairDots] of Q4_0 weights. The low nibbles of a block's bytes are its elements 0 to 15, the high
/// ones 16 to 31. An element times its scale is exact in a float.
///
/// In a lane of 32 bits the low nibble is shifted to the top, where it stands for 2^28 times its value,
/// and the high one stays, for 16 times; the scales make up for it. What else shapes the loops is said
/// in [Q8Dots].
final class Q4Dots extends PairDots {
  static final Q4Dots INSTANCE = new Q4Dots();

  private static final int BLOCK = PairedRows.SCALES + 2 * PairedRows.EIGHT;
  private static final float LOW = 0x1p-28f;
  private static final float HIGH = 0x1p-4f;

  private Q4Dots() {}

  @Override
  void one(
      MemorySegment weight,
      long at,
      long pair,
      float[] x,
      int xAt,
      int blocks,
      float[] sums,
      int sumsAt) {
    MemorySegment w = OffHeap.cast(weight);
    for (int part = 0; part < PairedRows.EIGHT; part += SPECIES.length()) {
      long at0 = at + PairedRows.SCALES + part;
      long at1 = at0 + pair;
      int scales = PairedRows.SCALES + part;
      int shift = 4 * part;
      FloatVector s0 = FloatVector.zero(SPECIES);
      FloatVector s1 = FloatVector.zero(SPECIES);
      for (int b = 0; b < blocks; b++) {
        int block = BLOCK * b;
        int i = xAt + 32 * b;
        long p0 = at0 + block;
        long p1 = at1 + block;
        long d0 = w.get(I64, p0 - scales) >>> shift;
        long d1 = w.get(I64, p1 - scales) >>> shift;
        FloatVector x0 = FloatVector.fromArray(SPECIES, x, i).rearrange(TWICE);
        FloatVector x1 = FloatVector.fromArray(SPECIES, x, i + 8).rearrange(TWICE);
        FloatVector x2 = FloatVector.fromArray(SPECIES, x, i + 16).rearrange(TWICE);
        FloatVector x3 = FloatVector.fromArray(SPECIES, x, i + 24).rearrange(TWICE);
        FloatVector scale0 = LongVector.broadcast(LONGS, d0).reinterpretAsFloats().rearrange(SCALE);
        FloatVector low0 = scale0.mul(LOW);
        FloatVector high0 = scale0.mul(HIGH);
        IntVector q00 =
            (IntVector) ByteVector.fromMemorySegment(BYTES, w, p0, LE).convertShape(B2I, INTS, 0);
        IntVector q01 =
            (IntVector)
                ByteVector.fromMemorySegment(BYTES, w, p0 + 16, LE).convertShape(B2I, INTS, 0);
        s0 = ((FloatVector) q00.lanewise(LSHL, 28).convert(I2F, 0)).mul(low0).fma(x0, s0);
        s0 = ((FloatVector) q01.lanewise(LSHL, 28).convert(I2F, 0)).mul(low0).fma(x1, s0);
        s0 = ((FloatVector) q00.and(-16).convert(I2F, 0)).mul(high0).fma(x2, s0);
        s0 = ((FloatVector) q01.and(-16).convert(I2F, 0)).mul(high0).fma(x3, s0);
        FloatVector scale1 = LongVector.broadcast(LONGS, d1).reinterpretAsFloats().rearrange(SCALE);
        FloatVector low1 = scale1.mul(LOW);
        FloatVector high1 = scale1.mul(HIGH);
        IntVector q10 =
            (IntVector) ByteVector.fromMemorySegment(BYTES, w, p1, LE).convertShape(B2I, INTS, 0);
        IntVector q11 =
            (IntVector)
                ByteVector.fromMemorySegment(BYTES, w, p1 + 16, LE).convertShape(B2I, INTS, 0);
        s1 = ((FloatVector) q10.lanewise(LSHL, 28).convert(I2F, 0)).mul(low1).fma(x0, s1);
        s1 = ((FloatVector) q11.lanewise(LSHL, 28).convert(I2F, 0)).mul(low1).fma(x1, s1);
        s1 = ((FloatVector) q10.and(-16).convert(I2F, 0)).mul(high1).fma(x2, s1);
        s1 = ((FloatVector) q11.and(-16).convert(I2F, 0)).mul(high1).fma(x3, s1);
      }
      s0.intoArray(sums, sumsAt + part);
      s1.intoArray(sums, sumsAt + part + 2 * CHAINS);
    }
  }

  @Override
  void two(
      MemorySegment weight,
      long at,
      long pair,
      float[] x,
      int xAt,
      int blocks,
      float[] sums,
      int sumsAt) {
    MemorySegment w = OffHeap.cast(weight);
    int apart = 32 * blocks;
    for (int part = 0; part < PairedRows.EIGHT; part += SPECIES.length()) {
      long at0 = at + PairedRows.SCALES + part;
      long at1 = at0 + pair;
      int scales = PairedRows.SCALES + part;
      int shift = 4 * part;
      FloatVector s0 = FloatVector.zero(SPECIES);
      FloatVector s1 = FloatVector.zero(SPECIES);
      FloatVector t0 = FloatVector.zero(SPECIES);
      FloatVector t1 = FloatVector.zero(SPECIES);
      for (int b = 0; b < blocks; b++) {
        int block = BLOCK * b;
        int i = xAt + 32 * b;
        int j = i + apart;
        long p0 = at0 + block;
        long p1 = at1 + block;
        long d0 = w.get(I64, p0 - scales) >>> shift;
        long d1 = w.get(I64, p1 - scales) >>> shift;
        FloatVector x0 = FloatVector.fromArray(SPECIES, x, i).rearrange(TWICE);
        FloatVector y0 = FloatVector.fromArray(SPECIES, x, j).rearrange(TWICE);
        FloatVector x1 = FloatVector.fromArray(SPECIES, x, i + 8).rearrange(TWICE);
        FloatVector y1 = FloatVector.fromArray(SPECIES, x, j + 8).rearrange(TWICE);
        FloatVector x2 = FloatVector.fromArray(SPECIES, x, i + 16).rearrange(TWICE);
        FloatVector y2 = FloatVector.fromArray(SPECIES, x, j + 16).rearrange(TWICE);
        FloatVector x3 = FloatVector.fromArray(SPECIES, x, i + 24).rearrange(TWICE);
        FloatVector y3 = FloatVector.fromArray(SPECIES, x, j + 24).rearrange(TWICE);
        FloatVector scale0 = LongVector.broadcast(LONGS, d0).reinterpretAsFloats().rearrange(SCALE);
        FloatVector low0 = scale0.mul(LOW);
        FloatVector high0 = scale0.mul(HIGH);
        IntVector q00 =
            (IntVector) ByteVector.fromMemorySegment(BYTES, w, p0, LE).convertShape(B2I, INTS, 0);
        IntVector q01 =
            (IntVector)
                ByteVector.fromMemorySegment(BYTES, w, p0 + 16, LE).convertShape(B2I, INTS, 0);
        FloatVector w00 = ((FloatVector) q00.lanewise(LSHL, 28).convert(I2F, 0)).mul(low0);
        s0 = w00.fma(x0, s0);
        t0 = w00.fma(y0, t0);
        FloatVector w01 = ((FloatVector) q01.lanewise(LSHL, 28).convert(I2F, 0)).mul(low0);
        s0 = w01.fma(x1, s0);
        t0 = w01.fma(y1, t0);
        FloatVector w02 = ((FloatVector) q00.and(-16).convert(I2F, 0)).mul(high0);
        s0 = w02.fma(x2, s0);
        t0 = w02.fma(y2, t0);
        FloatVector w03 = ((FloatVector) q01.and(-16).convert(I2F, 0)).mul(high0);
        s0 = w03.fma(x3, s0);
        t0 = w03.fma(y3, t0);
        FloatVector scale1 = LongVector.broadcast(LONGS, d1).reinterpretAsFloats().rearrange(SCALE);
        FloatVector low1 = scale1.mul(LOW);
        FloatVector high1 = scale1.mul(HIGH);
        IntVector q10 =
            (IntVector) ByteVector.fromMemorySegment(BYTES, w, p1, LE).convertShape(B2I, INTS, 0);
        IntVector q11 =
            (IntVector)
                ByteVector.fromMemorySegment(BYTES, w, p1 + 16, LE).convertShape(B2I, INTS, 0);
        FloatVector w10 = ((FloatVector) q10.lanewise(LSHL, 28).convert(I2F, 0)).mul(low1);
        s1 = w10.fma(x0, s1);
        t1 = w10.fma(y0, t1);
        FloatVector w11 = ((FloatVector) q11.lanewise(LSHL, 28).convert(I2F, 0)).mul(low1);
        s1 = w11.fma(x1, s1);
        t1 = w11.fma(y1, t1);
        FloatVector w12 = ((FloatVector) q10.and(-16).convert(I2F, 0)).mul(high1);
        s1 = w12.fma(x2, s1);
        t1 = w12.fma(y2, t1);
        FloatVector w13 = ((FloatVector) q11.and(-16).convert(I2F, 0)).mul(high1);
        s1 = w13.fma(x3, s1);
        t1 = w13.fma(y3, t1);
      }
      s0.intoArray(sums, sumsAt + part);
      s1.intoArray(sums, sumsAt + part + 2 * CHAINS);
      t0.intoArray(sums, sumsAt + part + ROWS * CHAINS);
      t1.intoArray(sums, sumsAt + part + (ROWS + 2) * CHAINS);
    }
  }
}
