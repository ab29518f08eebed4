package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;

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
    for (int i = 0; i < count; i += WIDTH) {
      FloatVector x = FloatVector.fromArray(FLOAT, from, at + i);
      IntVector bits = x.reinterpretAsInts();
      IntVector exponent = bits.sub(SQRT_HALF).lanewise(VectorOperators.ASHR, 23);
      FloatVector m = bits.sub(exponent.lanewise(VectorOperators.LSHL, 23)).reinterpretAsFloats();
      FloatVector n = (FloatVector) exponent.convertShape(VectorOperators.I2F, FLOAT, 0);
      FloatVector t = m.sub(1f).div(m.add(1f));
      FloatVector t2 = t.mul(t);
      FloatVector series = t2.fma(broadcast(2f / 9), broadcast(2f / 7));
      series = t2.fma(series, broadcast(2f / 5));
      series = t2.fma(series, broadcast(2f / 3));
      FloatVector ofM = t2.mul(t).fma(series, t.add(t));
      FloatVector log = n.fma(broadcast(LN2_HIGH), n.fma(broadcast(LN2_LOW), ofM));
      x.fma(broadcast(0f), log).intoArray(to, toAt + i); // NaN where x is not finite
    }
  }

  private static FloatVector broadcast(float value) {
    return FloatVector.broadcast(FLOAT, value);
  }
}
