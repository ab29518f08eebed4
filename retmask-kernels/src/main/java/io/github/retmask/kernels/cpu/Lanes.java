package io.github.retmask.kernels.cpu;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/// The vector width of this machine and the arithmetic whose bits must not depend on it.
final class Lanes {
  /// System property that forces a width in bits: 128, 256 or 512.
  static final String BITS_PROPERTY = "retmask.vector.bits";

  /// A constant for the compiler: as a variable it would cost a factor of five.
  static final VectorSpecies<Float> FLOAT = species();

  static final VectorSpecies<Integer> INT = FLOAT.withLanes(int.class);

  /// Floats in a vector: 4, 8 or 16.
  static final int WIDTH = FLOAT.length();

  static final ByteOrder LE = ByteOrder.LITTLE_ENDIAN;
  static final ValueLayout.OfFloat F32 = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(LE);
  static final ValueLayout.OfShort I16 = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(LE);
  static final ValueLayout.OfInt I32 = ValueLayout.JAVA_INT_UNALIGNED.withOrder(LE);

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
                .fma(FloatVector.fromArray(FLOAT, b, bAt + i), sum);
      }
      sum.intoArray(lanes, part);
    }
    for (int i = full; i < n; i++) {
      lanes[i - full] = Math.fma(a[aAt + i], b[bAt + i], lanes[i - full]);
    }
    return tree(lanes, 0);
  }

  // --- exp ------------------------------------------------------------------------------------
  //
  // exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2) / 2, exp(r) by a polynomial. The power
  // of
  // two is applied in two halves, so that results below the normal range round once and results
  // above the largest float become infinity.

  private static final float LOG2_E = 1.44269504f;
  private static final float LN2_HIGH =
      0.693145752f; // 13 trailing zero bits: n * LN2_HIGH is exact
  private static final float LN2_LOW = 1.42860682e-6f;
  private static final float ROUND = 0x1.8p23f; // adding it leaves round(x) in the low bits
  private static final float LOWEST = -105f; // exp is 0 from here down
  private static final float HIGHEST = 89f; // exp is infinite from here up
  private static final float C2 = 0.5f;
  private static final float C3 = 1f / 6;
  private static final float C4 = 1f / 24;
  private static final float C5 = 1f / 120;
  private static final float C6 = 1f / 720;
  private static final float C7 = 1f / 5040;

  /// e^x within 2 ulp (subnormal results: 1 ulp of the smallest float); NaN stays NaN.
  static FloatVector exp(FloatVector x) {
    FloatVector bounded = x.blend(LOWEST, x.lt(LOWEST));
    bounded = bounded.blend(HIGHEST, bounded.compare(VectorOperators.GT, HIGHEST));
    FloatVector shifted = bounded.fma(broadcast(LOG2_E), broadcast(ROUND));
    FloatVector n = shifted.sub(ROUND);
    FloatVector r = n.fma(broadcast(-LN2_HIGH), bounded);
    r = n.fma(broadcast(-LN2_LOW), r);
    FloatVector p = r.fma(broadcast(C7), broadcast(C6));
    p = p.fma(r, broadcast(C5));
    p = p.fma(r, broadcast(C4));
    p = p.fma(r, broadcast(C3));
    p = p.fma(r, broadcast(C2));
    p = p.fma(r, broadcast(1f));
    p = p.fma(r, broadcast(1f));
    IntVector exponent = shifted.reinterpretAsInts().sub(Float.floatToRawIntBits(ROUND));
    IntVector half = exponent.lanewise(VectorOperators.ASHR, 1);
    return p.mul(powerOfTwo(half)).mul(powerOfTwo(exponent.sub(half)));
  }

  private static FloatVector broadcast(float value) {
    return FloatVector.broadcast(FLOAT, value);
  }

  private static FloatVector powerOfTwo(IntVector n) {
    return n.add(127).lanewise(VectorOperators.LSHL, 23).reinterpretAsFloats();
  }

  /// The same bits as a lane of the vector form.
  static float exp(float x) {
    float bounded = x < LOWEST ? LOWEST : x;
    bounded = bounded > HIGHEST ? HIGHEST : bounded;
    float shifted = Math.fma(bounded, LOG2_E, ROUND);
    float n = shifted - ROUND;
    float r = Math.fma(n, -LN2_HIGH, bounded);
    r = Math.fma(n, -LN2_LOW, r);
    float p = Math.fma(r, C7, C6);
    p = Math.fma(p, r, C5);
    p = Math.fma(p, r, C4);
    p = Math.fma(p, r, C3);
    p = Math.fma(p, r, C2);
    p = Math.fma(p, r, 1f);
    p = Math.fma(p, r, 1f);
    int exponent = Float.floatToRawIntBits(shifted) - Float.floatToRawIntBits(ROUND);
    int half = exponent >> 1;
    return p * powerOfTwo(half) * powerOfTwo(exponent - half);
  }

  private static float powerOfTwo(int n) {
    return Float.intBitsToFloat((n + 127) << 23);
  }
}
