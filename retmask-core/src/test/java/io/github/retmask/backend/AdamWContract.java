package io.github.retmask.backend;

import static io.github.retmask.backend.TensorAssert.EPS;
import static io.github.retmask.backend.Workbench.normal;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

abstract class AdamWContract extends OpContract {

  AdamWContract(KernelsContract contract) {
    super(contract);
  }

  static List<AdamWStep> steps() {
    return List.of(
        new AdamWStep(1, 1e-3, 0.9, 0.999, 1e-8, 0, 1),
        new AdamWStep(1, 2e-5, 0.9, 0.95, 1e-8, 0.1, 0.37),
        new AdamWStep(7, 0.1, 0.8, 0.99, 1e-5, 0.5, 1),
        new AdamWStep(100_000, 1e-3, 0.9, 0.999, 1e-8, 0.01, 1e-3));
  }

  private static float[] second(int length) {
    float[] v = normal(4, length);
    for (int i = 0; i < length; i++) {
      v[i] *= v[i] * 0.01f;
    }
    return v;
  }

  static float[][] update(Workbench on, AdamWStep step, int length) {
    Tensor param = on.f32("param", normal(1, length), length);
    Tensor m = on.f32("m", normal(3, length), length);
    Tensor v = on.f32("v", second(length), length);
    on.ops.adamW(param, on.f32("grad", normal(2, length), length), m, v, step);
    return new float[][] {on.floats(param), on.floats(m), on.floats(v)};
  }

  @ParameterizedTest
  @MethodSource("steps")
  void updatesParameterAndMoments(AdamWStep s) {
    for (int length : new int[] {1, 3, 13, 15, 16, 17, 207, 70_001}) {
      float[] param = normal(1, length);
      float[] grad = normal(2, length);
      float[] m = normal(3, length);
      float[] v = second(length);
      double[][] want = new double[3][length];
      double[][] tolerance = new double[3][length];
      for (int i = 0; i < length; i++) {
        double g = s.gradScale() * grad[i];
        double mNew = s.beta1() * m[i] + (1 - s.beta1()) * g;
        double vNew = s.beta2() * v[i] + (1 - s.beta2()) * g * g;
        double mHat = mNew / (1 - Math.pow(s.beta1(), s.step()));
        double vHat = vNew / (1 - Math.pow(s.beta2(), s.step()));
        double update = s.learningRate() * mHat / (Math.sqrt(vHat) + s.eps());
        double kept = param[i] * (1 - s.learningRate() * s.weightDecay());
        want[0][i] = kept - update;
        want[1][i] = mNew;
        want[2][i] = vNew;
        // Each factor rounds once as a scalar and once in the product.
        double mError = 4 * EPS * (Math.abs(s.beta1() * m[i]) + Math.abs((1 - s.beta1()) * g));
        tolerance[1][i] = mError;
        tolerance[2][i] = 6 * EPS * vNew;
        tolerance[0][i] =
            Math.abs(update) * (mError / Math.max(Math.abs(mNew), mError) + 12 * EPS)
                + s.learningRate() * 1e-30
                + 4 * EPS * (Math.abs(kept) + Math.abs(update));
      }
      float[][] got = update(bench, s, length);
      String[] names = {"param", "m", "v"};
      for (int i = 0; i < 3; i++) {
        TensorAssert.assertThat("adamw " + names[i], got[i])
            .isClose(want[i], tolerance[i], "roundings of an F32 update, to first order");
      }
    }
  }

  @Test
  void noGradientAndNoMomentsLeaveOnlyTheDecay() {
    Tensor param = bench.f32("param", new float[] {1, -2, 0}, 3);
    Tensor m = bench.f32("m", new float[3], 3);
    Tensor v = bench.f32("v", new float[3], 3);
    AdamWStep step = new AdamWStep(1, 0.5, 0.9, 0.999, 1e-8, 0.5, 1);
    bench.ops.adamW(param, bench.f32("grad", new float[3], 3), m, v, step);
    TensorAssert.assertThat("adamw param", bench.floats(param)).hasBits(0.75f, -1.5f, 0);
    TensorAssert.assertThat("adamw m", bench.floats(m)).hasBits(0, 0, 0);
    TensorAssert.assertThat("adamw v", bench.floats(v)).hasBits(0, 0, 0);
  }

  @Test
  void theFirstStepMovesByTheLearningRateAgainstTheGradient() {
    Tensor param = bench.f32("param", new float[] {0, 0, 0}, 3);
    Tensor m = bench.f32("m", new float[3], 3);
    Tensor v = bench.f32("v", new float[3], 3);
    AdamWStep step = new AdamWStep(1, 0.01, 0.9, 0.999, 0, 0, 1);
    bench.ops.adamW(param, bench.f32("grad", new float[] {1e-10f, -5, 1e10f}, 3), m, v, step);
    double[] tolerance = {16 * EPS * 0.01, 16 * EPS * 0.01, 16 * EPS * 0.01};
    TensorAssert.assertThat("adamw param", bench.floats(param))
        .isClose(new double[] {-0.01, 0.01, -0.01}, tolerance, "16 roundings");
  }

  @Test
  void aWeightInBfloat16IsItsMasterRounded() {
    AdamWStep step = new AdamWStep(7, 0.1, 0.8, 0.99, 1e-5, 0.5, 0.9);
    for (int length : new int[] {1, 17, 5003}) {
      Tensor weight = bench.weight("weight", DType.BF16, new float[length], length);
      Tensor master = bench.f32("master", normal(1, length), length);
      Tensor m = bench.f32("m", normal(3, length), length);
      Tensor v = bench.f32("v", second(length), length);
      Tensor grad = bench.f32("grad", normal(2, length), length);
      bench.ops.adamW(weight, master, grad, m, v, step);
      float[][] want = update(bench, step, length);
      TensorAssert.assertThat("adamw master", bench.floats(master)).hasBits(want[0]);
      TensorAssert.assertThat("adamw m", bench.floats(m)).hasBits(want[1]);
      TensorAssert.assertThat("adamw v", bench.floats(v)).hasBits(want[2]);
      Tensor rounded = bench.weight("rounded", DType.BF16, new float[length], length);
      bench.ops.cast(rounded, master);
      TensorAssert.assertThat("adamw weight", bench.floats(weight)).hasBits(bench.floats(rounded));
    }
  }

  @Test
  void isReproducible() {
    AdamWStep step = new AdamWStep(7, 0.1, 0.8, 0.99, 1e-5, 0.5, 0.9);
    assertReproducible("adamw", on -> update(on, step, 5003));
  }
}
