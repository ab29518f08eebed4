package io.github.retmask.kernels.cpu;

import static jdk.incubator.vector.VectorOperators.FMA;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/// The vector width of this machine and the arithmetic whose bits must not depend on it.
///
/// Kernels with large loops call `lanewise(FMA, y, z)`, not `fma(y, z)`: within `fma` the compiler
/// knows the types of vectors from a profile that all code of the JVM shares, and boxes the sums of
/// a large loop where that has seen vectors of another width.
final class Lanes {
  /// System property that forces a width in bits: 128, 256 or 512.
  static final String BITS_PROPERTY = "retmask.vector.bits";

  /// A constant for the compiler: as a variable it would cost a factor of five.
  static final VectorSpecies<Float> FLOAT = species();

  static final VectorSpecies<Integer> INT = FLOAT.withLanes(int.class);

  /// As many bytes as there are floats in a vector; no vector is shorter than 8 bytes.
  static final VectorSpecies<Byte> BYTES =
      VectorSpecies.of(byte.class, VectorShape.forBitSize(Math.max(64, 8 * FLOAT.length())));

  /// Floats in a vector: 4, 8 or 16.
  static final int WIDTH = FLOAT.length();

  /// Vectors that hold the eight chains of a matmul's output, or half of them.
  static final VectorSpecies<Float> CHAINS_OF_8 =
      VectorSpecies.of(float.class, VectorShape.forBitSize(Math.min(256, 32 * WIDTH)));

  static final ByteOrder LE = ByteOrder.LITTLE_ENDIAN;
  static final ValueLayout.OfFloat F32 = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(LE);
  static final ValueLayout.OfShort I16 = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(LE);
  static final ValueLayout.OfInt I32 = ValueLayout.JAVA_INT_UNALIGNED.withOrder(LE);
  static final ValueLayout.OfLong I64 = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(LE);

  /// Lanes of every sum within a row, on every machine: element i belongs to lane i mod 16.
  static final int VIRTUAL = 16;

  private Lanes() {}

  private static VectorSpecies<Float> species() {
    int preferred = Math.min(512, FloatVector.SPECIES_PREFERRED.vectorBitSize());
    int bits = Integer.getInteger(BITS_PROPERTY, preferred);
    if (bits != 128 && bits != 256 && bits != 512) {
      throw new IllegalArgumentException(
          "-D%s=%d: want 128, 256 or 512".formatted(BITS_PROPERTY, bits));
    }
    return VectorSpecies.of(float.class, VectorShape.forBitSize(bits));
  }

  static float get(MemorySegment segment, long offset) {
    return segment.get(F32, offset);
  }

  static void set(MemorySegment segment, long offset, float value) {
    segment.set(F32, offset, value);
  }

  /// Sum of 16 lanes from `lanes[at]` on, as a tree of halves.
  static float tree(float[] lanes, int at) {
    float s0 = (lanes[at] + lanes[at + 8]) + (lanes[at + 4] + lanes[at + 12]);
    float s1 = (lanes[at + 1] + lanes[at + 9]) + (lanes[at + 5] + lanes[at + 13]);
    float s2 = (lanes[at + 2] + lanes[at + 10]) + (lanes[at + 6] + lanes[at + 14]);
    float s3 = (lanes[at + 3] + lanes[at + 11]) + (lanes[at + 7] + lanes[at + 15]);
    return (s0 + s2) + (s1 + s3);
  }

  /// Dot product of n floats: a chain of multiply-adds per virtual lane, then the tree.
  ///
  /// @param lanes room for 16 floats
  static float dot(float[] a, int aAt, float[] b, int bAt, int n, float[] lanes) {
    int full = n & -VIRTUAL;
    for (int part = 0; part < VIRTUAL; part += WIDTH) {
      FloatVector sum = FloatVector.zero(FLOAT);
      for (int i = part; i < full; i += VIRTUAL) {
        sum =
            FloatVector.fromArray(FLOAT, a, aAt + i)
                .lanewise(FMA, FloatVector.fromArray(FLOAT, b, bAt + i), sum);
      }
      sum.intoArray(lanes, part);
    }
    for (int i = full; i < n; i++) {
      lanes[i - full] = Math.fma(a[aAt + i], b[bAt + i], lanes[i - full]);
    }
    return tree(lanes, 0);
  }
}
