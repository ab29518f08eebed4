package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.I16;
import static io.github.retmask.kernels.cpu.Lanes.LE;
import static jdk.incubator.vector.FloatVector.broadcast;
import static jdk.incubator.vector.VectorOperators.B2I;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.XOR;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorSpecies;

/// [RowDots] of Q4_0 weights: blocks of a half-precision scale d and 16 bytes, whose low halves are
/// the elements 0 to 15 and whose high halves are 16 to 31. An element is `d (q - 8)`, exact in a
/// float. For vectors of eight floats.
///
/// With the top bit of both halves flipped, a half is q - 8 as a signed number. In a lane of 32 bits
/// the low half is shifted to the top, where it stands for 2^28 (q - 8), and the high half stays, for
/// 16 (q - 8); the scales make up for it. What else shapes the loops is said in [Q8Dots].
final class Q4Dots implements RowDots {
  static final RowDots INSTANCE = new Q4Dots();

  private static final VectorSpecies<Float> SPECIES = Lanes.CHAINS_OF_8;
  private static final VectorSpecies<Integer> INTS = SPECIES.withLanes(int.class);
  private static final VectorSpecies<Byte> BYTES = ByteVector.SPECIES_64;
  private static final float LOW = 0x1p-28f;
  private static final float HIGH = 0x1p-4f;

  private Q4Dots() {}

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
      int sumsAt) {
    if (count == 1) {
      one(weight, at, row, x, xAt, inner / 32, sums, sumsAt);
    } else {
      two(weight, at, row, x, xAt, inner / 32, sums, sumsAt);
    }
  }

  private static void one(
      MemorySegment weight,
      long at,
      long row,
      float[] x,
      int xAt,
      int blocks,
      float[] sums,
      int sumsAt) {
    MemorySegment w = OffHeap.cast(weight);
    long at1 = at + row;
    long at2 = at1 + row;
    long at3 = at2 + row;
    FloatVector s00 = FloatVector.zero(SPECIES);
    FloatVector s01 = FloatVector.zero(SPECIES);
    FloatVector s02 = FloatVector.zero(SPECIES);
    FloatVector s03 = FloatVector.zero(SPECIES);
    for (int b = 0; b < blocks; b++) {
      int block = 18 * b;
      int i = 32 * b;
      long p0 = at + block;
      long p1 = at1 + block;
      long p2 = at2 + block;
      long p3 = at3 + block;
      FloatVector d0 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p0)));
      FloatVector d1 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p1)));
      FloatVector d2 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p2)));
      FloatVector d3 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p3)));
      FloatVector x00 = FloatVector.fromArray(SPECIES, x, xAt + i);
      FloatVector x01 = FloatVector.fromArray(SPECIES, x, xAt + i + 8);
      FloatVector x02 = FloatVector.fromArray(SPECIES, x, xAt + i + 16);
      FloatVector x03 = FloatVector.fromArray(SPECIES, x, xAt + i + 24);
      FloatVector low0 = d0.mul(LOW);
      FloatVector high0 = d0.mul(HIGH);
      IntVector q00 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p0 + 2, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      IntVector q01 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p0 + 10, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      s00 = ((FloatVector) q00.lanewise(LSHL, 28).convert(I2F, 0)).mul(low0).fma(x00, s00);
      s00 = ((FloatVector) q01.lanewise(LSHL, 28).convert(I2F, 0)).mul(low0).fma(x01, s00);
      s00 = ((FloatVector) q00.and(-16).convert(I2F, 0)).mul(high0).fma(x02, s00);
      s00 = ((FloatVector) q01.and(-16).convert(I2F, 0)).mul(high0).fma(x03, s00);
      FloatVector low1 = d1.mul(LOW);
      FloatVector high1 = d1.mul(HIGH);
      IntVector q10 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p1 + 2, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      IntVector q11 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p1 + 10, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      s01 = ((FloatVector) q10.lanewise(LSHL, 28).convert(I2F, 0)).mul(low1).fma(x00, s01);
      s01 = ((FloatVector) q11.lanewise(LSHL, 28).convert(I2F, 0)).mul(low1).fma(x01, s01);
      s01 = ((FloatVector) q10.and(-16).convert(I2F, 0)).mul(high1).fma(x02, s01);
      s01 = ((FloatVector) q11.and(-16).convert(I2F, 0)).mul(high1).fma(x03, s01);
      FloatVector low2 = d2.mul(LOW);
      FloatVector high2 = d2.mul(HIGH);
      IntVector q20 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p2 + 2, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      IntVector q21 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p2 + 10, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      s02 = ((FloatVector) q20.lanewise(LSHL, 28).convert(I2F, 0)).mul(low2).fma(x00, s02);
      s02 = ((FloatVector) q21.lanewise(LSHL, 28).convert(I2F, 0)).mul(low2).fma(x01, s02);
      s02 = ((FloatVector) q20.and(-16).convert(I2F, 0)).mul(high2).fma(x02, s02);
      s02 = ((FloatVector) q21.and(-16).convert(I2F, 0)).mul(high2).fma(x03, s02);
      FloatVector low3 = d3.mul(LOW);
      FloatVector high3 = d3.mul(HIGH);
      IntVector q30 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p3 + 2, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      IntVector q31 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p3 + 10, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      s03 = ((FloatVector) q30.lanewise(LSHL, 28).convert(I2F, 0)).mul(low3).fma(x00, s03);
      s03 = ((FloatVector) q31.lanewise(LSHL, 28).convert(I2F, 0)).mul(low3).fma(x01, s03);
      s03 = ((FloatVector) q30.and(-16).convert(I2F, 0)).mul(high3).fma(x02, s03);
      s03 = ((FloatVector) q31.and(-16).convert(I2F, 0)).mul(high3).fma(x03, s03);
    }
    s00.intoArray(sums, sumsAt);
    s01.intoArray(sums, sumsAt + CHAINS);
    s02.intoArray(sums, sumsAt + 2 * CHAINS);
    s03.intoArray(sums, sumsAt + 3 * CHAINS);
  }

  private static void two(
      MemorySegment weight,
      long at,
      long row,
      float[] x,
      int xAt,
      int blocks,
      float[] sums,
      int sumsAt) {
    MemorySegment w = OffHeap.cast(weight);
    long at1 = at + row;
    long at2 = at1 + row;
    long at3 = at2 + row;
    int xAt1 = xAt + 32 * blocks;
    FloatVector s00 = FloatVector.zero(SPECIES);
    FloatVector s01 = FloatVector.zero(SPECIES);
    FloatVector s02 = FloatVector.zero(SPECIES);
    FloatVector s03 = FloatVector.zero(SPECIES);
    FloatVector s10 = FloatVector.zero(SPECIES);
    FloatVector s11 = FloatVector.zero(SPECIES);
    FloatVector s12 = FloatVector.zero(SPECIES);
    FloatVector s13 = FloatVector.zero(SPECIES);
    for (int b = 0; b < blocks; b++) {
      int block = 18 * b;
      int i = 32 * b;
      long p0 = at + block;
      long p1 = at1 + block;
      long p2 = at2 + block;
      long p3 = at3 + block;
      FloatVector d0 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p0)));
      FloatVector d1 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p1)));
      FloatVector d2 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p2)));
      FloatVector d3 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p3)));
      FloatVector x00 = FloatVector.fromArray(SPECIES, x, xAt + i);
      FloatVector x01 = FloatVector.fromArray(SPECIES, x, xAt + i + 8);
      FloatVector x02 = FloatVector.fromArray(SPECIES, x, xAt + i + 16);
      FloatVector x03 = FloatVector.fromArray(SPECIES, x, xAt + i + 24);
      FloatVector x10 = FloatVector.fromArray(SPECIES, x, xAt1 + i);
      FloatVector x11 = FloatVector.fromArray(SPECIES, x, xAt1 + i + 8);
      FloatVector x12 = FloatVector.fromArray(SPECIES, x, xAt1 + i + 16);
      FloatVector x13 = FloatVector.fromArray(SPECIES, x, xAt1 + i + 24);
      FloatVector low0 = d0.mul(LOW);
      FloatVector high0 = d0.mul(HIGH);
      IntVector q00 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p0 + 2, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      IntVector q01 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p0 + 10, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      FloatVector w00 = ((FloatVector) q00.lanewise(LSHL, 28).convert(I2F, 0)).mul(low0);
      s00 = w00.fma(x00, s00);
      s10 = w00.fma(x10, s10);
      FloatVector w01 = ((FloatVector) q01.lanewise(LSHL, 28).convert(I2F, 0)).mul(low0);
      s00 = w01.fma(x01, s00);
      s10 = w01.fma(x11, s10);
      FloatVector w02 = ((FloatVector) q00.and(-16).convert(I2F, 0)).mul(high0);
      s00 = w02.fma(x02, s00);
      s10 = w02.fma(x12, s10);
      FloatVector w03 = ((FloatVector) q01.and(-16).convert(I2F, 0)).mul(high0);
      s00 = w03.fma(x03, s00);
      s10 = w03.fma(x13, s10);
      FloatVector low1 = d1.mul(LOW);
      FloatVector high1 = d1.mul(HIGH);
      IntVector q10 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p1 + 2, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      IntVector q11 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p1 + 10, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      FloatVector w10 = ((FloatVector) q10.lanewise(LSHL, 28).convert(I2F, 0)).mul(low1);
      s01 = w10.fma(x00, s01);
      s11 = w10.fma(x10, s11);
      FloatVector w11 = ((FloatVector) q11.lanewise(LSHL, 28).convert(I2F, 0)).mul(low1);
      s01 = w11.fma(x01, s01);
      s11 = w11.fma(x11, s11);
      FloatVector w12 = ((FloatVector) q10.and(-16).convert(I2F, 0)).mul(high1);
      s01 = w12.fma(x02, s01);
      s11 = w12.fma(x12, s11);
      FloatVector w13 = ((FloatVector) q11.and(-16).convert(I2F, 0)).mul(high1);
      s01 = w13.fma(x03, s01);
      s11 = w13.fma(x13, s11);
      FloatVector low2 = d2.mul(LOW);
      FloatVector high2 = d2.mul(HIGH);
      IntVector q20 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p2 + 2, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      IntVector q21 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p2 + 10, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      FloatVector w20 = ((FloatVector) q20.lanewise(LSHL, 28).convert(I2F, 0)).mul(low2);
      s02 = w20.fma(x00, s02);
      s12 = w20.fma(x10, s12);
      FloatVector w21 = ((FloatVector) q21.lanewise(LSHL, 28).convert(I2F, 0)).mul(low2);
      s02 = w21.fma(x01, s02);
      s12 = w21.fma(x11, s12);
      FloatVector w22 = ((FloatVector) q20.and(-16).convert(I2F, 0)).mul(high2);
      s02 = w22.fma(x02, s02);
      s12 = w22.fma(x12, s12);
      FloatVector w23 = ((FloatVector) q21.and(-16).convert(I2F, 0)).mul(high2);
      s02 = w23.fma(x03, s02);
      s12 = w23.fma(x13, s12);
      FloatVector low3 = d3.mul(LOW);
      FloatVector high3 = d3.mul(HIGH);
      IntVector q30 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p3 + 2, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      IntVector q31 =
          (IntVector)
              ByteVector.fromMemorySegment(BYTES, w, p3 + 10, LE)
                  .lanewise(XOR, (byte) 0x88)
                  .convertShape(B2I, INTS, 0);
      FloatVector w30 = ((FloatVector) q30.lanewise(LSHL, 28).convert(I2F, 0)).mul(low3);
      s03 = w30.fma(x00, s03);
      s13 = w30.fma(x10, s13);
      FloatVector w31 = ((FloatVector) q31.lanewise(LSHL, 28).convert(I2F, 0)).mul(low3);
      s03 = w31.fma(x01, s03);
      s13 = w31.fma(x11, s13);
      FloatVector w32 = ((FloatVector) q30.and(-16).convert(I2F, 0)).mul(high3);
      s03 = w32.fma(x02, s03);
      s13 = w32.fma(x12, s13);
      FloatVector w33 = ((FloatVector) q31.and(-16).convert(I2F, 0)).mul(high3);
      s03 = w33.fma(x03, s03);
      s13 = w33.fma(x13, s13);
    }
    s00.intoArray(sums, sumsAt);
    s01.intoArray(sums, sumsAt + CHAINS);
    s02.intoArray(sums, sumsAt + 2 * CHAINS);
    s03.intoArray(sums, sumsAt + 3 * CHAINS);
    s10.intoArray(sums, sumsAt + 4 * CHAINS);
    s11.intoArray(sums, sumsAt + 5 * CHAINS);
    s12.intoArray(sums, sumsAt + 6 * CHAINS);
    s13.intoArray(sums, sumsAt + 7 * CHAINS);
  }
}
