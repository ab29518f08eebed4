package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.I64;
import static io.github.retmask.kernels.cpu.Lanes.LE;
import static jdk.incubator.vector.VectorOperators.B2F;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.LongVector;

/// [PairDots] of Q8_0 weights. An element times its scale is exact in a float.
///
/// The loops call no methods of this class: past a number of nodes C2 inlines only methods of the
/// vector library.
final class Q8Dots extends PairDots {
  static final Q8Dots INSTANCE = new Q8Dots();

  private static final int BLOCK = PairedRows.SCALES + 4 * PairedRows.EIGHT;

  private Q8Dots() {}

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
        FloatVector scale0 = LongVector.broadcast(LONGS, d0).reinterpretAsFloats().rearrange(SCALE);
        FloatVector scale1 = LongVector.broadcast(LONGS, d1).reinterpretAsFloats().rearrange(SCALE);
        FloatVector x0 = FloatVector.fromArray(SPECIES, x, i).rearrange(TWICE);
        s0 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0, LE).convertShape(B2F, SPECIES, 0))
                .mul(scale0)
                .fma(x0, s0);
        s1 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1, LE).convertShape(B2F, SPECIES, 0))
                .mul(scale1)
                .fma(x0, s1);
        FloatVector x1 = FloatVector.fromArray(SPECIES, x, i + 8).rearrange(TWICE);
        s0 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0 + 16, LE)
                        .convertShape(B2F, SPECIES, 0))
                .mul(scale0)
                .fma(x1, s0);
        s1 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1 + 16, LE)
                        .convertShape(B2F, SPECIES, 0))
                .mul(scale1)
                .fma(x1, s1);
        FloatVector x2 = FloatVector.fromArray(SPECIES, x, i + 16).rearrange(TWICE);
        s0 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0 + 32, LE)
                        .convertShape(B2F, SPECIES, 0))
                .mul(scale0)
                .fma(x2, s0);
        s1 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1 + 32, LE)
                        .convertShape(B2F, SPECIES, 0))
                .mul(scale1)
                .fma(x2, s1);
        FloatVector x3 = FloatVector.fromArray(SPECIES, x, i + 24).rearrange(TWICE);
        s0 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0 + 48, LE)
                        .convertShape(B2F, SPECIES, 0))
                .mul(scale0)
                .fma(x3, s0);
        s1 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1 + 48, LE)
                        .convertShape(B2F, SPECIES, 0))
                .mul(scale1)
                .fma(x3, s1);
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
        FloatVector scale0 = LongVector.broadcast(LONGS, d0).reinterpretAsFloats().rearrange(SCALE);
        FloatVector scale1 = LongVector.broadcast(LONGS, d1).reinterpretAsFloats().rearrange(SCALE);
        FloatVector x0 = FloatVector.fromArray(SPECIES, x, i).rearrange(TWICE);
        FloatVector y0 = FloatVector.fromArray(SPECIES, x, j).rearrange(TWICE);
        FloatVector w00 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0, LE).convertShape(B2F, SPECIES, 0))
                .mul(scale0);
        s0 = w00.fma(x0, s0);
        t0 = w00.fma(y0, t0);
        FloatVector w10 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1, LE).convertShape(B2F, SPECIES, 0))
                .mul(scale1);
        s1 = w10.fma(x0, s1);
        t1 = w10.fma(y0, t1);
        FloatVector x1 = FloatVector.fromArray(SPECIES, x, i + 8).rearrange(TWICE);
        FloatVector y1 = FloatVector.fromArray(SPECIES, x, j + 8).rearrange(TWICE);
        FloatVector w01 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0 + 16, LE)
                        .convertShape(B2F, SPECIES, 0))
                .mul(scale0);
        s0 = w01.fma(x1, s0);
        t0 = w01.fma(y1, t0);
        FloatVector w11 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1 + 16, LE)
                        .convertShape(B2F, SPECIES, 0))
                .mul(scale1);
        s1 = w11.fma(x1, s1);
        t1 = w11.fma(y1, t1);
        FloatVector x2 = FloatVector.fromArray(SPECIES, x, i + 16).rearrange(TWICE);
        FloatVector y2 = FloatVector.fromArray(SPECIES, x, j + 16).rearrange(TWICE);
        FloatVector w02 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0 + 32, LE)
                        .convertShape(B2F, SPECIES, 0))
                .mul(scale0);
        s0 = w02.fma(x2, s0);
        t0 = w02.fma(y2, t0);
        FloatVector w12 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1 + 32, LE)
                        .convertShape(B2F, SPECIES, 0))
                .mul(scale1);
        s1 = w12.fma(x2, s1);
        t1 = w12.fma(y2, t1);
        FloatVector x3 = FloatVector.fromArray(SPECIES, x, i + 24).rearrange(TWICE);
        FloatVector y3 = FloatVector.fromArray(SPECIES, x, j + 24).rearrange(TWICE);
        FloatVector w03 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0 + 48, LE)
                        .convertShape(B2F, SPECIES, 0))
                .mul(scale0);
        s0 = w03.fma(x3, s0);
        t0 = w03.fma(y3, t0);
        FloatVector w13 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1 + 48, LE)
                        .convertShape(B2F, SPECIES, 0))
                .mul(scale1);
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
