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
      int block = 34 * b;
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
      s02 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p2 + 2, LE).convertShape(B2F, SPECIES, 0))
              .mul(d2)
              .fma(x00, s02);
      s03 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p3 + 2, LE).convertShape(B2F, SPECIES, 0))
              .mul(d3)
              .fma(x00, s03);
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
      s02 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p2 + 10, LE).convertShape(B2F, SPECIES, 0))
              .mul(d2)
              .fma(x01, s02);
      s03 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p3 + 10, LE).convertShape(B2F, SPECIES, 0))
              .mul(d3)
              .fma(x01, s03);
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
      s02 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p2 + 18, LE).convertShape(B2F, SPECIES, 0))
              .mul(d2)
              .fma(x02, s02);
      s03 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p3 + 18, LE).convertShape(B2F, SPECIES, 0))
              .mul(d3)
              .fma(x02, s03);
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
      s02 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p2 + 26, LE).convertShape(B2F, SPECIES, 0))
              .mul(d2)
              .fma(x03, s02);
      s03 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p3 + 26, LE).convertShape(B2F, SPECIES, 0))
              .mul(d3)
              .fma(x03, s03);
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
      int block = 34 * b;
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
      FloatVector w20 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p2 + 2, LE).convertShape(B2F, SPECIES, 0))
              .mul(d2);
      s02 = w20.fma(x00, s02);
      s12 = w20.fma(x10, s12);
      FloatVector w30 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p3 + 2, LE).convertShape(B2F, SPECIES, 0))
              .mul(d3);
      s03 = w30.fma(x00, s03);
      s13 = w30.fma(x10, s13);
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
      FloatVector w21 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p2 + 10, LE).convertShape(B2F, SPECIES, 0))
              .mul(d2);
      s02 = w21.fma(x01, s02);
      s12 = w21.fma(x11, s12);
      FloatVector w31 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p3 + 10, LE).convertShape(B2F, SPECIES, 0))
              .mul(d3);
      s03 = w31.fma(x01, s03);
      s13 = w31.fma(x11, s13);
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
      FloatVector w22 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p2 + 18, LE).convertShape(B2F, SPECIES, 0))
              .mul(d2);
      s02 = w22.fma(x02, s02);
      s12 = w22.fma(x12, s12);
      FloatVector w32 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p3 + 18, LE).convertShape(B2F, SPECIES, 0))
              .mul(d3);
      s03 = w32.fma(x02, s03);
      s13 = w32.fma(x12, s13);
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
      FloatVector w23 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p2 + 26, LE).convertShape(B2F, SPECIES, 0))
              .mul(d2);
      s02 = w23.fma(x03, s02);
      s12 = w23.fma(x13, s12);
      FloatVector w33 =
          ((FloatVector)
                  ByteVector.fromMemorySegment(BYTES, w, p3 + 26, LE).convertShape(B2F, SPECIES, 0))
              .mul(d3);
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
