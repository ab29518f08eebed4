package io.github.retmask.kernels.cpu;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/// [RowDots] of Q4_0 weights: blocks of a half-precision scale d and 16 bytes, whose low halves are
/// the elements 0 to 15 and whose high halves are 16 to 31. An element is `d (q - 8)`, exact in a
/// float. For vectors of eight floats.
///
/// In one loop, unpacking and multiplying take more nodes than C2 inlines, so stored rows are first
/// unpacked to signed bytes. Vectors have no shift of bytes: with its top bit flipped and its low
/// half cleared, a byte is 16 (q - 8) for the high half, and its scale d / 16.
final class Q4Dots implements RowDots {
  static final RowDots INSTANCE = new Q4Dots();

  private static final VectorSpecies<Float> SPECIES = Lanes.CHAINS_OF_8;
  private static final VectorSpecies<Byte> EIGHT = ByteVector.SPECIES_64;
  private static final VectorSpecies<Byte> SIXTEEN = ByteVector.SPECIES_128;
  private static final int SCALES = 3;

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
      int sumsAt,
      Scratch scratch) {
    int blocks = inner / 32;
    byte[] bytes = scratch.bytes(ROWS * inner);
    float[] scales = scratch.floats(SCALES, ROWS * 2 * blocks);
    for (int r = 0; r < ROWS; r++) {
      unpack(weight, at + r * row, blocks, bytes, r * inner, scales, 2 * r * blocks);
    }
    for (int j = 0; j < count; j++) {
      dots(bytes, scales, 2 * blocks, x, xAt + j * inner, sums, sumsAt + j * ROWS * CHAINS);
    }
  }

  /// A stored row as bytes in order, and per block the scales of its halves.
  private static void unpack(
      MemorySegment weight,
      long at,
      int blocks,
      byte[] bytes,
      int to,
      float[] scales,
      int scaleTo) {
    MemorySegment w = OffHeap.cast(weight);
    for (int b = 0; b < blocks; b++) {
      long block = at + b * 18L;
      ByteVector both = ByteVector.fromMemorySegment(SIXTEEN, w, block + 2, Lanes.LE);
      both.and((byte) 0x0f).sub((byte) 8).intoArray(bytes, to + 32 * b);
      both.lanewise(VectorOperators.XOR, (byte) 0x80)
          .and((byte) 0xf0)
          .intoArray(bytes, to + 32 * b + 16);
      float d = Float.float16ToFloat(w.get(Lanes.I16, block));
      scales[scaleTo + 2 * b] = d;
      scales[scaleTo + 2 * b + 1] = d * 0.0625f;
    }
  }

  /// Dot products of four rows, half a block of each per step.
  private static void dots(
      byte[] w, float[] scales, int halves, float[] x, int xAt, float[] sums, int sumsAt) {
    FloatVector s0 = FloatVector.zero(SPECIES);
    FloatVector s1 = FloatVector.zero(SPECIES);
    FloatVector s2 = FloatVector.zero(SPECIES);
    FloatVector s3 = FloatVector.zero(SPECIES);
    int w1 = 16 * halves;
    int w2 = 32 * halves;
    int w3 = 48 * halves;
    int scales2 = 2 * halves;
    int scales3 = 3 * halves;
    for (int h = 0; h < halves; h++) {
      FloatVector x0 = FloatVector.fromArray(SPECIES, x, xAt + 16 * h);
      FloatVector x1 = FloatVector.fromArray(SPECIES, x, xAt + 16 * h + 8);
      FloatVector d0 = FloatVector.broadcast(SPECIES, scales[h]);
      s0 = load(w, 16 * h).mul(d0).fma(x0, s0);
      s0 = load(w, 16 * h + 8).mul(d0).fma(x1, s0);
      FloatVector d1 = FloatVector.broadcast(SPECIES, scales[halves + h]);
      s1 = load(w, w1 + 16 * h).mul(d1).fma(x0, s1);
      s1 = load(w, w1 + 16 * h + 8).mul(d1).fma(x1, s1);
      FloatVector d2 = FloatVector.broadcast(SPECIES, scales[scales2 + h]);
      s2 = load(w, w2 + 16 * h).mul(d2).fma(x0, s2);
      s2 = load(w, w2 + 16 * h + 8).mul(d2).fma(x1, s2);
      FloatVector d3 = FloatVector.broadcast(SPECIES, scales[scales3 + h]);
      s3 = load(w, w3 + 16 * h).mul(d3).fma(x0, s3);
      s3 = load(w, w3 + 16 * h + 8).mul(d3).fma(x1, s3);
    }
    s0.intoArray(sums, sumsAt);
    s1.intoArray(sums, sumsAt + CHAINS);
    s2.intoArray(sums, sumsAt + 2 * CHAINS);
    s3.intoArray(sums, sumsAt + 3 * CHAINS);
  }

  private static FloatVector load(byte[] w, int at) {
    return (FloatVector)
        ByteVector.fromArray(EIGHT, w, at).convertShape(VectorOperators.B2F, SPECIES, 0);
  }
}
