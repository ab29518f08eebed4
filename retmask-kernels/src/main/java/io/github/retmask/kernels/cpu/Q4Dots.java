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

  private static final int PAIR = 2; // stored rows

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
    for (int r = 0; r < ROWS; r += PAIR) {
      if (count == 1) {
        one(weight, at + r * row, row, x, xAt, inner / 32, sums, sumsAt + r * CHAINS);
      } else {
        two(weight, at + r * row, row, x, xAt, inner / 32, sums, sumsAt + r * CHAINS);
      }
    }
  }

  /// Two stored rows with one row of x.
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
    FloatVector s00 = FloatVector.zero(SPECIES);
    FloatVector s01 = FloatVector.zero(SPECIES);
    for (int b = 0; b < blocks; b++) {
      int block = 18 * b;
      int i = 32 * b;
      long p0 = at + block;
      long p1 = at1 + block;
      FloatVector d0 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p0)));
      FloatVector d1 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p1)));
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
    }
    s00.intoArray(sums, sumsAt);
    s01.intoArray(sums, sumsAt + CHAINS);
  }

  /// Two stored rows with two rows of x.
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
    int xAt1 = xAt + 32 * blocks;
    FloatVector s00 = FloatVector.zero(SPECIES);
    FloatVector s01 = FloatVector.zero(SPECIES);
    FloatVector s10 = FloatVector.zero(SPECIES);
    FloatVector s11 = FloatVector.zero(SPECIES);
    for (int b = 0; b < blocks; b++) {
      int block = 18 * b;
      int i = 32 * b;
      long p0 = at + block;
      long p1 = at1 + block;
      FloatVector d0 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p0)));
      FloatVector d1 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p1)));
      FloatVector x00 = FloatVector.fromArray(SPECIES, x, xAt + i);
      FloatVector x10 = FloatVector.fromArray(SPECIES, x, xAt1 + i);
      FloatVector x01 = FloatVector.fromArray(SPECIES, x, xAt + i + 8);
      FloatVector x11 = FloatVector.fromArray(SPECIES, x, xAt1 + i + 8);
      FloatVector x02 = FloatVector.fromArray(SPECIES, x, xAt + i + 16);
      FloatVector x12 = FloatVector.fromArray(SPECIES, x, xAt1 + i + 16);
      FloatVector x03 = FloatVector.fromArray(SPECIES, x, xAt + i + 24);
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
    }
    s00.intoArray(sums, sumsAt);
    s01.intoArray(sums, sumsAt + CHAINS);
    s10.intoArray(sums, sumsAt + ROWS * CHAINS);
    s11.intoArray(sums, sumsAt + (ROWS + 1) * CHAINS);
  }
}
