package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.LE;
import static jdk.incubator.vector.VectorOperators.ADD;
import static jdk.incubator.vector.VectorOperators.AND;
import static jdk.incubator.vector.VectorOperators.FMA;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.MUL;
import static jdk.incubator.vector.VectorOperators.OR;

import io.github.retmask.tensor.DType;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.LongVector;

/// [GroupDots] of Q4_0 weights, without conversions. An element times its scale is exact in a float;
/// scales are finite.
///
/// A nibble n = q + 8 in the bits 8 to 11 of the float 2^15 makes it 2^15 + n; a multiply-add with the
/// scale d and with -(2^15 + 8) d leaves d q. All of it is exact: 2^15 + 8 has 13 bits, a scale 11.
/// (Nibbles in higher bits of smaller powers would take two shifts a word instead of seven, but more
/// registers than AVX2 has.) With two rows of x one group at a time, as the sums of two do not fit.
final class Q4Dots extends GroupDots {
  static final Q4Dots INSTANCE = new Q4Dots();

  private static final int BLOCK = RowGroups.blockBytes(DType.Q4_0);

  private static final int NIBBLE = 0xf << 8;
  private static final int PATTERN = Float.floatToRawIntBits(0x1p15f);
  private static final float ZERO = -(0x1p15f + 8);

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
    MemorySegment w = OffHeap.KIND.cast(weight);
    IntVector nibble = IntVector.broadcast(INTS, NIBBLE);
    IntVector pattern = IntVector.broadcast(INTS, PATTERN);
    for (int part = 0; part < RowGroups.WORDS; part += SPECIES.length()) {
      long scales0 = at + 2 * part;
      long scales1 = scales0 + apart;
      long at0 = at + RowGroups.SCALES + 4 * part;
      long at1 = at0 + apart;
      FloatVector s00 = FloatVector.zero(SPECIES);
      FloatVector s01 = FloatVector.zero(SPECIES);
      FloatVector s02 = FloatVector.zero(SPECIES);
      FloatVector s03 = FloatVector.zero(SPECIES);
      FloatVector s10 = FloatVector.zero(SPECIES);
      FloatVector s11 = FloatVector.zero(SPECIES);
      FloatVector s12 = FloatVector.zero(SPECIES);
      FloatVector s13 = FloatVector.zero(SPECIES);
      for (int k = 0; k < inner / 16; k++) {
        int block = BLOCK * (k >> 1);
        int o = block + RowGroups.LINE * (k & 1);
        int i = xAt + 8 * k;
        FloatVector d0 =
            FloatVector.fromMemorySegment(SPECIES, w, scales0 + block, LE).rearrange(TWICE);
        FloatVector zero0 = d0.lanewise(MUL, ZERO);
        IntVector words0 = IntVector.fromMemorySegment(INTS, w, at0 + o, LE);
        FloatVector d1 =
            FloatVector.fromMemorySegment(SPECIES, w, scales1 + block, LE).rearrange(TWICE);
        FloatVector zero1 = d1.lanewise(MUL, ZERO);
        IntVector words1 = IntVector.fromMemorySegment(INTS, w, at1 + o, LE);
        FloatVector x0 = LongVector.broadcast(LONGS, x[i]).reinterpretAsFloats();
        FloatVector w00 =
            words0
                .lanewise(LSHL, 8)
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d0, zero0);
        s00 = w00.lanewise(FMA, x0, s00);
        FloatVector w10 =
            words1
                .lanewise(LSHL, 8)
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d1, zero1);
        s10 = w10.lanewise(FMA, x0, s10);
        FloatVector x1 = LongVector.broadcast(LONGS, x[i + 1]).reinterpretAsFloats();
        FloatVector w01 =
            words0
                .lanewise(LSHL, 4)
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d0, zero0);
        s01 = w01.lanewise(FMA, x1, s01);
        FloatVector w11 =
            words1
                .lanewise(LSHL, 4)
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d1, zero1);
        s11 = w11.lanewise(FMA, x1, s11);
        FloatVector x2 = LongVector.broadcast(LONGS, x[i + 2]).reinterpretAsFloats();
        FloatVector w02 =
            words0
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d0, zero0);
        s02 = w02.lanewise(FMA, x2, s02);
        FloatVector w12 =
            words1
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d1, zero1);
        s12 = w12.lanewise(FMA, x2, s12);
        FloatVector x3 = LongVector.broadcast(LONGS, x[i + 3]).reinterpretAsFloats();
        FloatVector w03 =
            words0
                .lanewise(LSHR, 4)
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d0, zero0);
        s03 = w03.lanewise(FMA, x3, s03);
        FloatVector w13 =
            words1
                .lanewise(LSHR, 4)
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d1, zero1);
        s13 = w13.lanewise(FMA, x3, s13);
        FloatVector x4 = LongVector.broadcast(LONGS, x[i + 4]).reinterpretAsFloats();
        FloatVector w04 =
            words0
                .lanewise(LSHR, 8)
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d0, zero0);
        s00 = w04.lanewise(FMA, x4, s00);
        FloatVector w14 =
            words1
                .lanewise(LSHR, 8)
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d1, zero1);
        s10 = w14.lanewise(FMA, x4, s10);
        FloatVector x5 = LongVector.broadcast(LONGS, x[i + 5]).reinterpretAsFloats();
        FloatVector w05 =
            words0
                .lanewise(LSHR, 12)
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d0, zero0);
        s01 = w05.lanewise(FMA, x5, s01);
        FloatVector w15 =
            words1
                .lanewise(LSHR, 12)
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d1, zero1);
        s11 = w15.lanewise(FMA, x5, s11);
        FloatVector x6 = LongVector.broadcast(LONGS, x[i + 6]).reinterpretAsFloats();
        FloatVector w06 =
            words0
                .lanewise(LSHR, 16)
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d0, zero0);
        s02 = w06.lanewise(FMA, x6, s02);
        FloatVector w16 =
            words1
                .lanewise(LSHR, 16)
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d1, zero1);
        s12 = w16.lanewise(FMA, x6, s12);
        FloatVector x7 = LongVector.broadcast(LONGS, x[i + 7]).reinterpretAsFloats();
        FloatVector w07 =
            words0
                .lanewise(LSHR, 20)
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d0, zero0);
        s03 = w07.lanewise(FMA, x7, s03);
        FloatVector w17 =
            words1
                .lanewise(LSHR, 20)
                .lanewise(AND, nibble)
                .lanewise(OR, pattern)
                .reinterpretAsFloats()
                .lanewise(FMA, d1, zero1);
        s13 = w17.lanewise(FMA, x7, s13);
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
    IntVector nibble = IntVector.broadcast(INTS, NIBBLE);
    IntVector pattern = IntVector.broadcast(INTS, PATTERN);
    for (int part = 0; part < RowGroups.WORDS; part += SPECIES.length()) {
      for (int g = 0; g < GROUPS; g++) {
        long scales = at + g * apart + 2 * part;
        long lines = at + g * apart + RowGroups.SCALES + 4 * part;
        FloatVector s0 = FloatVector.zero(SPECIES);
        FloatVector s1 = FloatVector.zero(SPECIES);
        FloatVector s2 = FloatVector.zero(SPECIES);
        FloatVector s3 = FloatVector.zero(SPECIES);
        FloatVector t0 = FloatVector.zero(SPECIES);
        FloatVector t1 = FloatVector.zero(SPECIES);
        FloatVector t2 = FloatVector.zero(SPECIES);
        FloatVector t3 = FloatVector.zero(SPECIES);
        for (int k = 0; k < inner / 16; k++) {
          int block = BLOCK * (k >> 1);
          int o = block + RowGroups.LINE * (k & 1);
          int i = xAt + 8 * k;
          int j = i + inner / 2;
          FloatVector d =
              FloatVector.fromMemorySegment(SPECIES, w, scales + block, LE).rearrange(TWICE);
          FloatVector zero = d.lanewise(MUL, ZERO);
          IntVector words = IntVector.fromMemorySegment(INTS, w, lines + o, LE);
          FloatVector w0 =
              words
                  .lanewise(LSHL, 8)
                  .lanewise(AND, nibble)
                  .lanewise(OR, pattern)
                  .reinterpretAsFloats()
                  .lanewise(FMA, d, zero);
          FloatVector x0 = LongVector.broadcast(LONGS, x[i]).reinterpretAsFloats();
          s0 = w0.lanewise(FMA, x0, s0);
          FloatVector y0 = LongVector.broadcast(LONGS, x[j]).reinterpretAsFloats();
          t0 = w0.lanewise(FMA, y0, t0);
          FloatVector w1 =
              words
                  .lanewise(LSHL, 4)
                  .lanewise(AND, nibble)
                  .lanewise(OR, pattern)
                  .reinterpretAsFloats()
                  .lanewise(FMA, d, zero);
          FloatVector x1 = LongVector.broadcast(LONGS, x[i + 1]).reinterpretAsFloats();
          s1 = w1.lanewise(FMA, x1, s1);
          FloatVector y1 = LongVector.broadcast(LONGS, x[j + 1]).reinterpretAsFloats();
          t1 = w1.lanewise(FMA, y1, t1);
          FloatVector w2 =
              words
                  .lanewise(AND, nibble)
                  .lanewise(OR, pattern)
                  .reinterpretAsFloats()
                  .lanewise(FMA, d, zero);
          FloatVector x2 = LongVector.broadcast(LONGS, x[i + 2]).reinterpretAsFloats();
          s2 = w2.lanewise(FMA, x2, s2);
          FloatVector y2 = LongVector.broadcast(LONGS, x[j + 2]).reinterpretAsFloats();
          t2 = w2.lanewise(FMA, y2, t2);
          FloatVector w3 =
              words
                  .lanewise(LSHR, 4)
                  .lanewise(AND, nibble)
                  .lanewise(OR, pattern)
                  .reinterpretAsFloats()
                  .lanewise(FMA, d, zero);
          FloatVector x3 = LongVector.broadcast(LONGS, x[i + 3]).reinterpretAsFloats();
          s3 = w3.lanewise(FMA, x3, s3);
          FloatVector y3 = LongVector.broadcast(LONGS, x[j + 3]).reinterpretAsFloats();
          t3 = w3.lanewise(FMA, y3, t3);
          FloatVector w4 =
              words
                  .lanewise(LSHR, 8)
                  .lanewise(AND, nibble)
                  .lanewise(OR, pattern)
                  .reinterpretAsFloats()
                  .lanewise(FMA, d, zero);
          FloatVector x4 = LongVector.broadcast(LONGS, x[i + 4]).reinterpretAsFloats();
          s0 = w4.lanewise(FMA, x4, s0);
          FloatVector y4 = LongVector.broadcast(LONGS, x[j + 4]).reinterpretAsFloats();
          t0 = w4.lanewise(FMA, y4, t0);
          FloatVector w5 =
              words
                  .lanewise(LSHR, 12)
                  .lanewise(AND, nibble)
                  .lanewise(OR, pattern)
                  .reinterpretAsFloats()
                  .lanewise(FMA, d, zero);
          FloatVector x5 = LongVector.broadcast(LONGS, x[i + 5]).reinterpretAsFloats();
          s1 = w5.lanewise(FMA, x5, s1);
          FloatVector y5 = LongVector.broadcast(LONGS, x[j + 5]).reinterpretAsFloats();
          t1 = w5.lanewise(FMA, y5, t1);
          FloatVector w6 =
              words
                  .lanewise(LSHR, 16)
                  .lanewise(AND, nibble)
                  .lanewise(OR, pattern)
                  .reinterpretAsFloats()
                  .lanewise(FMA, d, zero);
          FloatVector x6 = LongVector.broadcast(LONGS, x[i + 6]).reinterpretAsFloats();
          s2 = w6.lanewise(FMA, x6, s2);
          FloatVector y6 = LongVector.broadcast(LONGS, x[j + 6]).reinterpretAsFloats();
          t2 = w6.lanewise(FMA, y6, t2);
          FloatVector w7 =
              words
                  .lanewise(LSHR, 20)
                  .lanewise(AND, nibble)
                  .lanewise(OR, pattern)
                  .reinterpretAsFloats()
                  .lanewise(FMA, d, zero);
          FloatVector x7 = LongVector.broadcast(LONGS, x[i + 7]).reinterpretAsFloats();
          s3 = w7.lanewise(FMA, x7, s3);
          FloatVector y7 = LongVector.broadcast(LONGS, x[j + 7]).reinterpretAsFloats();
          t3 = w7.lanewise(FMA, y7, t3);
        }
        s0.lanewise(ADD, s2)
            .lanewise(ADD, s1.lanewise(ADD, s3))
            .intoArray(sums, sumsAt + part + 16 * g);
        t0.lanewise(ADD, t2)
            .lanewise(ADD, t1.lanewise(ADD, t3))
            .intoArray(sums, sumsAt + part + 32 + 16 * g);
      }
    }
  }
}
