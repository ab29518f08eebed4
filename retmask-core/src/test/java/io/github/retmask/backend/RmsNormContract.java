package io.github.retmask.backend;

import static io.github.retmask.backend.TensorAssert.EPS;
import static io.github.retmask.backend.Workbench.exactIn;
import static io.github.retmask.backend.Workbench.normal;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

abstract class RmsNormContract extends OpContract {
  private static final float NORM_EPS = 1e-6f;
  private static final String SOURCE = "rounding of an F32 sum over the row";

  RmsNormContract(KernelsContract contract) {
    super(contract);
  }

  record Case(int rows, int width, DType dtype) {
    float[] x() {
      float[] x = normal(1, rows * width);
      for (int i = 0; i < x.length; i++) {
        x[i] *= 1 + 3 * (i / width); // rows of different size
      }
      return x;
    }

    float[] weight() {
      return exactIn(dtype, normal(2, width));
    }
  }

  static List<Case> cases() {
    return List.of(
        new Case(1, 1, DType.F32),
        new Case(3, 3, DType.F32),
        new Case(2, 13, DType.BF16),
        new Case(5, 15, DType.F16),
        new Case(5, 16, DType.F32),
        new Case(5, 17, DType.BF16),
        new Case(13, 207, DType.F32),
        new Case(207, 12, DType.F16));
  }

  private static double rstd(double[] x, int row, int width) {
    double squares = 0;
    for (int i = 0; i < width; i++) {
      squares += x[row * width + i] * x[row * width + i];
    }
    return 1 / Math.sqrt(squares / width + NORM_EPS);
  }

  private static double[] widened(float[] values) {
    double[] wide = new double[values.length];
    Arrays.setAll(wide, i -> values[i]);
    return wide;
  }

  static float[][] forward(Workbench on, float[] x, float[] weight, DType dtype) {
    int width = weight.length;
    int rows = x.length / width;
    Tensor out = on.garbage("out", rows, width);
    Tensor rstd = on.garbage("rstd", rows);
    on.ops.rmsNorm(
        out,
        rstd,
        on.f32("x", x, rows, width),
        on.weight("weight", dtype, weight, width),
        NORM_EPS);
    return new float[][] {on.floats(out), on.floats(rstd)};
  }

  @ParameterizedTest
  @MethodSource("cases")
  void normalisesEveryRow(Case c) {
    double[] x = widened(c.x());
    float[] w = c.weight();
    double[] out = new double[x.length];
    double[] outTolerance = new double[x.length];
    double[] rstd = new double[c.rows()];
    double[] rstdTolerance = new double[c.rows()];
    for (int i = 0; i < x.length; i++) {
      int r = i / c.width();
      rstd[r] = rstd(x, r, c.width());
      out[i] = x[i] * rstd[r] * w[i % c.width()];
      // The sum's relative error halves under the root; five more roundings.
      rstdTolerance[r] = (c.width() / 2.0 + 5) * EPS * rstd[r];
      outTolerance[i] = (c.width() / 2.0 + 7) * EPS * Math.abs(out[i]);
    }
    float[][] got = forward(bench, c.x(), w, c.dtype());
    TensorAssert.assertThat("rms_norm out", got[0], c.rows(), c.width())
        .isClose(out, outTolerance, SOURCE);
    TensorAssert.assertThat("rms_norm rstd", got[1]).isClose(rstd, rstdTolerance, SOURCE);
  }

  static float[][] backward(
      Workbench on, Case c, float[] x, float[] dOut, float dxBefore, Accumulate intoDx) {
    int rows = x.length / c.width();
    float[] rstd = new float[rows];
    for (int r = 0; r < rows; r++) {
      rstd[r] = (float) rstd(widened(x), r, c.width());
    }
    Tensor dx = on.filled("dx", dxBefore, rows, c.width());
    Tensor dWeight = on.filled("dWeight", 0.75f, c.width());
    on.ops.rmsNormBackward(
        dx,
        dWeight,
        on.f32("dOut", dOut, rows, c.width()),
        on.f32("x", x, rows, c.width()),
        on.f32("rstd", rstd, rows),
        on.weight("weight", c.dtype(), c.weight(), c.width()),
        intoDx);
    return new float[][] {on.floats(dx), on.floats(dWeight)};
  }

  @ParameterizedTest
  @CsvSource({"SET,NaN", "ADD,0.375"})
  void backwardIsTheGradientOfForward(Accumulate intoDx, float before) {
    for (Case c : cases()) {
      float[] x = c.x();
      float[] w = c.weight();
      float[] dOut = normal(3, x.length);
      double[] dx = new double[x.length];
      double[] dxTolerance = new double[x.length];
      double[] dWeight = new double[w.length];
      double[] dWeightTolerance = new double[w.length];
      Arrays.fill(dWeight, 0.75);
      Arrays.fill(dWeightTolerance, EPS);
      for (int r = 0; r < c.rows(); r++) {
        int at = r * c.width();
        double[] d =
            gradient(
                Arrays.copyOfRange(x, at, at + c.width()),
                row -> {
                  double scale = rstd(row, 0, c.width());
                  double loss = 0;
                  for (int i = 0; i < c.width(); i++) {
                    loss += dOut[at + i] * row[i] * scale * w[i];
                  }
                  return loss;
                });
        double scale = rstd(widened(x), r, c.width());
        double meanAbs = 0;
        for (int i = 0; i < c.width(); i++) {
          meanAbs += Math.abs(dOut[at + i] * w[i] * x[at + i]) / c.width();
        }
        for (int i = 0; i < c.width(); i++) {
          double term = dOut[at + i] * x[at + i] * scale;
          double size =
              scale * Math.abs(dOut[at + i] * w[i])
                  + Math.abs(x[at + i]) * scale * scale * scale * meanAbs;
          dx[at + i] = d[i] + (intoDx == Accumulate.ADD ? before : 0);
          dxTolerance[at + i] =
              (c.width() + 10) * EPS * size + 2 * EPS * Math.abs(dx[at + i]) + 1e-9;
          dWeight[i] += term;
          dWeightTolerance[i] += (c.rows() + 4) * EPS * (Math.abs(term) + 0.75);
        }
      }
      float[][] got = backward(bench, c, x, dOut, before, intoDx);
      TensorAssert.assertThat("rms_norm_backward dx of " + c, got[0], c.rows(), c.width())
          .isClose(dx, dxTolerance, SOURCE + " and 1e-9 of the differences");
      TensorAssert.assertThat("rms_norm_backward dWeight of " + c, got[1])
          .isClose(dWeight, dWeightTolerance, SOURCE);
    }
  }

  @ParameterizedTest
  @MethodSource("cases")
  void theNormOfASumIsTheSumThenItsNorm(Case c) {
    float[] b = normal(8, c.x().length);
    float[] sum = c.x();
    for (int i = 0; i < sum.length; i++) {
      sum[i] += b[i];
    }
    float[][] want = forward(bench, sum, c.weight(), c.dtype());
    for (int into = 0; into < 3; into++) { // a tensor of its own, a, b
      Tensor first = bench.f32("a", c.x(), c.rows(), c.width());
      Tensor second = bench.f32("b", b, c.rows(), c.width());
      Tensor out = bench.garbage("out", c.rows(), c.width());
      Tensor rstd = bench.garbage("rstd", c.rows());
      Tensor to =
          into == 1 ? first : into == 2 ? second : bench.garbage("sum", c.rows(), c.width());
      Tensor weight = bench.weight("weight", c.dtype(), c.weight(), c.width());
      bench.ops.addRmsNorm(out, rstd, to, first, second, weight, NORM_EPS);
      TensorAssert.assertThat("add_rms_norm sum", bench.floats(to)).hasBits(sum);
      TensorAssert.assertThat("add_rms_norm out", bench.floats(out)).hasBits(want[0]);
      TensorAssert.assertThat("add_rms_norm rstd", bench.floats(rstd)).hasBits(want[1]);
    }
  }

  @Test
  void isReproducible() {
    Case c = new Case(19, 207, DType.BF16);
    float[] dOut = normal(4, 19 * 207);
    assertReproducible("rms_norm", on -> forward(on, c.x(), c.weight(), c.dtype()));
    assertReproducible(
        "rms_norm_backward", on -> backward(on, c, c.x(), dOut, 0.5f, Accumulate.ADD));
  }

  @Test
  void aRowIsTheSameAlone() {
    Case c = new Case(13, 37, DType.F32);
    float[] x = c.x();
    float[] dOut = normal(5, x.length);
    float[][] all = forward(bench, x, c.weight(), c.dtype());
    float[][] dAll = backward(bench, c, x, dOut, 0, Accumulate.SET);
    for (int r = 0; r < 13; r++) {
      float[] xr = Arrays.copyOfRange(x, r * 37, r * 37 + 37);
      float[] dr = Arrays.copyOfRange(dOut, r * 37, r * 37 + 37);
      TensorAssert.assertThat("rms_norm row " + r, forward(bench, xr, c.weight(), c.dtype())[0])
          .hasBits(Arrays.copyOfRange(all[0], r * 37, r * 37 + 37));
      TensorAssert.assertThat(
              "rms_norm_backward row " + r, backward(bench, c, xr, dr, 0, Accumulate.SET)[0])
          .hasBits(Arrays.copyOfRange(dAll[0], r * 37, r * 37 + 37));
    }
  }

  @Test
  void nanStaysInItsRowAndZerosGiveZeros() {
    float[] x = normal(6, 4 * 17);
    x[17 + 5] = Float.NaN;
    Arrays.fill(x, 2 * 17, 3 * 17, 0f);
    float[] w = normal(7, 17);
    float[] out = forward(bench, x, w, DType.F32)[0];
    for (int i = 0; i < out.length; i++) {
      int row = i / 17;
      if (Float.isNaN(out[i]) != (row == 1) || row == 2 && out[i] != 0) {
        throw new AssertionError("rms_norm out [%d, %d] is %s".formatted(row, i % 17, out[i]));
      }
    }
  }
}
