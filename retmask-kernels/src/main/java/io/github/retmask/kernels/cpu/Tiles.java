package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import jdk.incubator.vector.FloatVector;

/// Innermost loops of matrix products: a tile of C stays in registers while k runs, one broadcast
/// element of A times the vectors of a row of B per step. Outputs lie side by side in the lanes, so
/// each is one chain of fused multiply-adds over ascending k.
///
/// Six rows by two vectors fill the 16 registers of AVX2 (12 sums, 2 of B, 1 of A) and hide the
/// latency of the multiply-adds; with the 32 registers of AVX-512 and NEON a third vector lets every
/// broadcast serve more. Rows are written out by hand because vectors in an array would be boxed.
/// All operands are heap arrays, A and B run with a stride the compiler knows, so that no bounds
/// check is left in the loop.
final class Tiles {
  /// Rows of a tile.
  static final int ROWS = 6;

  private static final int VECTORS = WIDTH == 8 ? 2 : 3;

  /// Columns of a tile.
  static final int COLUMNS = VECTORS * WIDTH;

  private Tiles() {}

  /// `C[r][j] (+)= sum_k A[r][k] B[k][j]` for all j of a tile and `rows` r; rows of A and C up to a
  /// multiple of six are touched.
  ///
  /// @param aRow distance of rows of A
  /// @param b rows of [#COLUMNS]
  /// @param cRow distance of rows of C
  /// @param resume whether the chains start from C instead of zero
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
      int steps,
      boolean resume) {
    if (rows == 1) {
      one(a, aAt, b, bAt, c, cAt, steps, resume);
      return;
    }
    for (int r = 0; r < rows; r += ROWS) {
      if (VECTORS == 2) {
        six2(a, aAt + r * aRow, aRow, b, bAt, c, cAt + r * cRow, cRow, steps, resume);
      } else {
        six3(a, aAt + r * aRow, aRow, b, bAt, c, cAt + r * cRow, cRow, steps, resume);
      }
    }
  }

  private static FloatVector start(float[] c, int at, boolean resume) {
    return resume ? FloatVector.fromArray(FLOAT, c, at) : FloatVector.zero(FLOAT);
  }

  /// Six rows by two vectors.
  private static void six2(
      float[] a,
      int aAt,
      int aRow,
      float[] b,
      int bAt,
      float[] c,
      int cAt,
      int cRow,
      int steps,
      boolean resume) {
    FloatVector s00 = start(c, cAt, resume);
    FloatVector s01 = start(c, cAt + WIDTH, resume);
    FloatVector s10 = start(c, cAt + cRow, resume);
    FloatVector s11 = start(c, cAt + cRow + WIDTH, resume);
    FloatVector s20 = start(c, cAt + 2 * cRow, resume);
    FloatVector s21 = start(c, cAt + 2 * cRow + WIDTH, resume);
    FloatVector s30 = start(c, cAt + 3 * cRow, resume);
    FloatVector s31 = start(c, cAt + 3 * cRow + WIDTH, resume);
    FloatVector s40 = start(c, cAt + 4 * cRow, resume);
    FloatVector s41 = start(c, cAt + 4 * cRow + WIDTH, resume);
    FloatVector s50 = start(c, cAt + 5 * cRow, resume);
    FloatVector s51 = start(c, cAt + 5 * cRow + WIDTH, resume);
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

  /// Six rows by three vectors.
  private static void six3(
      float[] a,
      int aAt,
      int aRow,
      float[] b,
      int bAt,
      float[] c,
      int cAt,
      int cRow,
      int steps,
      boolean resume) {
    FloatVector s00 = start(c, cAt, resume);
    FloatVector s01 = start(c, cAt + WIDTH, resume);
    FloatVector s02 = start(c, cAt + 2 * WIDTH, resume);
    FloatVector s10 = start(c, cAt + cRow, resume);
    FloatVector s11 = start(c, cAt + cRow + WIDTH, resume);
    FloatVector s12 = start(c, cAt + cRow + 2 * WIDTH, resume);
    FloatVector s20 = start(c, cAt + 2 * cRow, resume);
    FloatVector s21 = start(c, cAt + 2 * cRow + WIDTH, resume);
    FloatVector s22 = start(c, cAt + 2 * cRow + 2 * WIDTH, resume);
    FloatVector s30 = start(c, cAt + 3 * cRow, resume);
    FloatVector s31 = start(c, cAt + 3 * cRow + WIDTH, resume);
    FloatVector s32 = start(c, cAt + 3 * cRow + 2 * WIDTH, resume);
    FloatVector s40 = start(c, cAt + 4 * cRow, resume);
    FloatVector s41 = start(c, cAt + 4 * cRow + WIDTH, resume);
    FloatVector s42 = start(c, cAt + 4 * cRow + 2 * WIDTH, resume);
    FloatVector s50 = start(c, cAt + 5 * cRow, resume);
    FloatVector s51 = start(c, cAt + 5 * cRow + WIDTH, resume);
    FloatVector s52 = start(c, cAt + 5 * cRow + 2 * WIDTH, resume);
    int a1 = aAt + aRow;
    int a2 = aAt + 2 * aRow;
    int a3 = aAt + 3 * aRow;
    int a4 = aAt + 4 * aRow;
    int a5 = aAt + 5 * aRow;
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + WIDTH);
      FloatVector b2 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + 2 * WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[aAt + k]);
      s00 = x0.fma(b0, s00);
      s01 = x0.fma(b1, s01);
      s02 = x0.fma(b2, s02);
      FloatVector x1 = FloatVector.broadcast(FLOAT, a[a1 + k]);
      s10 = x1.fma(b0, s10);
      s11 = x1.fma(b1, s11);
      s12 = x1.fma(b2, s12);
      FloatVector x2 = FloatVector.broadcast(FLOAT, a[a2 + k]);
      s20 = x2.fma(b0, s20);
      s21 = x2.fma(b1, s21);
      s22 = x2.fma(b2, s22);
      FloatVector x3 = FloatVector.broadcast(FLOAT, a[a3 + k]);
      s30 = x3.fma(b0, s30);
      s31 = x3.fma(b1, s31);
      s32 = x3.fma(b2, s32);
      FloatVector x4 = FloatVector.broadcast(FLOAT, a[a4 + k]);
      s40 = x4.fma(b0, s40);
      s41 = x4.fma(b1, s41);
      s42 = x4.fma(b2, s42);
      FloatVector x5 = FloatVector.broadcast(FLOAT, a[a5 + k]);
      s50 = x5.fma(b0, s50);
      s51 = x5.fma(b1, s51);
      s52 = x5.fma(b2, s52);
    }
    s00.intoArray(c, cAt);
    s01.intoArray(c, cAt + WIDTH);
    s02.intoArray(c, cAt + 2 * WIDTH);
    s10.intoArray(c, cAt + cRow);
    s11.intoArray(c, cAt + cRow + WIDTH);
    s12.intoArray(c, cAt + cRow + 2 * WIDTH);
    s20.intoArray(c, cAt + 2 * cRow);
    s21.intoArray(c, cAt + 2 * cRow + WIDTH);
    s22.intoArray(c, cAt + 2 * cRow + 2 * WIDTH);
    s30.intoArray(c, cAt + 3 * cRow);
    s31.intoArray(c, cAt + 3 * cRow + WIDTH);
    s32.intoArray(c, cAt + 3 * cRow + 2 * WIDTH);
    s40.intoArray(c, cAt + 4 * cRow);
    s41.intoArray(c, cAt + 4 * cRow + WIDTH);
    s42.intoArray(c, cAt + 4 * cRow + 2 * WIDTH);
    s50.intoArray(c, cAt + 5 * cRow);
    s51.intoArray(c, cAt + 5 * cRow + WIDTH);
    s52.intoArray(c, cAt + 5 * cRow + 2 * WIDTH);
  }

  /// One row, vector by vector.
  private static void one(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps, boolean resume) {
    for (int j = 0; j < COLUMNS; j += 2 * WIDTH) {
      if (COLUMNS - j == WIDTH) {
        one1(a, aAt, b, bAt + j, c, cAt + j, steps, resume);
      } else {
        one2(a, aAt, b, bAt + j, c, cAt + j, steps, resume);
      }
    }
  }

  private static void one1(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps, boolean resume) {
    FloatVector s00 = start(c, cAt, resume);
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[aAt + k]);
      s00 = x0.fma(b0, s00);
    }
    s00.intoArray(c, cAt);
  }

  private static void one2(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps, boolean resume) {
    FloatVector s00 = start(c, cAt, resume);
    FloatVector s01 = start(c, cAt + WIDTH, resume);
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
}
