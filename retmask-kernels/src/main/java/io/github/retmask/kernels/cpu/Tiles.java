package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static io.github.retmask.kernels.cpu.Panels.COLUMNS;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;

/// Innermost loops of matrix products: a tile of C stays in registers while k runs, one broadcast
/// element of A times two vectors of a panel of B per row and step. Outputs lie side by side in the
/// lanes, so each is one chain of fused multiply-adds over ascending k.
///
/// Six rows by two vectors fill the 16 registers of AVX2 (12 sums, 2 of B, 1 of A) and hide the
/// latency of the multiply-adds. The rows are written out by hand because vectors in an array would
/// be boxed. Scalars of A come from where they lie; B and C are arrays, see [Blocks].
final class Tiles {
  /// Columns of a tile.
  static final int TILE = 2 * WIDTH;

  private Tiles() {}

  /// `C[r][j] (+)= sum_k A[r][k] B[k][j]` for `rows` r and [#TILE] j.
  ///
  /// @param aAt byte of A[0][0]; A[r][k] lies at `aAt + r aRow + k aStep`
  /// @param b a panel, B[k][j] at `bAt + 64 k + j`
  /// @param cAt C[0][0]; C[r][j] lies at `cAt + r cRow + j`
  /// @param resume whether the chains start from C instead of zero
  static void multiply(
      MemorySegment a,
      long aAt,
      long aRow,
      long aStep,
      float[] b,
      int bAt,
      float[] c,
      int cAt,
      int cRow,
      int rows,
      int steps,
      boolean resume) {
    int r = 0;
    for (; r + 6 <= rows; r += 6) {
      rows6(a, aAt + r * aRow, aRow, aStep, b, bAt, c, cAt + r * cRow, cRow, steps, resume);
    }
    if (r + 4 <= rows) {
      rows4(a, aAt + r * aRow, aRow, aStep, b, bAt, c, cAt + r * cRow, cRow, steps, resume);
      r += 4;
    }
    if (r + 2 <= rows) {
      rows2(a, aAt + r * aRow, aRow, aStep, b, bAt, c, cAt + r * cRow, cRow, steps, resume);
      r += 2;
    }
    if (r < rows) {
      rows1(a, aAt + r * aRow, aStep, b, bAt, c, cAt + r * cRow, steps, resume);
    }
  }

  private static FloatVector start(float[] c, int at, boolean resume) {
    return resume ? FloatVector.fromArray(FLOAT, c, at) : FloatVector.zero(FLOAT);
  }

  private static FloatVector broadcast(MemorySegment a, long at) {
    return FloatVector.broadcast(FLOAT, a.get(Lanes.F32, at));
  }

  /// 6 rows by two vectors.
  private static void rows6(
      MemorySegment a,
      long aAt,
      long aRow,
      long aStep,
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
    long a1 = aAt + aRow;
    long a2 = aAt + 2 * aRow;
    long a3 = aAt + 3 * aRow;
    long a4 = aAt + 4 * aRow;
    long a5 = aAt + 5 * aRow;
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + WIDTH);
      long step = k * aStep;
      FloatVector x0 = broadcast(a, aAt + step);
      s00 = x0.fma(b0, s00);
      s01 = x0.fma(b1, s01);
      FloatVector x1 = broadcast(a, a1 + step);
      s10 = x1.fma(b0, s10);
      s11 = x1.fma(b1, s11);
      FloatVector x2 = broadcast(a, a2 + step);
      s20 = x2.fma(b0, s20);
      s21 = x2.fma(b1, s21);
      FloatVector x3 = broadcast(a, a3 + step);
      s30 = x3.fma(b0, s30);
      s31 = x3.fma(b1, s31);
      FloatVector x4 = broadcast(a, a4 + step);
      s40 = x4.fma(b0, s40);
      s41 = x4.fma(b1, s41);
      FloatVector x5 = broadcast(a, a5 + step);
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

  /// 4 rows by two vectors.
  private static void rows4(
      MemorySegment a,
      long aAt,
      long aRow,
      long aStep,
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
    long a1 = aAt + aRow;
    long a2 = aAt + 2 * aRow;
    long a3 = aAt + 3 * aRow;
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + WIDTH);
      long step = k * aStep;
      FloatVector x0 = broadcast(a, aAt + step);
      s00 = x0.fma(b0, s00);
      s01 = x0.fma(b1, s01);
      FloatVector x1 = broadcast(a, a1 + step);
      s10 = x1.fma(b0, s10);
      s11 = x1.fma(b1, s11);
      FloatVector x2 = broadcast(a, a2 + step);
      s20 = x2.fma(b0, s20);
      s21 = x2.fma(b1, s21);
      FloatVector x3 = broadcast(a, a3 + step);
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

  /// 2 rows by two vectors.
  private static void rows2(
      MemorySegment a,
      long aAt,
      long aRow,
      long aStep,
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
    long a1 = aAt + aRow;
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + WIDTH);
      long step = k * aStep;
      FloatVector x0 = broadcast(a, aAt + step);
      s00 = x0.fma(b0, s00);
      s01 = x0.fma(b1, s01);
      FloatVector x1 = broadcast(a, a1 + step);
      s10 = x1.fma(b0, s10);
      s11 = x1.fma(b1, s11);
    }
    s00.intoArray(c, cAt);
    s01.intoArray(c, cAt + WIDTH);
    s10.intoArray(c, cAt + cRow);
    s11.intoArray(c, cAt + cRow + WIDTH);
  }

  /// One row by two vectors.
  private static void rows1(
      MemorySegment a,
      long aAt,
      long aStep,
      float[] b,
      int bAt,
      float[] c,
      int cAt,
      int steps,
      boolean resume) {
    FloatVector s00 = start(c, cAt, resume);
    FloatVector s01 = start(c, cAt + WIDTH, resume);
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + WIDTH);
      long step = k * aStep;
      FloatVector x0 = broadcast(a, aAt + step);
      s00 = x0.fma(b0, s00);
      s01 = x0.fma(b1, s01);
    }
    s00.intoArray(c, cAt);
    s01.intoArray(c, cAt + WIDTH);
  }
}
