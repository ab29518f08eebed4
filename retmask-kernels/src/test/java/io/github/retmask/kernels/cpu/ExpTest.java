package io.github.retmask.kernels.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Arrays;
import org.junit.jupiter.api.Test;

class ExpTest {
  /// Between the bit patterns tried: a prime, so that all mantissas mix; 1.6 million values.
  private static final int STRIDE = 2687;

  private static final int BATCH = 1 << 12;

  /// Values of all magnitudes and both signs, infinities and NaNs among them.
  private static float[] batch(long first) {
    float[] values = new float[BATCH];
    for (int i = 0; i < BATCH; i++) {
      values[i] = Float.intBitsToFloat((int) ((first + i) * STRIDE));
    }
    return values;
  }

  private static float[] exp(float... x) {
    float[] out = new float[x.length + Lanes.WIDTH];
    Exp.exp(out, 0, Arrays.copyOf(x, out.length), 0, x.length, 1f, 0f);
    return Arrays.copyOf(out, x.length);
  }

  private static void check(float x, float got) {
    double want = StrictMath.exp(x);
    float rounded = (float) want;
    boolean right;
    if (Float.isNaN(x)) {
      right = Float.isNaN(got);
    } else if (Float.isInfinite(rounded) || Float.isInfinite(got)) {
      // Next to the largest float, two ulp reach past it.
      right = got == rounded || Math.abs(want - Float.MAX_VALUE) <= 2 * Math.ulp(Float.MAX_VALUE);
    } else {
      right = Math.abs(got - want) <= 2 * Math.ulp(rounded);
    }
    if (!right) {
      throw new AssertionError("exp(%s) = %s, want %s".formatted(x, got, want));
    }
  }

  @Test
  void isWithinTwoUlpOfTheTruthAtAllMagnitudes() {
    for (long first = 0; first < (1L << 32) / STRIDE; first += BATCH) {
      float[] x = batch(first);
      float[] got = exp(x);
      for (int i = 0; i < BATCH; i++) {
        check(x[i], got[i]);
      }
    }
  }

  @Test
  void isWithinTwoUlpAllOverTheRangeOfSoftmax() {
    float[] x = new float[1 << 20];
    for (int i = 0; i < x.length; i++) {
      x[i] = -110f * i / x.length;
    }
    float[] got = exp(x);
    for (int i = 0; i < x.length; i++) {
      check(x[i], got[i]);
    }
  }

  @Test
  void endsAreExact() {
    assertThat(exp(Float.NEGATIVE_INFINITY, -1e30f, -104f)).containsOnly(0f);
    assertThat(exp(-0f, 0f)).containsOnly(1f);
    assertThat(exp(88.7f)[0]).isFinite();
    assertThat(exp(88.8f, 1e30f, Float.POSITIVE_INFINITY)).containsOnly(Float.POSITIVE_INFINITY);
    assertThat(exp(Float.NaN)[0]).isNaN();
  }

  @Test
  void scalarAndVectorGiveTheSameBits() {
    for (long first = 0; first < (1L << 32) / STRIDE; first += BATCH) {
      float[] x = batch(first);
      float[] got = exp(x);
      for (int i = 0; i < BATCH; i++) {
        float scalar = Exp.exp(x[i]);
        if (Float.floatToIntBits(scalar) != Float.floatToIntBits(got[i])) {
          throw new AssertionError("exp(%s): vector %s, scalar %s".formatted(x[i], got[i], scalar));
        }
      }
    }
  }

  @Test
  void scalesAndShiftsItsArgument() {
    float[] x = {1.5f, -2f, 0.25f};
    float[] out = new float[3 + Lanes.WIDTH];
    Exp.exp(out, 0, Arrays.copyOf(x, out.length), 0, 3, -1f, 0.5f);
    for (int i = 0; i < 3; i++) {
      check(-x[i] - 0.5f, out[i]);
    }
  }
}
