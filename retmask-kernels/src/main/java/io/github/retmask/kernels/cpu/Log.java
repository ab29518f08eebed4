package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static jdk.incubator.vector.VectorOperators.ADD;
import static jdk.incubator.vector.VectorOperators.ASHR;
import static jdk.incubator.vector.VectorOperators.DIV;
import static jdk.incubator.vector.VectorOperators.FMA;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.MUL;
import static jdk.incubator.vector.VectorOperators.SUB;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;

/// The natural logarithm of positive normal floats within 2 ulp, the same bits compiled or not. NaN stays
/// NaN, infinity becomes it; zero, negative and subnormal numbers are not for here.
///
/// `log(2^n m) = n log(2) + 2 artanh(t)` with `t = (m - 1) / (m + 1)` and m from sqrt(1/2) to sqrt(2),
/// by the first five terms of the series; the others are below 2.1e-9 of it.
final class Log {
  private static final float LN2_HIGH = 0x1.62e4p-1f; // few bits: n times it is exact
  private static final float LN2_LOW = 1.42860682e-6f;
  private static final int SQRT_HALF = Float.floatToRawIntBits(0.70710678f);

  private Log() {}

  /// `to = log(from)` for `count` floats and the rest of the last vector.
  static void log(float[] to, int toAt, float[] from, int at, int count) {
    FloatVector one = FloatVector.broadcast(FLOAT, 1f);
    FloatVector zero = FloatVector.zero(FLOAT);
    FloatVector c9 = FloatVector.broadcast(FLOAT, 2f / 9);
    FloatVector c7 = FloatVector.broadcast(FLOAT, 2f / 7);
    FloatVector c5 = FloatVector.broadcast(FLOAT, 2f / 5);
    FloatVector c3 = FloatVector.broadcast(FLOAT, 2f / 3);
    FloatVector ln2High = FloatVector.broadcast(FLOAT, LN2_HIGH);
    FloatVector ln2Low = FloatVector.broadcast(FLOAT, LN2_LOW);
    for (int i = 0; i < count; i += WIDTH) {
      FloatVector x = FloatVector.fromArray(FLOAT, from, at + i);
      IntVector bits = x.reinterpretAsInts();
      IntVector exponent = bits.lanewise(SUB, SQRT_HALF).lanewise(ASHR, 23);
      FloatVector m = bits.lanewise(SUB, exponent.lanewise(LSHL, 23)).reinterpretAsFloats();
      FloatVector n = (FloatVector) exponent.convertShape(I2F, FLOAT, 0);
      FloatVector t = m.lanewise(SUB, one).lanewise(DIV, m.lanewise(ADD, one));
      FloatVector t2 = t.lanewise(MUL, t);
      FloatVector series = t2.lanewise(FMA, c9, c7);
      series = t2.lanewise(FMA, series, c5);
      series = t2.lanewise(FMA, series, c3);
      FloatVector ofM = t2.lanewise(MUL, t).lanewise(FMA, series, t.lanewise(ADD, t));
      FloatVector log = n.lanewise(FMA, ln2High, n.lanewise(FMA, ln2Low, ofM));
      x.lanewise(FMA, zero, log).intoArray(to, toAt + i); // NaN where x is not finite
    }
  }
}
