package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static jdk.incubator.vector.VectorOperators.ADD;
import static jdk.incubator.vector.VectorOperators.ASHR;
import static jdk.incubator.vector.VectorOperators.FMA;
import static jdk.incubator.vector.VectorOperators.GT;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LT;
import static jdk.incubator.vector.VectorOperators.MUL;
import static jdk.incubator.vector.VectorOperators.SUB;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;

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
    FloatVector lowest = FloatVector.broadcast(FLOAT, LOWEST);
    FloatVector highest = FloatVector.broadcast(FLOAT, HIGHEST);
    FloatVector log2e = FloatVector.broadcast(FLOAT, LOG2_E);
    FloatVector round = FloatVector.broadcast(FLOAT, ROUND);
    FloatVector ln2High = FloatVector.broadcast(FLOAT, MINUS_LN2_HIGH);
    FloatVector ln2Low = FloatVector.broadcast(FLOAT, MINUS_LN2_LOW);
    FloatVector c6 = FloatVector.broadcast(FLOAT, C6);
    FloatVector c5 = FloatVector.broadcast(FLOAT, C5);
    FloatVector c4 = FloatVector.broadcast(FLOAT, C4);
    FloatVector c3 = FloatVector.broadcast(FLOAT, C3);
    FloatVector c2 = FloatVector.broadcast(FLOAT, C2);
    FloatVector one = FloatVector.broadcast(FLOAT, 1f);
    for (int i = 0; i < count; i += WIDTH) {
      FloatVector x = FloatVector.fromArray(FLOAT, from, at + i);
      x = x.lanewise(MUL, factor).lanewise(SUB, minus);
      x = x.blend(lowest, x.compare(LT, lowest));
      x = x.blend(highest, x.compare(GT, highest));
      FloatVector shifted = x.lanewise(FMA, log2e, round);
      FloatVector n = shifted.lanewise(SUB, round);
      FloatVector r = n.lanewise(FMA, ln2High, x);
      r = n.lanewise(FMA, ln2Low, r);
      FloatVector p = r.lanewise(FMA, c6, c5);
      p = p.lanewise(FMA, r, c4);
      p = p.lanewise(FMA, r, c3);
      p = p.lanewise(FMA, r, c2);
      p = p.lanewise(FMA, r, one);
      p = p.lanewise(FMA, r, one);
      IntVector exponent = shifted.reinterpretAsInts().lanewise(SUB, ROUND_BITS);
      IntVector half = exponent.lanewise(ASHR, 1);
      IntVector rest = exponent.lanewise(SUB, half);
      FloatVector first = half.lanewise(ADD, 127).lanewise(LSHL, 23).reinterpretAsFloats();
      FloatVector second = rest.lanewise(ADD, 127).lanewise(LSHL, 23).reinterpretAsFloats();
      p.lanewise(MUL, first).lanewise(MUL, second).intoArray(to, toAt + i);
    }
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
