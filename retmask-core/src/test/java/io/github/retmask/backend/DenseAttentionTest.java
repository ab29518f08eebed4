package io.github.retmask.backend;

import static io.github.retmask.backend.Workbench.normal;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import java.util.function.Function;
import org.junit.jupiter.api.Test;

/// The oracle's own gradients against differences of its forward.
class DenseAttentionTest {

  @Test
  void gradientsAreThoseOfTheForward() {
    check(AttentionCase.packed(4, 2, 3, 5, 4));
    check(AttentionCase.packed(8, 2, 3, 7, 2).mixed(false).window(4));
    check(AttentionCase.packed(8, 2, 3, 7, 2).mixed(true));
  }

  private static void check(AttentionCase c) {
    float[] q = c.q();
    float[] k = c.k();
    float[] v = c.v();
    float[] dz = normal(15, q.length);
    DenseAttention.Backward got = c.dense().new Backward(dz);
    compare("dq of " + c, got.dq, q, dz, x -> dense(c, x, k, v));
    compare("dk of " + c, got.dk, k, dz, x -> dense(c, q, x, v));
    compare("dv of " + c, got.dv, v, dz, x -> dense(c, q, k, x));
  }

  private static double[] dense(AttentionCase c, float[] q, float[] k, float[] v) {
    return new DenseAttention(q, k, v, c.dims(), c.layout(), c.plan(), c.spec()).z;
  }

  private static void compare(
      String what, double[] got, float[] at, float[] dz, Function<float[], double[]> forward) {
    float[] x = at.clone();
    for (int i = 0; i < x.length; i++) {
      double[] f = new double[5];
      double[] moved = new double[5];
      for (int s = -2; s <= 2; s++) {
        x[i] = at[i] + s * 0x1p-10f;
        moved[s + 2] = (double) x[i] - at[i];
        double[] z = forward.apply(x);
        for (int o = 0; o < z.length; o++) {
          f[s + 2] += dz[o] * z[o];
        }
      }
      x[i] = at[i];
      double near = (f[3] - f[1]) / (moved[3] - moved[1]);
      double far = (f[4] - f[0]) / (moved[4] - moved[0]);
      // Central differences of fourth order over the steps that float inputs really took.
      assertThat(got[i])
          .as("%s, element %d", what, i)
          .isCloseTo((4 * near - far) / 3, within(1e-8));
    }
  }
}
