package io.github.retmask.backend;

import static io.github.retmask.backend.TensorAssert.EPS;
import static io.github.retmask.backend.Workbench.normal;

import io.github.retmask.tensor.Tensor;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

abstract class RopeContract extends OpContract {
  private static final String SOURCE = "three roundings of a sum of two products";

  RopeContract(KernelsContract contract) {
    super(contract);
  }

  /// Rotates the first `rotated` of D elements.
  record Case(int heads, int headDim, int rotated, int... positions) {
    int half() {
      return rotated / 2;
    }

    int tokens() {
      return positions.length;
    }

    float[] x() {
      return normal(1, tokens() * heads * headDim);
    }

    double angle(int position, int i) {
      return position * Math.pow(10000, -2.0 * i / rotated);
    }

    /// Cosines or sines by position, `[P,R/2]`.
    float[] table(boolean cosine) {
      float[] table = new float[64 * half()];
      for (int at = 0; at < table.length; at++) {
        double angle = angle(at / half(), at % half());
        table[at] = (float) (cosine ? Math.cos(angle) : Math.sin(angle));
      }
      return table;
    }

    @Override
    public String toString() {
      return "H=" + heads + " D=" + headDim + " R=" + rotated + " N=" + tokens();
    }
  }

  static List<Case> cases() {
    return List.of(
        new Case(1, 2, 2, 0),
        new Case(2, 12, 12, 5, 0, 63, 5),
        new Case(6, 16, 16, 7, 8, 9),
        new Case(3, 17, 16, 1, 2, 3, 50),
        new Case(2, 34, 34, 3, 4),
        new Case(3, 12, 6, 40, 2),
        new Case(5, 66, 66, 13),
        new Case(2, 128, 32, 20, 10));
  }

  static float[] rotated(Workbench on, Case c, float[] x, boolean backward, boolean alias) {
    Tensor in = on.f32("x", x, c.tokens(), c.heads(), c.headDim());
    Tensor out = alias ? in : on.garbage("out", c.tokens(), c.heads(), c.headDim());
    Tensor cos = on.f32("cos", c.table(true), 64, c.half());
    Tensor sin = on.f32("sin", c.table(false), 64, c.half());
    if (backward) {
      on.ops.ropeBackward(out, in, cos, sin, on.ints("positions", c.positions()));
    } else {
      on.ops.rope(out, in, cos, sin, on.ints("positions", c.positions()));
    }
    return on.floats(out);
  }

  /// Element (row, column) of the D x D rotation of a token.
  private static double rotation(Case c, int position, int row, int column) {
    if (row >= c.rotated() || column >= c.rotated()) {
      return row == column ? 1 : 0;
    }
    int i = row % c.half();
    if (column % c.half() != i) {
      return 0;
    }
    double cos = (float) Math.cos(c.angle(position, i));
    double sin = (float) Math.sin(c.angle(position, i));
    return row == column ? cos : row < column ? -sin : sin;
  }

  private static void check(Case c, float[] got, float[] x, boolean transposed) {
    double[] want = new double[x.length];
    double[] tolerance = new double[x.length];
    for (int at = 0; at < x.length; at++) {
      int n = at / c.headDim() / c.heads();
      int row = at % c.headDim();
      for (int column = 0; column < c.headDim(); column++) {
        double factor =
            transposed
                ? rotation(c, c.positions()[n], column, row)
                : rotation(c, c.positions()[n], row, column);
        double term = factor * x[at - row + column];
        want[at] += term;
        tolerance[at] += row < c.rotated() ? 3 * EPS * Math.abs(term) : 0; // the rest is copied
      }
    }
    TensorAssert.assertThat("rope of " + c, got, c.tokens(), c.heads(), c.headDim())
        .isClose(want, tolerance, SOURCE);
  }

  @ParameterizedTest
  @MethodSource("cases")
  void rotatesHalvesByThePositionsAngle(Case c) {
    check(c, rotated(bench, c, c.x(), false, false), c.x(), false);
  }

  @ParameterizedTest
  @MethodSource("cases")
  void backwardIsTheTransposedRotation(Case c) {
    check(c, rotated(bench, c, c.x(), true, false), c.x(), true);
  }

  @ParameterizedTest
  @MethodSource("cases")
  void worksInPlace(Case c) {
    for (boolean backward : new boolean[] {false, true}) {
      TensorAssert.assertThat("rope in place", rotated(bench, c, c.x(), backward, true))
          .hasBits(rotated(bench, c, c.x(), backward, false));
    }
  }

  @Test
  void isReproducible() {
    int[] positions = new int[50];
    Arrays.setAll(positions, n -> n);
    Case c = new Case(6, 34, 34, positions);
    assertReproducible("rope", on -> new float[][] {rotated(on, c, c.x(), false, true)});
    assertReproducible("rope_backward", on -> new float[][] {rotated(on, c, c.x(), true, true)});
  }

  @Test
  void nanStaysInItsPair() {
    Case c = new Case(2, 8, 8, 3, 4);
    float[] x = c.x();
    float[] want = rotated(bench, c, x, false, false);
    x[8 + 1] = Float.NaN;
    want[8 + 1] = Float.NaN;
    want[8 + 5] = Float.NaN;
    TensorAssert.assertThat("rope out", rotated(bench, c, x, false, false), 2, 2, 8).hasBits(want);
  }
}
