package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;

/// e^x within 2 ulp, subnormal results within 1 ulp of the smallest float; the same bits as vector
/// and as scalar, compiled or not.
///
/// `exp(x) = 2^n exp(r)` with `n = round(x / ln 2)` and exp(r) by a polynomial on `|r| <= ln(2) / 2`.
/// The power of two is applied in two halves: results below the normal range round once, results
/// above the largest float become infinity. NaN stays NaN.
final class Exp {
  static final float LOG2_E = 1.44269504f;
  static final float MINUS_LN2_HIGH = -0x1.62e4p-1f; // few bits: n times it is exact
  static final float MINUS_LN2_LOW = -1.42860682e-6f;
  private static final float ROUND = 0x1.8p23f; // adding it leaves round(x) in the low bits
  private static final int ROUND_BITS = Float.floatToRawIntBits(ROUND);
  private static final float LOWEST = -105f; // exp is 0 from here down
  private static final float HIGHEST = 89f; // exp is infinite from here up

  // exp(r) = 1 + r + r^2 (C2 + C3 r + ...), minimax for the relative error, which is 3.1e-9
  static final float C2 = 0.499999934464695f;
  static final float C3 = 0.16666520611995803f;
  static final float C4 = 0.04166838827732323f;
  static final float C5 = 0.00836871927243642f;
  static final float C6 = 0.0013814593690691824f;

  private Exp() {}

  /// `to = exp(factor from - minus)` for `count` floats and the rest of the last vector.
  ///
  /// One method from array to array: a vector that crosses a call is boxed.
  static void exp(
      float[] to, int toAt, float[] from, int at, int count, float factor, float minus) {
    for (int i = 0; i < count; i += WIDTH) {
      FloatVector x = FloatVector.fromArray(FLOAT, from, at + i).mul(factor).sub(minus);
      x = x.blend(LOWEST, x.compare(VectorOperators.LT, LOWEST));
      x = x.blend(HIGHEST, x.compare(VectorOperators.GT, HIGHEST));
      FloatVector shifted = x.fma(broadcast(LOG2_E), broadcast(ROUND));
      FloatVector n = shifted.sub(ROUND);
      FloatVector r = n.fma(broadcast(MINUS_LN2_HIGH), x);
      r = n.fma(broadcast(MINUS_LN2_LOW), r);
      FloatVector p = r.fma(broadcast(C6), broadcast(C5));
      p = p.fma(r, broadcast(C4));
      p = p.fma(r, broadcast(C3));
      p = p.fma(r, broadcast(C2));
      p = p.fma(r, broadcast(1f));
      p = p.fma(r, broadcast(1f));
      IntVector exponent = shifted.reinterpretAsInts().sub(ROUND_BITS);
      IntVector half = exponent.lanewise(VectorOperators.ASHR, 1);
      IntVector rest = exponent.sub(half);
      IntVector first = half.add(127).lanewise(VectorOperators.LSHL, 23);
      IntVector second = rest.add(127).lanewise(VectorOperators.LSHL, 23);
      p.mul(first.reinterpretAsFloats()).mul(second.reinterpretAsFloats()).intoArray(to, toAt + i);
    }
  }

  private static FloatVector broadcast(float value) {
    return FloatVector.broadcast(FLOAT, value);
  }

  /// e^x of one float.
  static float exp(float x) {
    float bounded = x < LOWEST ? LOWEST : x;
    bounded = bounded > HIGHEST ? HIGHEST : bounded;
    float shifted = Math.fma(bounded, LOG2_E, ROUND);
    float n = shifted - ROUND;
    float r = Math.fma(n, MINUS_LN2_HIGH, bounded);
    r = Math.fma(n, MINUS_LN2_LOW, r);
    float p = Math.fma(r, C6, C5);
    p = Math.fma(p, r, C4);
    p = Math.fma(p, r, C3);
    p = Math.fma(p, r, C2);
    p = Math.fma(p, r, 1f);
    p = Math.fma(p, r, 1f);
    int exponent = Float.floatToRawIntBits(shifted) - ROUND_BITS;
    int half = exponent >> 1;
    return p * powerOfTwo(half) * powerOfTwo(exponent - half);
  }

  private static float powerOfTwo(int n) {
    return Float.intBitsToFloat(n + 127 << 23);
  }
}
