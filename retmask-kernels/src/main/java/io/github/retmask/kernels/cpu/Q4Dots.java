package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.LE;
import static jdk.incubator.vector.VectorOperators.ADD;
import static jdk.incubator.vector.VectorOperators.AND;
import static jdk.incubator.vector.VectorOperators.B2I;
import static jdk.incubator.vector.VectorOperators.FMA;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.MUL;

import io.github.retmask.tensor.DType;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.LongVector;

/// [GroupDots] of Q4_0 weights. An element times its scale is exact in a float.
///
/// In a lane of 32 bits the low nibble is shifted to the top, where it stands for 2^28 times its value,
/// and the high one stays, for 16 times; the scales make up for it. What else shapes the loops is said
/// in [Q8Dots]; so that a loop has no more than eight conversions, each takes half of the chains.
final class Q4Dots extends GroupDots {
  static final Q4Dots INSTANCE = new Q4Dots();

  private static final int BLOCK = RowGroups.blockBytes(DType.Q4_0);
  private static final float LOW = 0x1p-28f;
  private static final float HIGH = 0x1p-4f;

  private Q4Dots() {}

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
    MemorySegment w = OffHeap.cast(weight);
    for (int part = 0; part < RowGroups.TWOS; part += SPECIES.length()) {
      for (int m = 0; m < 2; m++) { // twos m and m + 2 of every four
        long scales0 = at + 2 * part;
        long scales1 = scales0 + apart;
        long at0 = at + RowGroups.SCALES + part + m * RowGroups.TWOS;
        long at1 = at0 + apart;
        FloatVector s00 = FloatVector.zero(SPECIES);
        FloatVector s01 = FloatVector.zero(SPECIES);
        FloatVector s10 = FloatVector.zero(SPECIES);
        FloatVector s11 = FloatVector.zero(SPECIES);
        for (int k = 0; k < inner / 16; k++) {
          int block = BLOCK * (k >> 1);
          int o = block + 4 * RowGroups.TWOS * (k & 1);
          long p0 = at0 + o;
          long p1 = at1 + o;
          int i = xAt + m + 8 * k;
          FloatVector d0 =
              FloatVector.fromMemorySegment(SPECIES, w, scales0 + block, LE).rearrange(TWICE);
          FloatVector low0 = d0.lanewise(MUL, LOW);
          FloatVector high0 = d0.lanewise(MUL, HIGH);
          IntVector q00 =
              (IntVector) ByteVector.fromMemorySegment(BYTES, w, p0, LE).convertShape(B2I, INTS, 0);
          IntVector q01 =
              (IntVector)
                  ByteVector.fromMemorySegment(BYTES, w, p0 + 32, LE).convertShape(B2I, INTS, 0);
          FloatVector d1 =
              FloatVector.fromMemorySegment(SPECIES, w, scales1 + block, LE).rearrange(TWICE);
          FloatVector low1 = d1.lanewise(MUL, LOW);
          FloatVector high1 = d1.lanewise(MUL, HIGH);
          IntVector q10 =
              (IntVector) ByteVector.fromMemorySegment(BYTES, w, p1, LE).convertShape(B2I, INTS, 0);
          IntVector q11 =
              (IntVector)
                  ByteVector.fromMemorySegment(BYTES, w, p1 + 32, LE).convertShape(B2I, INTS, 0);
          FloatVector x00 = LongVector.broadcast(LONGS, x[i]).reinterpretAsFloats();
          s00 =
              ((FloatVector) q00.lanewise(LSHL, 28).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, low0)
                  .lanewise(FMA, x00, s00);
          s10 =
              ((FloatVector) q10.lanewise(LSHL, 28).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, low1)
                  .lanewise(FMA, x00, s10);
          FloatVector x01 = LongVector.broadcast(LONGS, x[i + 2]).reinterpretAsFloats();
          s01 =
              ((FloatVector) q01.lanewise(LSHL, 28).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, low0)
                  .lanewise(FMA, x01, s01);
          s11 =
              ((FloatVector) q11.lanewise(LSHL, 28).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, low1)
                  .lanewise(FMA, x01, s11);
          FloatVector x10 = LongVector.broadcast(LONGS, x[i + 4]).reinterpretAsFloats();
          s00 =
              ((FloatVector) q00.lanewise(AND, -16).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, high0)
                  .lanewise(FMA, x10, s00);
          s10 =
              ((FloatVector) q10.lanewise(AND, -16).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, high1)
                  .lanewise(FMA, x10, s10);
          FloatVector x11 = LongVector.broadcast(LONGS, x[i + 6]).reinterpretAsFloats();
          s01 =
              ((FloatVector) q01.lanewise(AND, -16).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, high0)
                  .lanewise(FMA, x11, s01);
          s11 =
              ((FloatVector) q11.lanewise(AND, -16).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, high1)
                  .lanewise(FMA, x11, s11);
        }
        leave(s00.lanewise(ADD, s01), m, sums, sumsAt + part + 0);
        leave(s10.lanewise(ADD, s11), m, sums, sumsAt + part + 16);
      }
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
    MemorySegment w = OffHeap.cast(weight);
    for (int part = 0; part < RowGroups.TWOS; part += SPECIES.length()) {
      for (int m = 0; m < 2; m++) { // twos m and m + 2 of every four
        long scales0 = at + 2 * part;
        long scales1 = scales0 + apart;
        long at0 = at + RowGroups.SCALES + part + m * RowGroups.TWOS;
        long at1 = at0 + apart;
        FloatVector s00 = FloatVector.zero(SPECIES);
        FloatVector s01 = FloatVector.zero(SPECIES);
        FloatVector s10 = FloatVector.zero(SPECIES);
        FloatVector s11 = FloatVector.zero(SPECIES);
        FloatVector t00 = FloatVector.zero(SPECIES);
        FloatVector t01 = FloatVector.zero(SPECIES);
        FloatVector t10 = FloatVector.zero(SPECIES);
        FloatVector t11 = FloatVector.zero(SPECIES);
        for (int k = 0; k < inner / 16; k++) {
          int block = BLOCK * (k >> 1);
          int o = block + 4 * RowGroups.TWOS * (k & 1);
          long p0 = at0 + o;
          long p1 = at1 + o;
          int i = xAt + m + 8 * k;
          int j = i + inner / 2;
          FloatVector d0 =
              FloatVector.fromMemorySegment(SPECIES, w, scales0 + block, LE).rearrange(TWICE);
          FloatVector low0 = d0.lanewise(MUL, LOW);
          FloatVector high0 = d0.lanewise(MUL, HIGH);
          IntVector q00 =
              (IntVector) ByteVector.fromMemorySegment(BYTES, w, p0, LE).convertShape(B2I, INTS, 0);
          IntVector q01 =
              (IntVector)
                  ByteVector.fromMemorySegment(BYTES, w, p0 + 32, LE).convertShape(B2I, INTS, 0);
          FloatVector d1 =
              FloatVector.fromMemorySegment(SPECIES, w, scales1 + block, LE).rearrange(TWICE);
          FloatVector low1 = d1.lanewise(MUL, LOW);
          FloatVector high1 = d1.lanewise(MUL, HIGH);
          IntVector q10 =
              (IntVector) ByteVector.fromMemorySegment(BYTES, w, p1, LE).convertShape(B2I, INTS, 0);
          IntVector q11 =
              (IntVector)
                  ByteVector.fromMemorySegment(BYTES, w, p1 + 32, LE).convertShape(B2I, INTS, 0);
          FloatVector x00 = LongVector.broadcast(LONGS, x[i]).reinterpretAsFloats();
          FloatVector y00 = LongVector.broadcast(LONGS, x[j]).reinterpretAsFloats();
          FloatVector w000 =
              ((FloatVector) q00.lanewise(LSHL, 28).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, low0);
          s00 = w000.lanewise(FMA, x00, s00);
          t00 = w000.lanewise(FMA, y00, t00);
          FloatVector w010 =
              ((FloatVector) q10.lanewise(LSHL, 28).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, low1);
          s10 = w010.lanewise(FMA, x00, s10);
          t10 = w010.lanewise(FMA, y00, t10);
          FloatVector x01 = LongVector.broadcast(LONGS, x[i + 2]).reinterpretAsFloats();
          FloatVector y01 = LongVector.broadcast(LONGS, x[j + 2]).reinterpretAsFloats();
          FloatVector w001 =
              ((FloatVector) q01.lanewise(LSHL, 28).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, low0);
          s01 = w001.lanewise(FMA, x01, s01);
          t01 = w001.lanewise(FMA, y01, t01);
          FloatVector w011 =
              ((FloatVector) q11.lanewise(LSHL, 28).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, low1);
          s11 = w011.lanewise(FMA, x01, s11);
          t11 = w011.lanewise(FMA, y01, t11);
          FloatVector x10 = LongVector.broadcast(LONGS, x[i + 4]).reinterpretAsFloats();
          FloatVector y10 = LongVector.broadcast(LONGS, x[j + 4]).reinterpretAsFloats();
          FloatVector w100 =
              ((FloatVector) q00.lanewise(AND, -16).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, high0);
          s00 = w100.lanewise(FMA, x10, s00);
          t00 = w100.lanewise(FMA, y10, t00);
          FloatVector w110 =
              ((FloatVector) q10.lanewise(AND, -16).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, high1);
          s10 = w110.lanewise(FMA, x10, s10);
          t10 = w110.lanewise(FMA, y10, t10);
          FloatVector x11 = LongVector.broadcast(LONGS, x[i + 6]).reinterpretAsFloats();
          FloatVector y11 = LongVector.broadcast(LONGS, x[j + 6]).reinterpretAsFloats();
          FloatVector w101 =
              ((FloatVector) q01.lanewise(AND, -16).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, high0);
          s01 = w101.lanewise(FMA, x11, s01);
          t01 = w101.lanewise(FMA, y11, t01);
          FloatVector w111 =
              ((FloatVector) q11.lanewise(AND, -16).convertShape(I2F, SPECIES, 0))
                  .lanewise(MUL, high1);
          s11 = w111.lanewise(FMA, x11, s11);
          t11 = w111.lanewise(FMA, y11, t11);
        }
        leave(s00.lanewise(ADD, s01), m, sums, sumsAt + part + 0);
        leave(s10.lanewise(ADD, s11), m, sums, sumsAt + part + 16);
        leave(t00.lanewise(ADD, t01), m, sums, sumsAt + part + 32);
        leave(t10.lanewise(ADD, t11), m, sums, sumsAt + part + 48);
      }
    }
  }

  /// The second half of the chains is added to the first.
  private static void leave(FloatVector sum, int half, float[] sums, int at) {
    (half == 0 ? sum : FloatVector.fromArray(SPECIES, sums, at).lanewise(ADD, sum))
        .intoArray(sums, at);
  }
}
