package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static io.github.retmask.kernels.cpu.Panels.COLUMNS;

import jdk.incubator.vector.FloatVector;

/// Products of small matrices in heap arrays, for attention; C is added to. See [Tiles] for the form
/// of the loops.
final class PanelTiles {
  private PanelTiles() {}

  /// `C[r][j] += sum_k A[r][k] B[k][j]`. Columns of C are computed in whole vectors, so up to a
  /// vector's width more than asked for.
  ///
  /// @param aRow distance of rows of A
  /// @param b a panel
  /// @param cRow distance of rows of C
  static void multiply(
      float[] a,
      int aAt,
      int aRow,
      float[] b,
      int bAt,
      float[] c,
      int cAt,
      int cRow,
      int rows,
      int columns,
      int steps) {
    for (int j = 0; j < columns; j += 2 * WIDTH) {
      boolean wide = columns - j > WIDTH;
      int r = 0;
      for (; r + 6 <= rows; r += 6) {
        if (wide) {
          six2(a, aAt + r * aRow, aRow, b, bAt + j, c, cAt + r * cRow + j, cRow, steps);
        } else {
          six1(a, aAt + r * aRow, aRow, b, bAt + j, c, cAt + r * cRow + j, cRow, steps);
        }
      }
      for (; r < rows; r++) {
        if (wide) {
          one2(a, aAt + r * aRow, b, bAt + j, c, cAt + r * cRow + j, steps);
        } else {
          one1(a, aAt + r * aRow, b, bAt + j, c, cAt + r * cRow + j, steps);
        }
      }
    }
  }

  /// `C[r][j] += sum_k A[k][r] B[k][j]` for two vectors of columns j.
  ///
  /// @param a a panel
  /// @param b a panel
  /// @param cRow distance of rows of C
  static void multiplyTransposed(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int cRow, int rows, int steps) {
    int r = 0;
    for (; r + 6 <= rows; r += 6) {
      transposedSix2(a, aAt + r, b, bAt, c, cAt + r * cRow, cRow, steps);
    }
    if (r + 4 <= rows) {
      transposedFour2(a, aAt + r, b, bAt, c, cAt + r * cRow, cRow, steps);
      r += 4;
    }
    for (; r < rows; r++) {
      transposedOne2(a, aAt + r, b, bAt, c, cAt + r * cRow, steps);
    }
  }

  /// Six rows by two vectors.
  private static void six2(
      float[] a, int aAt, int aRow, float[] b, int bAt, float[] c, int cAt, int cRow, int steps) {
    FloatVector s00 = FloatVector.fromArray(FLOAT, c, cAt);
    FloatVector s01 = FloatVector.fromArray(FLOAT, c, cAt + WIDTH);
    FloatVector s10 = FloatVector.fromArray(FLOAT, c, cAt + cRow);
    FloatVector s11 = FloatVector.fromArray(FLOAT, c, cAt + cRow + WIDTH);
    FloatVector s20 = FloatVector.fromArray(FLOAT, c, cAt + 2 * cRow);
    FloatVector s21 = FloatVector.fromArray(FLOAT, c, cAt + 2 * cRow + WIDTH);
    FloatVector s30 = FloatVector.fromArray(FLOAT, c, cAt + 3 * cRow);
    FloatVector s31 = FloatVector.fromArray(FLOAT, c, cAt + 3 * cRow + WIDTH);
    FloatVector s40 = FloatVector.fromArray(FLOAT, c, cAt + 4 * cRow);
    FloatVector s41 = FloatVector.fromArray(FLOAT, c, cAt + 4 * cRow + WIDTH);
    FloatVector s50 = FloatVector.fromArray(FLOAT, c, cAt + 5 * cRow);
    FloatVector s51 = FloatVector.fromArray(FLOAT, c, cAt + 5 * cRow + WIDTH);
    int a1 = aAt + aRow;
    int a2 = aAt + 2 * aRow;
    int a3 = aAt + 3 * aRow;
    int a4 = aAt + 4 * aRow;
    int a5 = aAt + 5 * aRow;
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
    s10.intoArray(c, cAt + cRow);
    s11.intoArray(c, cAt + cRow + WIDTH);
    s20.intoArray(c, cAt + 2 * cRow);
    s21.intoArray(c, cAt + 2 * cRow + WIDTH);
    s30.intoArray(c, cAt + 3 * cRow);
    s31.intoArray(c, cAt + 3 * cRow + WIDTH);
    s40.intoArray(c, cAt + 4 * cRow);
    s41.intoArray(c, cAt + 4 * cRow + WIDTH);
    s50.intoArray(c, cAt + 5 * cRow);
    s51.intoArray(c, cAt + 5 * cRow + WIDTH);
  }

  /// Six rows by one vector.
  private static void six1(
      float[] a, int aAt, int aRow, float[] b, int bAt, float[] c, int cAt, int cRow, int steps) {
    FloatVector s00 = FloatVector.fromArray(FLOAT, c, cAt);
    FloatVector s10 = FloatVector.fromArray(FLOAT, c, cAt + cRow);
    FloatVector s20 = FloatVector.fromArray(FLOAT, c, cAt + 2 * cRow);
    FloatVector s30 = FloatVector.fromArray(FLOAT, c, cAt + 3 * cRow);
    FloatVector s40 = FloatVector.fromArray(FLOAT, c, cAt + 4 * cRow);
    FloatVector s50 = FloatVector.fromArray(FLOAT, c, cAt + 5 * cRow);
    int a1 = aAt + aRow;
    int a2 = aAt + 2 * aRow;
    int a3 = aAt + 3 * aRow;
    int a4 = aAt + 4 * aRow;
    int a5 = aAt + 5 * aRow;
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
    s10.intoArray(c, cAt + cRow);
    s20.intoArray(c, cAt + 2 * cRow);
    s30.intoArray(c, cAt + 3 * cRow);
    s40.intoArray(c, cAt + 4 * cRow);
    s50.intoArray(c, cAt + 5 * cRow);
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

  /// Six rows by two vectors, A transposed.
  private static void transposedSix2(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int cRow, int steps) {
    FloatVector s00 = FloatVector.fromArray(FLOAT, c, cAt);
    FloatVector s01 = FloatVector.fromArray(FLOAT, c, cAt + WIDTH);
    FloatVector s10 = FloatVector.fromArray(FLOAT, c, cAt + cRow);
    FloatVector s11 = FloatVector.fromArray(FLOAT, c, cAt + cRow + WIDTH);
    FloatVector s20 = FloatVector.fromArray(FLOAT, c, cAt + 2 * cRow);
    FloatVector s21 = FloatVector.fromArray(FLOAT, c, cAt + 2 * cRow + WIDTH);
    FloatVector s30 = FloatVector.fromArray(FLOAT, c, cAt + 3 * cRow);
    FloatVector s31 = FloatVector.fromArray(FLOAT, c, cAt + 3 * cRow + WIDTH);
    FloatVector s40 = FloatVector.fromArray(FLOAT, c, cAt + 4 * cRow);
    FloatVector s41 = FloatVector.fromArray(FLOAT, c, cAt + 4 * cRow + WIDTH);
    FloatVector s50 = FloatVector.fromArray(FLOAT, c, cAt + 5 * cRow);
    FloatVector s51 = FloatVector.fromArray(FLOAT, c, cAt + 5 * cRow + WIDTH);
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
      FloatVector x4 = FloatVector.broadcast(FLOAT, a[aAt + k * COLUMNS + 4]);
      s40 = x4.fma(b0, s40);
      s41 = x4.fma(b1, s41);
      FloatVector x5 = FloatVector.broadcast(FLOAT, a[aAt + k * COLUMNS + 5]);
      s50 = x5.fma(b0, s50);
      s51 = x5.fma(b1, s51);
    }
    s00.intoArray(c, cAt);
    s01.intoArray(c, cAt + WIDTH);
    s10.intoArray(c, cAt + cRow);
    s11.intoArray(c, cAt + cRow + WIDTH);
    s20.intoArray(c, cAt + 2 * cRow);
    s21.intoArray(c, cAt + 2 * cRow + WIDTH);
    s30.intoArray(c, cAt + 3 * cRow);
    s31.intoArray(c, cAt + 3 * cRow + WIDTH);
    s40.intoArray(c, cAt + 4 * cRow);
    s41.intoArray(c, cAt + 4 * cRow + WIDTH);
    s50.intoArray(c, cAt + 5 * cRow);
    s51.intoArray(c, cAt + 5 * cRow + WIDTH);
  }

  /// Four rows by two vectors, A transposed.
  private static void transposedFour2(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int cRow, int steps) {
    FloatVector s00 = FloatVector.fromArray(FLOAT, c, cAt);
    FloatVector s01 = FloatVector.fromArray(FLOAT, c, cAt + WIDTH);
    FloatVector s10 = FloatVector.fromArray(FLOAT, c, cAt + cRow);
    FloatVector s11 = FloatVector.fromArray(FLOAT, c, cAt + cRow + WIDTH);
    FloatVector s20 = FloatVector.fromArray(FLOAT, c, cAt + 2 * cRow);
    FloatVector s21 = FloatVector.fromArray(FLOAT, c, cAt + 2 * cRow + WIDTH);
    FloatVector s30 = FloatVector.fromArray(FLOAT, c, cAt + 3 * cRow);
    FloatVector s31 = FloatVector.fromArray(FLOAT, c, cAt + 3 * cRow + WIDTH);
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
    s10.intoArray(c, cAt + cRow);
    s11.intoArray(c, cAt + cRow + WIDTH);
    s20.intoArray(c, cAt + 2 * cRow);
    s21.intoArray(c, cAt + 2 * cRow + WIDTH);
    s30.intoArray(c, cAt + 3 * cRow);
    s31.intoArray(c, cAt + 3 * cRow + WIDTH);
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
