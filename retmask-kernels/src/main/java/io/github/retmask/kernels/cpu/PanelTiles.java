package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static io.github.retmask.kernels.cpu.Panels.COLUMNS;

import jdk.incubator.vector.FloatVector;

/// Products of panels, for attention: all three matrices are heap arrays with rows of 64. C is added
/// to. See [Tiles] for the form of the loops.
final class PanelTiles {
  private PanelTiles() {}

  /// `C[r][j] += sum_k A[r][k] B[k][j]`. Columns of C are computed in whole vectors, so up to a
  /// vector's width more than asked for.
  static void multiply(
      float[] a,
      int aAt,
      float[] b,
      int bAt,
      float[] c,
      int cAt,
      int rows,
      int columns,
      int steps) {
    for (int j = 0; j < columns; j += 2 * WIDTH) {
      boolean wide = columns - j > WIDTH;
      int r = 0;
      for (; r + 6 <= rows; r += 6) {
        if (wide) {
          six2(a, aAt + r * COLUMNS, b, bAt + j, c, cAt + r * COLUMNS + j, steps);
        } else {
          six1(a, aAt + r * COLUMNS, b, bAt + j, c, cAt + r * COLUMNS + j, steps);
        }
      }
      for (; r < rows; r++) {
        if (wide) {
          one2(a, aAt + r * COLUMNS, b, bAt + j, c, cAt + r * COLUMNS + j, steps);
        } else {
          one1(a, aAt + r * COLUMNS, b, bAt + j, c, cAt + r * COLUMNS + j, steps);
        }
      }
    }
  }

  /// `C[r][j] += sum_k A[k][r] B[k][j]` for TILE columns j.
  static void multiplyTransposed(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int rows, int steps) {
    int r = 0;
    for (; r + 4 <= rows; r += 4) {
      transposedFour2(a, aAt + r, b, bAt, c, cAt + r * COLUMNS, steps);
    }
    for (; r < rows; r++) {
      transposedOne2(a, aAt + r, b, bAt, c, cAt + r * COLUMNS, steps);
    }
  }

  /// Six rows by two vectors.
  private static void six2(float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps) {
    FloatVector s00 = FloatVector.fromArray(FLOAT, c, cAt);
    FloatVector s01 = FloatVector.fromArray(FLOAT, c, cAt + WIDTH);
    FloatVector s10 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS);
    FloatVector s11 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS + WIDTH);
    FloatVector s20 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS);
    FloatVector s21 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS + WIDTH);
    FloatVector s30 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS);
    FloatVector s31 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS + WIDTH);
    FloatVector s40 = FloatVector.fromArray(FLOAT, c, cAt + 4 * COLUMNS);
    FloatVector s41 = FloatVector.fromArray(FLOAT, c, cAt + 4 * COLUMNS + WIDTH);
    FloatVector s50 = FloatVector.fromArray(FLOAT, c, cAt + 5 * COLUMNS);
    FloatVector s51 = FloatVector.fromArray(FLOAT, c, cAt + 5 * COLUMNS + WIDTH);
    int a1 = aAt + COLUMNS;
    int a2 = aAt + 2 * COLUMNS;
    int a3 = aAt + 3 * COLUMNS;
    int a4 = aAt + 4 * COLUMNS;
    int a5 = aAt + 5 * COLUMNS;
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[aAt + k]);
      s00 = x0.fma(b0, s00);
      s01 = x0.fma(b1, s01);
      FloatVector x1 = FloatVector.broadcast(FLOAT, a[a1 + k]);
      s10 = x1.fma(b0, s10);
      s11 = x1.fma(b1, s11);
      FloatVector x2 = FloatVector.broadcast(FLOAT, a[a2 + k]);
      s20 = x2.fma(b0, s20);
      s21 = x2.fma(b1, s21);
      FloatVector x3 = FloatVector.broadcast(FLOAT, a[a3 + k]);
      s30 = x3.fma(b0, s30);
      s31 = x3.fma(b1, s31);
      FloatVector x4 = FloatVector.broadcast(FLOAT, a[a4 + k]);
      s40 = x4.fma(b0, s40);
      s41 = x4.fma(b1, s41);
      FloatVector x5 = FloatVector.broadcast(FLOAT, a[a5 + k]);
      s50 = x5.fma(b0, s50);
      s51 = x5.fma(b1, s51);
    }
    s00.intoArray(c, cAt);
    s01.intoArray(c, cAt + WIDTH);
    s10.intoArray(c, cAt + COLUMNS);
    s11.intoArray(c, cAt + COLUMNS + WIDTH);
    s20.intoArray(c, cAt + 2 * COLUMNS);
    s21.intoArray(c, cAt + 2 * COLUMNS + WIDTH);
    s30.intoArray(c, cAt + 3 * COLUMNS);
    s31.intoArray(c, cAt + 3 * COLUMNS + WIDTH);
    s40.intoArray(c, cAt + 4 * COLUMNS);
    s41.intoArray(c, cAt + 4 * COLUMNS + WIDTH);
    s50.intoArray(c, cAt + 5 * COLUMNS);
    s51.intoArray(c, cAt + 5 * COLUMNS + WIDTH);
  }

  /// Six rows by one vector.
  private static void six1(float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps) {
    FloatVector s00 = FloatVector.fromArray(FLOAT, c, cAt);
    FloatVector s10 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS);
    FloatVector s20 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS);
    FloatVector s30 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS);
    FloatVector s40 = FloatVector.fromArray(FLOAT, c, cAt + 4 * COLUMNS);
    FloatVector s50 = FloatVector.fromArray(FLOAT, c, cAt + 5 * COLUMNS);
    int a1 = aAt + COLUMNS;
    int a2 = aAt + 2 * COLUMNS;
    int a3 = aAt + 3 * COLUMNS;
    int a4 = aAt + 4 * COLUMNS;
    int a5 = aAt + 5 * COLUMNS;
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[aAt + k]);
      s00 = x0.fma(b0, s00);
      FloatVector x1 = FloatVector.broadcast(FLOAT, a[a1 + k]);
      s10 = x1.fma(b0, s10);
      FloatVector x2 = FloatVector.broadcast(FLOAT, a[a2 + k]);
      s20 = x2.fma(b0, s20);
      FloatVector x3 = FloatVector.broadcast(FLOAT, a[a3 + k]);
      s30 = x3.fma(b0, s30);
      FloatVector x4 = FloatVector.broadcast(FLOAT, a[a4 + k]);
      s40 = x4.fma(b0, s40);
      FloatVector x5 = FloatVector.broadcast(FLOAT, a[a5 + k]);
      s50 = x5.fma(b0, s50);
    }
    s00.intoArray(c, cAt);
    s10.intoArray(c, cAt + COLUMNS);
    s20.intoArray(c, cAt + 2 * COLUMNS);
    s30.intoArray(c, cAt + 3 * COLUMNS);
    s40.intoArray(c, cAt + 4 * COLUMNS);
    s50.intoArray(c, cAt + 5 * COLUMNS);
  }

  /// One row by two vectors.
  private static void one2(float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps) {
    FloatVector s00 = FloatVector.fromArray(FLOAT, c, cAt);
    FloatVector s01 = FloatVector.fromArray(FLOAT, c, cAt + WIDTH);
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[aAt + k]);
      s00 = x0.fma(b0, s00);
      s01 = x0.fma(b1, s01);
    }
    s00.intoArray(c, cAt);
    s01.intoArray(c, cAt + WIDTH);
  }

  /// One row by one vector.
  private static void one1(float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps) {
    FloatVector s00 = FloatVector.fromArray(FLOAT, c, cAt);
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[aAt + k]);
      s00 = x0.fma(b0, s00);
    }
    s00.intoArray(c, cAt);
  }

  /// Four rows by two vectors, A transposed.
  private static void transposedFour2(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps) {
    FloatVector s00 = FloatVector.fromArray(FLOAT, c, cAt);
    FloatVector s01 = FloatVector.fromArray(FLOAT, c, cAt + WIDTH);
    FloatVector s10 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS);
    FloatVector s11 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS + WIDTH);
    FloatVector s20 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS);
    FloatVector s21 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS + WIDTH);
    FloatVector s30 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS);
    FloatVector s31 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS + WIDTH);
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[aAt + k * COLUMNS]);
      s00 = x0.fma(b0, s00);
      s01 = x0.fma(b1, s01);
      FloatVector x1 = FloatVector.broadcast(FLOAT, a[aAt + k * COLUMNS + 1]);
      s10 = x1.fma(b0, s10);
      s11 = x1.fma(b1, s11);
      FloatVector x2 = FloatVector.broadcast(FLOAT, a[aAt + k * COLUMNS + 2]);
      s20 = x2.fma(b0, s20);
      s21 = x2.fma(b1, s21);
      FloatVector x3 = FloatVector.broadcast(FLOAT, a[aAt + k * COLUMNS + 3]);
      s30 = x3.fma(b0, s30);
      s31 = x3.fma(b1, s31);
    }
    s00.intoArray(c, cAt);
    s01.intoArray(c, cAt + WIDTH);
    s10.intoArray(c, cAt + COLUMNS);
    s11.intoArray(c, cAt + COLUMNS + WIDTH);
    s20.intoArray(c, cAt + 2 * COLUMNS);
    s21.intoArray(c, cAt + 2 * COLUMNS + WIDTH);
    s30.intoArray(c, cAt + 3 * COLUMNS);
    s31.intoArray(c, cAt + 3 * COLUMNS + WIDTH);
  }

  /// One row by two vectors, A transposed.
  private static void transposedOne2(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps) {
    FloatVector s00 = FloatVector.fromArray(FLOAT, c, cAt);
    FloatVector s01 = FloatVector.fromArray(FLOAT, c, cAt + WIDTH);
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[aAt + k * COLUMNS]);
      s00 = x0.fma(b0, s00);
      s01 = x0.fma(b1, s01);
    }
    s00.intoArray(c, cAt);
    s01.intoArray(c, cAt + WIDTH);
  }
}
