package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.I16;
import static io.github.retmask.kernels.cpu.Lanes.LE;
import static jdk.incubator.vector.FloatVector.broadcast;
import static jdk.incubator.vector.VectorOperators.B2F;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorSpecies;

/// [RowDots] of Q8_0 weights: blocks of a half-precision scale and 32 bytes. An element times its
/// scale is exact in a float. For vectors of eight floats.
///
/// Converting bytes takes the vector units longer than reading them takes memory, so two rows of x
/// share one conversion. The loops call no methods of this class: past a number of nodes C2 inlines
/// only methods of the vector library. Before that come the scales, whose reading is no such method.
/// With four stored rows in a loop instead of two, C2 leaves a vector boxed in some runs.
final class Q8Dots implements RowDots {
  static final RowDots INSTANCE = new Q8Dots();

  private static final VectorSpecies<Float> SPECIES = Lanes.CHAINS_OF_8;
  private static final VectorSpecies<Byte> BYTES = ByteVector.SPECIES_64;

  private static final int PAIR = 2; // stored rows

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
      int block = 34 * b;
      int i = 32 * b;
      long p0 = at + block;
      long p1 = at1 + block;
      FloatVector d0 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p0)));
      FloatVector d1 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p1)));
      FloatVector x00 = FloatVector.fromArray(SPECIES, x, xAt + i);
      s00 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p0 + 2, LE).convertShape(B2F, SPECIES, 0))
              .mul(d0)
              .fma(x00, s00);
      s01 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p1 + 2, LE).convertShape(B2F, SPECIES, 0))
              .mul(d1)
              .fma(x00, s01);
      FloatVector x01 = FloatVector.fromArray(SPECIES, x, xAt + i + 8);
      s00 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p0 + 10, LE).convertShape(B2F, SPECIES, 0))
              .mul(d0)
              .fma(x01, s00);
      s01 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p1 + 10, LE).convertShape(B2F, SPECIES, 0))
              .mul(d1)
              .fma(x01, s01);
      FloatVector x02 = FloatVector.fromArray(SPECIES, x, xAt + i + 16);
      s00 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p0 + 18, LE).convertShape(B2F, SPECIES, 0))
              .mul(d0)
              .fma(x02, s00);
      s01 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p1 + 18, LE).convertShape(B2F, SPECIES, 0))
              .mul(d1)
              .fma(x02, s01);
      FloatVector x03 = FloatVector.fromArray(SPECIES, x, xAt + i + 24);
      s00 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p0 + 26, LE).convertShape(B2F, SPECIES, 0))
              .mul(d0)
              .fma(x03, s00);
      s01 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p1 + 26, LE).convertShape(B2F, SPECIES, 0))
              .mul(d1)
              .fma(x03, s01);
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
      int block = 34 * b;
      int i = 32 * b;
      long p0 = at + block;
      long p1 = at1 + block;
      FloatVector d0 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p0)));
      FloatVector d1 = broadcast(SPECIES, Float.float16ToFloat(w.get(I16, p1)));
      FloatVector x00 = FloatVector.fromArray(SPECIES, x, xAt + i);
      FloatVector x10 = FloatVector.fromArray(SPECIES, x, xAt1 + i);
      FloatVector w00 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p0 + 2, LE).convertShape(B2F, SPECIES, 0))
              .mul(d0);
      s00 = w00.fma(x00, s00);
      s10 = w00.fma(x10, s10);
      FloatVector w10 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p1 + 2, LE).convertShape(B2F, SPECIES, 0))
              .mul(d1);
      s01 = w10.fma(x00, s01);
      s11 = w10.fma(x10, s11);
      FloatVector x01 = FloatVector.fromArray(SPECIES, x, xAt + i + 8);
      FloatVector x11 = FloatVector.fromArray(SPECIES, x, xAt1 + i + 8);
      FloatVector w01 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p0 + 10, LE).convertShape(B2F, SPECIES, 0))
              .mul(d0);
      s00 = w01.fma(x01, s00);
      s10 = w01.fma(x11, s10);
      FloatVector w11 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p1 + 10, LE).convertShape(B2F, SPECIES, 0))
              .mul(d1);
      s01 = w11.fma(x01, s01);
      s11 = w11.fma(x11, s11);
      FloatVector x02 = FloatVector.fromArray(SPECIES, x, xAt + i + 16);
      FloatVector x12 = FloatVector.fromArray(SPECIES, x, xAt1 + i + 16);
      FloatVector w02 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p0 + 18, LE).convertShape(B2F, SPECIES, 0))
              .mul(d0);
      s00 = w02.fma(x02, s00);
      s10 = w02.fma(x12, s10);
      FloatVector w12 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p1 + 18, LE).convertShape(B2F, SPECIES, 0))
              .mul(d1);
      s01 = w12.fma(x02, s01);
      s11 = w12.fma(x12, s11);
      FloatVector x03 = FloatVector.fromArray(SPECIES, x, xAt + i + 24);
      FloatVector x13 = FloatVector.fromArray(SPECIES, x, xAt1 + i + 24);
      FloatVector w03 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p0 + 26, LE).convertShape(B2F, SPECIES, 0))
              .mul(d0);
      s00 = w03.fma(x03, s00);
      s10 = w03.fma(x13, s10);
      FloatVector w13 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p1 + 26, LE).convertShape(B2F, SPECIES, 0))
              .mul(d1);
      s01 = w13.fma(x03, s01);
      s11 = w13.fma(x13, s11);
    }
    s00.intoArray(sums, sumsAt);
    s01.intoArray(sums, sumsAt + CHAINS);
    s10.intoArray(sums, sumsAt + ROWS * CHAINS);
    s11.intoArray(sums, sumsAt + (ROWS + 1) * CHAINS);
  }
}
