package io.github.retmask.backend;

import static io.github.retmask.backend.TensorAssert.EPS;
import static io.github.retmask.backend.Workbench.exactIn;
import static io.github.retmask.backend.Workbench.normal;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

abstract class MatmulContract extends OpContract {
  private static final String SOURCE = "rounding of an F32 sum of products";

  MatmulContract(KernelsContract contract) {
    super(contract);
  }

  /// `[N,I] x [O,I]`.
  record Case(int rows, int inner, int outs, DType dtype, boolean biased) {
    float[] x() {
      return normal(1, rows * inner);
    }

    float[] weight() {
      return exactIn(dtype, normal(2, outs * inner));
    }

    float @Nullable [] bias() {
      return biased ? exactIn(dtype, normal(3, outs)) : null;
    }

    float[] dOut() {
      return normal(4, rows * outs);
    }
  }

  static List<Case> cases() {
    int[][] sizes = {
      {1, 1, 1},
      {1, 3, 13},
      {3, 13, 1},
      {13, 1, 3},
      {1, 207, 17},
      {2, 17, 33},
      {3, 16, 16},
      {4, 15, 31},
      {5, 64, 65},
      {7, 33, 15},
      {16, 31, 17},
      {17, 207, 19},
      {1, 1025, 207},
      {207, 13, 47},
      {65, 129, 131},
      {1, 511, 9}, // one chain
      {1, 512, 5}, // eight
      {2, 520, 3},
      {3, 519, 10},
      {9, 640, 7},
      {24, 1024, 11},
      {25, 1030, 50},
      {101, 4097, 49}
    };
    List<Case> cases = new ArrayList<>();
    for (int[] s : sizes) {
      for (DType dtype : new DType[] {DType.F32, DType.BF16, DType.F16}) {
        cases.add(new Case(s[0], s[1], s[2], dtype, cases.size() % 2 == 0));
      }
    }
    return cases;
  }

  /// The order of arithmetic that the contract fixes.
  static float[] ordered(float[] x, float[] weight, float @Nullable [] bias, int inner, int outs) {
    float[] out = new float[x.length / inner * outs];
    int chains = inner < 512 ? 1 : 8;
    for (int i = 0; i < out.length; i++) {
      float[] c = new float[8];
      for (int k = 0; k < inner; k++) {
        c[k % chains] =
            Math.fma(x[i / outs * inner + k], weight[i % outs * inner + k], c[k % chains]);
      }
      float sum = ((c[0] + c[4]) + (c[2] + c[6])) + ((c[1] + c[5]) + (c[3] + c[7]));
      out[i] = bias == null ? sum : sum + bias[i % outs];
    }
    return out;
  }

  static float[] forward(
      Workbench on, float[] x, float[] weight, float @Nullable [] bias, int inner, DType dtype) {
    int rows = x.length / inner;
    int outs = weight.length / inner;
    Tensor out = on.garbage("out", rows, outs);
    on.ops.matmul(
        out,
        on.f32("x", x, rows, inner),
        on.weight("weight", dtype, weight, outs, inner),
        bias == null ? null : on.weight("bias", dtype, bias, outs));
    return on.floats(out);
  }

  @ParameterizedTest
  @MethodSource("cases")
  void isInTheGivenOrderToTheBit(Case c) {
    float[] got = forward(bench, c.x(), c.weight(), c.bias(), c.inner(), c.dtype());
    TensorAssert.assertThat("matmul out", got, c.rows(), c.outs())
        .hasBits(ordered(c.x(), c.weight(), c.bias(), c.inner(), c.outs()));
  }

  static List<List<Case>> together() {
    List<List<Case>> all = new ArrayList<>();
    for (int rows : new int[] {1, 2, 9, 16}) {
      for (DType dtype : new DType[] {DType.F32, DType.BF16}) {
        all.add(
            List.of(
                new Case(rows, 520, 35, dtype, false),
                new Case(rows, 520, 3, dtype, true), // fewer than go together
                new Case(rows, 520, 9, dtype, false)));
        all.add(
            List.of(
                new Case(rows, 1024, 41, dtype, true), new Case(rows, 1024, 700, dtype, false)));
      }
      all.add(
          List.of(
              new Case(rows, 512, 16, DType.BF16, true), new Case(rows, 512, 16, DType.F16, true)));
    }
    all.add(
        List.of( // blocks of rows, one chain
            new Case(300, 24, 35, DType.F32, false),
            new Case(300, 24, 64, DType.F32, true),
            new Case(300, 24, 3, DType.BF16, true)));
    return all;
  }

  @ParameterizedTest
  @MethodSource("together")
  void severalOfOneInputAreWhatEachIs(List<Case> cases) {
    Case first = cases.getFirst();
    int inner = first.inner();
    float[] values = first.x();
    Tensor x = bench.f32("x", values, first.rows(), inner);
    Projection[] projections = new Projection[cases.size()];
    for (int i = 0; i < projections.length; i++) {
      Case c = cases.get(i);
      float[] bias = c.bias();
      projections[i] =
          new Projection(
              bench.garbage("out" + i, c.rows(), c.outs()),
              bench.weight("weight" + i, c.dtype(), c.weight(), c.outs(), inner),
              bias == null ? null : bench.weight("bias" + i, c.dtype(), bias, c.outs()));
    }
    bench.ops.matmuls(x, projections);
    for (int i = 0; i < projections.length; i++) {
      Case c = cases.get(i);
      float[] got = bench.floats(projections[i].out());
      TensorAssert.assertThat("matmuls out " + i, got, c.rows(), c.outs())
          .hasBits(ordered(values, c.weight(), c.bias(), inner, c.outs()));
    }
  }

  @Test
  void isReproducible() {
    Case c = new Case(21, 207, 77, DType.BF16, true);
    assertReproducible(
        "matmul",
        on -> new float[][] {forward(on, c.x(), c.weight(), c.bias(), c.inner(), c.dtype())});
    Case one = new Case(1, 207, 333, DType.F16, false);
    assertReproducible(
        "matmul of one row",
        on -> new float[][] {forward(on, one.x(), one.weight(), null, 207, DType.F16)});
  }

  @Test
  void infinityAndNanSpreadAsTheSumsSpreadThem() {
    float[] x = normal(5, 9 * 21);
    x[2 * 21 + 7] = Float.POSITIVE_INFINITY;
    x[20] = Float.NaN;
    x[5 * 21] = Float.NEGATIVE_INFINITY;
    Arrays.fill(x, 6 * 21, 7 * 21, -0f);
    x[7 * 21 + 3] = 3e38f;
    float[] weight = normal(6, 35 * 21);
    weight[7] = 0; // Inf x 0 is NaN: zeros are not skipped
    weight[3 * 21 + 5] = Float.NEGATIVE_INFINITY;
    weight[4 * 21 + 5] = Float.NaN;
    weight[5 * 21 + 3] = 3e38f;
    float[] got = forward(bench, x, weight, null, 21, DType.F32);
    TensorAssert.assertThat("matmul out", got, 9, 35).hasBits(ordered(x, weight, null, 21, 35));
  }

  @Test
  void everyStepRoundsOnce() {
    // 1 + 2^-23 plus a product a hair below 2^-24: rounded to double first, it would look like a
    // tie and go up.
    float[] x = {1 + 0x1p-23f, 0x1p-24f * (1 + 0x1p-23f)};
    float[] weight = {1, 1 - 0x1p-23f};
    TensorAssert.assertThat("matmul out", forward(bench, x, weight, null, 2, DType.F32))
        .hasBits(1 + 0x1p-23f);
  }

  @Test
  void subnormalProductsAreNotFlushed() {
    float[] x = new float[5 * 19];
    Arrays.fill(x, 1e-30f);
    x[3] = 1e-38f;
    float[] weight = new float[18 * 19];
    Arrays.fill(weight, -3e-11f);
    weight[19] = 1e-42f;
    float[] got = forward(bench, x, weight, null, 19, DType.F32);
    TensorAssert.assertThat("matmul out", got, 5, 18).hasBits(ordered(x, weight, null, 19, 18));
  }

  @Test
  void readsAndWritesSlicesAtAnyAlignment() {
    float[] x = normal(7, 6 * 13);
    float[] weight = normal(8, 20 * 13);
    Tensor out = bench.filled("out", 5, 7, 17);
    bench.ops.matmul(
        out.slice(1, 4),
        bench.f32("x", x, 6, 13).slice(3, 6),
        bench.f32("weight", weight, 20, 13).slice(1, 18),
        null);
    float[] want = new float[7 * 17];
    Arrays.fill(want, 5);
    float[] part =
        ordered(
            Arrays.copyOfRange(x, 3 * 13, 6 * 13),
            Arrays.copyOfRange(weight, 13, 18 * 13),
            null,
            13,
            17);
    System.arraycopy(part, 0, want, 17, part.length);
    TensorAssert.assertThat("matmul out", bench.floats(out), 7, 17).hasBits(want);
  }

  // --- backward -------------------------------------------------------------------------------

  static float[] backwardInput(
      Workbench on, Case c, float[] dOut, float before, Accumulate intoDx) {
    int rows = dOut.length / c.outs();
    Tensor dx = on.filled("dx", before, rows, c.inner());
    on.ops.matmulBackwardInput(
        dx,
        on.f32("dOut", dOut, rows, c.outs()),
        on.weight("weight", c.dtype(), c.weight(), c.outs(), c.inner()),
        intoDx);
    return on.floats(dx);
  }

  @ParameterizedTest
  @MethodSource("cases")
  void backwardInputIsDOutTimesWeight(Case c) {
    float[] dOut = c.dOut();
    float[] w = c.weight();
    double[] dx = new double[c.rows() * c.inner()];
    double[] tolerance = new double[dx.length];
    for (int i = 0; i < dx.length; i++) {
      double abs = 0;
      for (int o = 0; o < c.outs(); o++) {
        double product =
            (double) dOut[i / c.inner() * c.outs() + o] * w[o * c.inner() + i % c.inner()];
        dx[i] += product;
        abs += Math.abs(product);
      }
      tolerance[i] = (c.outs() + 2) * EPS * abs;
    }
    TensorAssert.assertThat(
            "matmul_backward_input dx",
            backwardInput(bench, c, dOut, Float.NaN, Accumulate.SET),
            c.rows(),
            c.inner())
        .isClose(dx, tolerance, SOURCE);
    for (int i = 0; i < dx.length; i++) {
      dx[i] += 2.5;
      tolerance[i] += (c.outs() + 2) * EPS * 2.5; // the sum may start from the former content
    }
    TensorAssert.assertThat(
            "matmul_backward_input added to dx",
            backwardInput(bench, c, dOut, 2.5f, Accumulate.ADD),
            c.rows(),
            c.inner())
        .isClose(dx, tolerance, SOURCE);
  }

  static float[][] backwardWeight(Workbench on, Case c, float[] dOut, float[] x) {
    Tensor dWeight = on.filled("dWeight", 1.25f, c.outs(), c.inner());
    Tensor dBias = c.biased() ? on.filled("dBias", -0.5f, c.outs()) : null;
    on.ops.matmulBackwardWeight(
        dWeight,
        dBias,
        on.f32("dOut", dOut, c.rows(), c.outs()),
        on.f32("x", x, c.rows(), c.inner()));
    return new float[][] {on.floats(dWeight), dBias == null ? new float[0] : on.floats(dBias)};
  }

  @ParameterizedTest
  @MethodSource("cases")
  void backwardWeightAddsDOutTransposedTimesX(Case c) {
    float[] dOut = c.dOut();
    float[] x = c.x();
    double[] dWeight = new double[c.outs() * c.inner()];
    double[] tolerance = new double[dWeight.length];
    double[] dBias = new double[c.biased() ? c.outs() : 0];
    double[] dBiasTolerance = new double[dBias.length];
    double bound = (c.rows() + 2) * EPS;
    for (int i = 0; i < dWeight.length; i++) {
      dWeight[i] = 1.25;
      tolerance[i] = 1.25 * bound;
      for (int n = 0; n < c.rows(); n++) {
        double product =
            (double) dOut[n * c.outs() + i / c.inner()] * x[n * c.inner() + i % c.inner()];
        dWeight[i] += product;
        tolerance[i] += bound * Math.abs(product);
      }
    }
    for (int o = 0; o < dBias.length; o++) {
      dBias[o] = -0.5;
      dBiasTolerance[o] = 0.5 * bound;
      for (int n = 0; n < c.rows(); n++) {
        dBias[o] += dOut[n * c.outs() + o];
        dBiasTolerance[o] += bound * Math.abs(dOut[n * c.outs() + o]);
      }
    }
    float[][] got = backwardWeight(bench, c, dOut, x);
    TensorAssert.assertThat("matmul_backward_weight dWeight", got[0], c.outs(), c.inner())
        .isClose(dWeight, tolerance, SOURCE);
    TensorAssert.assertThat("matmul_backward_weight dBias", got[1])
        .isClose(dBias, dBiasTolerance, SOURCE);
  }

  @Test
  void backwardIsReproducible() {
    Case c = new Case(37, 53, 71, DType.BF16, true);
    float[] dOut = c.dOut();
    float[] x = c.x();
    assertReproducible(
        "matmul_backward_input",
        on -> new float[][] {backwardInput(on, c, dOut, 0.5f, Accumulate.ADD)});
    assertReproducible("matmul_backward_weight", on -> backwardWeight(on, c, dOut, x));
  }

  @Test
  void aRowOfDxIsTheSameAlone() {
    Case c = new Case(13, 53, 71, DType.F32, false);
    float[] dOut = c.dOut();
    float[] all = backwardInput(bench, c, dOut, 0, Accumulate.SET);
    for (int n = 0; n < 13; n++) {
      float[] alone =
          backwardInput(bench, c, Arrays.copyOfRange(dOut, n * 71, n * 71 + 71), 0, Accumulate.SET);
      TensorAssert.assertThat("matmul_backward_input row " + n, alone)
          .hasBits(Arrays.copyOfRange(all, n * 53, n * 53 + 53));
    }
  }

  @Test
  void nanInOneRowOfDOutStaysInThatRowOfDx() {
    Case c = new Case(9, 21, 19, DType.F32, false);
    float[] dOut = c.dOut();
    float[] clean = backwardInput(bench, c, dOut, 0, Accumulate.SET);
    dOut[4 * 19 + 3] = Float.NaN;
    float[] want = clean.clone();
    Arrays.fill(want, 4 * 21, 5 * 21, Float.NaN);
    TensorAssert.assertThat(
            "matmul_backward_input dx", backwardInput(bench, c, dOut, 0, Accumulate.SET), 9, 21)
        .hasBits(want);
  }
}
