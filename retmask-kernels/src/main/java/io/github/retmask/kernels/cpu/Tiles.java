package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import jdk.incubator.vector.FloatVector;

/// Innermost loops of matrix products: a tile of C stays in registers while k runs, one broadcast
/// element of A times the vectors of a row of B per step. Outputs lie side by side in the lanes, so
/// each is one chain of fused multiply-adds over ascending k.
///
/// With the 16 registers of AVX2 it is three rows by three vectors: 9 sums, 3 of B and 3 of A. Six
/// rows by two vectors fit too, but only where the compiler loads the elements of A one after the
/// other: with some garbage collectors it loads all six first, spills, and takes twice as long. With
/// the 32 registers of AVX-512 and NEON it is eight rows by two vectors. The elements of A of a step
/// lie side by side, so that one index serves them. Rows are written out by hand because vectors in
/// an array would be boxed. All operands are heap arrays and run with a stride the compiler knows, so
/// that no bounds check is left in the loop.
final class Tiles {
  private static final boolean SIXTEEN_REGISTERS = WIDTH == 8;

  /// Rows of a tile.
  static final int ROWS = SIXTEEN_REGISTERS ? 3 : 8;

  private static final int VECTORS = SIXTEEN_REGISTERS ? 3 : 2;

  /// Columns of a tile.
  static final int COLUMNS = VECTORS * WIDTH;

  private Tiles() {}

  /// `C[r][j] (+)= sum_k A[r][k] B[k][j]` for all j of a tile and `rows` r; rows of A and C up to a
  /// multiple of [#ROWS] are touched.
  ///
  /// @param a tiles of rows, [#ROWS] times `steps` elements each
  /// @param b rows of [#COLUMNS]
  /// @param cRow distance of rows of C
  /// @param resume whether the chains start from C instead of zero
  static void multiply(
      float[] a,
      int aAt,
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
      if (ROWS == 8) {
        eight(a, aAt + r * steps, b, bAt, c, cAt + r * cRow, cRow, steps, resume);
      } else {
        three(a, aAt + r * steps, b, bAt, c, cAt + r * cRow, cRow, steps, resume);
      }
    }
  }

  private static FloatVector start(float[] c, int at, boolean resume) {
    return resume ? FloatVector.fromArray(FLOAT, c, at) : FloatVector.zero(FLOAT);
  }

  /// Three rows by three vectors.
  private static void three(
      float[] a,
      int aAt,
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
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + WIDTH);
      FloatVector b2 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + 2 * WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[aAt + k * 3]);
      s00 = x0.fma(b0, s00);
      s01 = x0.fma(b1, s01);
      s02 = x0.fma(b2, s02);
      FloatVector x1 = FloatVector.broadcast(FLOAT, a[aAt + k * 3 + 1]);
      s10 = x1.fma(b0, s10);
      s11 = x1.fma(b1, s11);
      s12 = x1.fma(b2, s12);
      FloatVector x2 = FloatVector.broadcast(FLOAT, a[aAt + k * 3 + 2]);
      s20 = x2.fma(b0, s20);
      s21 = x2.fma(b1, s21);
      s22 = x2.fma(b2, s22);
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
  }

  /// Eight rows by two vectors.
  private static void eight(
      float[] a,
      int aAt,
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
    FloatVector s60 = start(c, cAt + 6 * cRow, resume);
    FloatVector s61 = start(c, cAt + 6 * cRow + WIDTH, resume);
    FloatVector s70 = start(c, cAt + 7 * cRow, resume);
    FloatVector s71 = start(c, cAt + 7 * cRow + WIDTH, resume);
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[aAt + k * 8]);
      s00 = x0.fma(b0, s00);
      s01 = x0.fma(b1, s01);
      FloatVector x1 = FloatVector.broadcast(FLOAT, a[aAt + k * 8 + 1]);
      s10 = x1.fma(b0, s10);
      s11 = x1.fma(b1, s11);
      FloatVector x2 = FloatVector.broadcast(FLOAT, a[aAt + k * 8 + 2]);
      s20 = x2.fma(b0, s20);
      s21 = x2.fma(b1, s21);
      FloatVector x3 = FloatVector.broadcast(FLOAT, a[aAt + k * 8 + 3]);
      s30 = x3.fma(b0, s30);
      s31 = x3.fma(b1, s31);
      FloatVector x4 = FloatVector.broadcast(FLOAT, a[aAt + k * 8 + 4]);
      s40 = x4.fma(b0, s40);
      s41 = x4.fma(b1, s41);
      FloatVector x5 = FloatVector.broadcast(FLOAT, a[aAt + k * 8 + 5]);
      s50 = x5.fma(b0, s50);
      s51 = x5.fma(b1, s51);
      FloatVector x6 = FloatVector.broadcast(FLOAT, a[aAt + k * 8 + 6]);
      s60 = x6.fma(b0, s60);
      s61 = x6.fma(b1, s61);
      FloatVector x7 = FloatVector.broadcast(FLOAT, a[aAt + k * 8 + 7]);
      s70 = x7.fma(b0, s70);
      s71 = x7.fma(b1, s71);
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
    s60.intoArray(c, cAt + 6 * cRow);
    s61.intoArray(c, cAt + 6 * cRow + WIDTH);
    s70.intoArray(c, cAt + 7 * cRow);
    s71.intoArray(c, cAt + 7 * cRow + WIDTH);
  }

  /// One row, by as many vectors as the others.
  private static void one(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps, boolean resume) {
    FloatVector s0 = start(c, cAt, resume);
    FloatVector s1 = start(c, cAt + WIDTH, resume);
    FloatVector s2 = VECTORS == 3 ? start(c, cAt + 2 * WIDTH, resume) : s1;
    for (int k = 0; k < steps; k++) {
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[aAt + k * ROWS]);
      s0 = x0.fma(FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS), s0);
      s1 = x0.fma(FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + WIDTH), s1);
      if (VECTORS == 3) {
        s2 = x0.fma(FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + 2 * WIDTH), s2);
      }
    }
    s0.intoArray(c, cAt);
    s1.intoArray(c, cAt + WIDTH);
    if (VECTORS == 3) {
      s2.intoArray(c, cAt + 2 * WIDTH);
    }
  }
}
