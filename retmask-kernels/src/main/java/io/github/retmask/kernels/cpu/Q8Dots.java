package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.LE;
import static jdk.incubator.vector.VectorOperators.ADD;
import static jdk.incubator.vector.VectorOperators.B2F;
import static jdk.incubator.vector.VectorOperators.FMA;
import static jdk.incubator.vector.VectorOperators.MUL;

import io.github.retmask.tensor.DType;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.LongVector;

/// [GroupDots] of Q8_0 weights. An element times its scale is exact in a float.
///
/// The loops call no methods of this class: past a number of nodes C2 inlines only methods of the
/// vector library. With more than these eight conversions in a loop it leaves vectors boxed in some
/// runs.
final class Q8Dots extends GroupDots {
  static final Q8Dots INSTANCE = new Q8Dots();

  private static final int BLOCK = RowGroups.blockBytes(DType.Q8_0);

  private Q8Dots() {}

  @Override
  void one(
      MemorySegment weight,
      long at,
      long apart,
      long[] x,
      int xAt,
      int inner,
      float[] sums,
      int sumsAt) {
    MemorySegment w = OffHeap.KIND.cast(weight);
    for (int part = 0; part < RowGroups.TWOS; part += SPECIES.length()) {
      long scales0 = at + 2 * part;
      long scales1 = scales0 + apart;
      long at0 = at + RowGroups.SCALES + part;
      long at1 = at0 + apart;
      FloatVector s00 = FloatVector.zero(SPECIES);
      FloatVector s01 = FloatVector.zero(SPECIES);
      FloatVector s02 = FloatVector.zero(SPECIES);
      FloatVector s03 = FloatVector.zero(SPECIES);
      FloatVector s10 = FloatVector.zero(SPECIES);
      FloatVector s11 = FloatVector.zero(SPECIES);
      FloatVector s12 = FloatVector.zero(SPECIES);
      FloatVector s13 = FloatVector.zero(SPECIES);
      for (int k = 0; k < inner / 8; k++) {
        int block = BLOCK * (k >> 2);
        int o = block + 4 * RowGroups.TWOS * (k & 3);
        long p0 = at0 + o;
        long p1 = at1 + o;
        int i = xAt + 4 * k;
        FloatVector d0 =
            FloatVector.fromMemorySegment(SPECIES, w, scales0 + block, LE).rearrange(TWICE);
        FloatVector d1 =
            FloatVector.fromMemorySegment(SPECIES, w, scales1 + block, LE).rearrange(TWICE);
        FloatVector x0 = LongVector.broadcast(LONGS, x[i]).reinterpretAsFloats();
        s00 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0, LE).convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d0)
                .lanewise(FMA, x0, s00);
        s10 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1, LE).convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d1)
                .lanewise(FMA, x0, s10);
        FloatVector x1 = LongVector.broadcast(LONGS, x[i + 1]).reinterpretAsFloats();
        s01 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0 + 16, LE)
                        .convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d0)
                .lanewise(FMA, x1, s01);
        s11 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1 + 16, LE)
                        .convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d1)
                .lanewise(FMA, x1, s11);
        FloatVector x2 = LongVector.broadcast(LONGS, x[i + 2]).reinterpretAsFloats();
        s02 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0 + 32, LE)
                        .convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d0)
                .lanewise(FMA, x2, s02);
        s12 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1 + 32, LE)
                        .convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d1)
                .lanewise(FMA, x2, s12);
        FloatVector x3 = LongVector.broadcast(LONGS, x[i + 3]).reinterpretAsFloats();
        s03 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0 + 48, LE)
                        .convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d0)
                .lanewise(FMA, x3, s03);
        s13 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1 + 48, LE)
                        .convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d1)
                .lanewise(FMA, x3, s13);
      }
      s00.lanewise(ADD, s02)
          .lanewise(ADD, s01.lanewise(ADD, s03))
          .intoArray(sums, sumsAt + part + 0);
      s10.lanewise(ADD, s12)
          .lanewise(ADD, s11.lanewise(ADD, s13))
          .intoArray(sums, sumsAt + part + 16);
    }
  }

  @Override
  void two(
      MemorySegment weight,
      long at,
      long apart,
      long[] x,
      int xAt,
      int inner,
      float[] sums,
      int sumsAt) {
    MemorySegment w = OffHeap.KIND.cast(weight);
    for (int part = 0; part < RowGroups.TWOS; part += SPECIES.length()) {
      long scales0 = at + 2 * part;
      long scales1 = scales0 + apart;
      long at0 = at + RowGroups.SCALES + part;
      long at1 = at0 + apart;
      FloatVector s00 = FloatVector.zero(SPECIES);
      FloatVector s01 = FloatVector.zero(SPECIES);
      FloatVector s02 = FloatVector.zero(SPECIES);
      FloatVector s03 = FloatVector.zero(SPECIES);
      FloatVector s10 = FloatVector.zero(SPECIES);
      FloatVector s11 = FloatVector.zero(SPECIES);
      FloatVector s12 = FloatVector.zero(SPECIES);
      FloatVector s13 = FloatVector.zero(SPECIES);
      FloatVector t00 = FloatVector.zero(SPECIES);
      FloatVector t01 = FloatVector.zero(SPECIES);
      FloatVector t02 = FloatVector.zero(SPECIES);
      FloatVector t03 = FloatVector.zero(SPECIES);
      FloatVector t10 = FloatVector.zero(SPECIES);
      FloatVector t11 = FloatVector.zero(SPECIES);
      FloatVector t12 = FloatVector.zero(SPECIES);
      FloatVector t13 = FloatVector.zero(SPECIES);
      for (int k = 0; k < inner / 8; k++) {
        int block = BLOCK * (k >> 2);
        int o = block + 4 * RowGroups.TWOS * (k & 3);
        long p0 = at0 + o;
        long p1 = at1 + o;
        int i = xAt + 4 * k;
        int j = i + inner / 2;
        FloatVector d0 =
            FloatVector.fromMemorySegment(SPECIES, w, scales0 + block, LE).rearrange(TWICE);
        FloatVector d1 =
            FloatVector.fromMemorySegment(SPECIES, w, scales1 + block, LE).rearrange(TWICE);
        FloatVector x0 = LongVector.broadcast(LONGS, x[i]).reinterpretAsFloats();
        FloatVector y0 = LongVector.broadcast(LONGS, x[j]).reinterpretAsFloats();
        FloatVector w00 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0, LE).convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d0);
        s00 = w00.lanewise(FMA, x0, s00);
        t00 = w00.lanewise(FMA, y0, t00);
        FloatVector w10 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1, LE).convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d1);
        s10 = w10.lanewise(FMA, x0, s10);
        t10 = w10.lanewise(FMA, y0, t10);
        FloatVector x1 = LongVector.broadcast(LONGS, x[i + 1]).reinterpretAsFloats();
        FloatVector y1 = LongVector.broadcast(LONGS, x[j + 1]).reinterpretAsFloats();
        FloatVector w01 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0 + 16, LE)
                        .convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d0);
        s01 = w01.lanewise(FMA, x1, s01);
        t01 = w01.lanewise(FMA, y1, t01);
        FloatVector w11 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1 + 16, LE)
                        .convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d1);
        s11 = w11.lanewise(FMA, x1, s11);
        t11 = w11.lanewise(FMA, y1, t11);
        FloatVector x2 = LongVector.broadcast(LONGS, x[i + 2]).reinterpretAsFloats();
        FloatVector y2 = LongVector.broadcast(LONGS, x[j + 2]).reinterpretAsFloats();
        FloatVector w02 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0 + 32, LE)
                        .convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d0);
        s02 = w02.lanewise(FMA, x2, s02);
        t02 = w02.lanewise(FMA, y2, t02);
        FloatVector w12 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1 + 32, LE)
                        .convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d1);
        s12 = w12.lanewise(FMA, x2, s12);
        t12 = w12.lanewise(FMA, y2, t12);
        FloatVector x3 = LongVector.broadcast(LONGS, x[i + 3]).reinterpretAsFloats();
        FloatVector y3 = LongVector.broadcast(LONGS, x[j + 3]).reinterpretAsFloats();
        FloatVector w03 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p0 + 48, LE)
                        .convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d0);
        s03 = w03.lanewise(FMA, x3, s03);
        t03 = w03.lanewise(FMA, y3, t03);
        FloatVector w13 =
            ((FloatVector)
                    ByteVector.fromMemorySegment(BYTES, w, p1 + 48, LE)
                        .convertShape(B2F, SPECIES, 0))
                .lanewise(MUL, d1);
        s13 = w13.lanewise(FMA, x3, s13);
        t13 = w13.lanewise(FMA, y3, t13);
      }
      s00.lanewise(ADD, s02)
          .lanewise(ADD, s01.lanewise(ADD, s03))
          .intoArray(sums, sumsAt + part + 0);
      s10.lanewise(ADD, s12)
          .lanewise(ADD, s11.lanewise(ADD, s13))
          .intoArray(sums, sumsAt + part + 16);
      t00.lanewise(ADD, t02)
          .lanewise(ADD, t01.lanewise(ADD, t03))
          .intoArray(sums, sumsAt + part + 32);
      t10.lanewise(ADD, t12)
          .lanewise(ADD, t11.lanewise(ADD, t13))
          .intoArray(sums, sumsAt + part + 48);
    }
  }
}
