package io.github.retmask.kernels.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Arrays;
import org.junit.jupiter.api.Test;

class LogTest {
  /// Between the bit patterns tried: a prime, so that all mantissas mix; 800,000 values.
  private static final int STRIDE = 2687;

  private static final int BATCH = 1 << 12;

  private static float[] log(float... x) {
    float[] out = new float[x.length + Lanes.WIDTH];
    Log.log(out, 0, Arrays.copyOf(x, out.length), 0, x.length);
    return Arrays.copyOf(out, x.length);
  }

  private static void check(float[] x, float[] got) {
    for (int i = 0; i < x.length; i++) {
      double want = StrictMath.log(x[i]);
      if (!(Math.abs(got[i] - want) <= 2 * Math.ulp((float) want))) {
        throw new AssertionError("log(%s) = %s, want %s".formatted(x[i], got[i], want));
      }
    }
  }

  @Test
  void isWithinTwoUlpOfTheTruthAtAllMagnitudes() {
    int bits = Float.floatToRawIntBits(Float.MIN_NORMAL);
    while (bits + STRIDE * BATCH > 0 && Float.intBitsToFloat(bits + STRIDE * BATCH) < 1e38f) {
      float[] x = new float[BATCH];
      for (int i = 0; i < BATCH; i++) {
        x[i] = Float.intBitsToFloat(bits);
        bits += STRIDE;
      }
      check(x, log(x));
    }
    assertThat(Float.intBitsToFloat(bits)).as("the last one").isGreaterThan(1e37f);
  }

  @Test
  void isWithinTwoUlpNextToOne() {
    float[] x = new float[1 << 12];
    for (int i = 0; i < x.length; i++) {
      x[i] = Float.intBitsToFloat(Float.floatToRawIntBits(1f) + i - x.length / 2);
    }
    check(x, log(x));
    assertThat(log(1f)).containsExactly(0f);
  }

  @Test
  void whatIsNotFiniteIsNaN() {
    for (float got : log(Float.NaN, Float.POSITIVE_INFINITY)) {
      assertThat(got).isNaN();
    }
  }
}
