package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.AttentionCall.KEYS;
import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static io.github.retmask.kernels.cpu.Panels.COLUMNS;
import static jdk.incubator.vector.VectorOperators.FMA;

import jdk.incubator.vector.FloatVector;

/// Products of small matrices in heap arrays, for attention. A tile of C stays in registers while k
/// runs: one broadcast element of A times some vectors of a row of B. So every element of C is one
/// chain of fused multiply-adds over ascending k.
///
/// The elements of A lie side by side in k. With rows side by side instead, `a[64 k + r]`, AVX2
/// code runs at half the speed (50 against 100 GFLOP/s). With AVX-512 the products of whole blocks
/// have rows of A at a distance that the compiler knows, so that one index serves them all: with an
/// index each, a Cascade Lake takes 1.3 to 1.4 times as long. The places in A and B have a counter
/// each, which saves computing them from k: 2 to 13 % of the time of a tile.
final class AttentionTiles {
  /// Columns of a tile: two vectors.
  static final int TILE = 2 * WIDTH;

  /// Rows that are computed together.
  static final int ROWS = 6;

  /// Rows of a tile with the 16 registers of AVX2: 9 sums of three vectors, 3 of B and 3 of A. Six rows
  /// by two vectors fit only where the compiler loads the elements of A one after the other, see
  /// [Tiles].
  private static final int HALF = 3;

  /// Columns above which a tile has four vectors, with AVX-512.
  private static final int WIDE = WIDTH == 16 ? COLUMNS / 2 : Integer.MAX_VALUE;

  private AttentionTiles() {}

  /// `C[r][j] (+)= sum_k A[r][k] B[k][j]`; B and C have rows of 64.
  ///
  /// @param aRow distance of rows of A
  /// @param rows rounded up to sixes
  /// @param columns rounded up to tiles, with AVX-512 more than half of 64 to all
  /// @param resume whether the chains start from C instead of zero
  static void multiply(
      float[] a,
      int aAt,
      int aRow,
      float[] b,
      int bAt,
      float[] c,
      int cAt,
      int rows,
      int columns,
      int steps,
      boolean resume) {
    if (WIDTH == 8) {
      // 64 columns are 24, 24 and 16; 48 are 24 and 24, 32 are 16 and 16.
      int vectors;
      for (int j = 0; j < columns; j += vectors * WIDTH) {
        int left = (columns + WIDTH - 1 & -WIDTH) - j;
        vectors = left >= 3 * WIDTH && left != 4 * WIDTH ? 3 : 2;
        for (int r = 0; r < rows; r += HALF) {
          if (vectors == 3) {
            three3(a, aAt + r * aRow, aRow, b, bAt + j, c, cAt + r * COLUMNS + j, steps, resume);
          } else {
            three2(a, aAt + r * aRow, aRow, b, bAt + j, c, cAt + r * COLUMNS + j, steps, resume);
          }
        }
      }
      return;
    }
    if (columns > WIDE && (aRow == KEYS || aRow == COLUMNS)) {
      for (int r = 0; r < rows; r += ROWS) {
        int to = cAt + r * COLUMNS;
        if (aRow == KEYS) {
          six4OfKeys(a, aAt + r * KEYS, b, bAt, c, to, steps, resume);
        } else {
          six4(a, aAt + r * COLUMNS, b, bAt, c, to, steps, resume);
        }
      }
      return;
    }
    for (int j = 0; j < columns; j += TILE) {
      for (int r = 0; r < rows; r += ROWS) {
        six2(a, aAt + r * aRow, aRow, b, bAt + j, c, cAt + r * COLUMNS + j, steps, resume);
      }
    }
  }

  /// Three rows by two vectors.
  private static void three2(
      float[] a,
      int aAt,
      int aRow,
      float[] b,
      int bAt,
      float[] c,
      int cAt,
      int steps,
      boolean resume) {
    FloatVector s00 = FloatVector.zero(FLOAT);
    FloatVector s01 = FloatVector.zero(FLOAT);
    FloatVector s10 = FloatVector.zero(FLOAT);
    FloatVector s11 = FloatVector.zero(FLOAT);
    FloatVector s20 = FloatVector.zero(FLOAT);
    FloatVector s21 = FloatVector.zero(FLOAT);
    if (resume) {
      s00 = FloatVector.fromArray(FLOAT, c, cAt);
      s01 = FloatVector.fromArray(FLOAT, c, cAt + WIDTH);
      s10 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS);
      s11 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS + WIDTH);
      s20 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS);
      s21 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS + WIDTH);
    }
    int a2 = 2 * aRow;
    int i = aAt;
    for (int j = bAt; j < bAt + steps * COLUMNS; j += COLUMNS) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, j);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, j + WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[i]);
      s00 = x0.lanewise(FMA, b0, s00);
      s01 = x0.lanewise(FMA, b1, s01);
      FloatVector x1 = FloatVector.broadcast(FLOAT, a[i + aRow]);
      s10 = x1.lanewise(FMA, b0, s10);
      s11 = x1.lanewise(FMA, b1, s11);
      FloatVector x2 = FloatVector.broadcast(FLOAT, a[i + a2]);
      s20 = x2.lanewise(FMA, b0, s20);
      s21 = x2.lanewise(FMA, b1, s21);
      i++;
    }
    s00.intoArray(c, cAt);
    s01.intoArray(c, cAt + WIDTH);
    s10.intoArray(c, cAt + COLUMNS);
    s11.intoArray(c, cAt + COLUMNS + WIDTH);
    s20.intoArray(c, cAt + 2 * COLUMNS);
    s21.intoArray(c, cAt + 2 * COLUMNS + WIDTH);
  }

  /// Three rows by three vectors.
  private static void three3(
      float[] a,
      int aAt,
      int aRow,
      float[] b,
      int bAt,
      float[] c,
      int cAt,
      int steps,
      boolean resume) {
    FloatVector s00 = FloatVector.zero(FLOAT);
    FloatVector s01 = FloatVector.zero(FLOAT);
    FloatVector s02 = FloatVector.zero(FLOAT);
    FloatVector s10 = FloatVector.zero(FLOAT);
    FloatVector s11 = FloatVector.zero(FLOAT);
    FloatVector s12 = FloatVector.zero(FLOAT);
    FloatVector s20 = FloatVector.zero(FLOAT);
    FloatVector s21 = FloatVector.zero(FLOAT);
    FloatVector s22 = FloatVector.zero(FLOAT);
    if (resume) {
      s00 = FloatVector.fromArray(FLOAT, c, cAt);
      s01 = FloatVector.fromArray(FLOAT, c, cAt + WIDTH);
      s02 = FloatVector.fromArray(FLOAT, c, cAt + 2 * WIDTH);
      s10 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS);
      s11 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS + WIDTH);
      s12 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS + 2 * WIDTH);
      s20 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS);
      s21 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS + WIDTH);
      s22 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS + 2 * WIDTH);
    }
    int a2 = 2 * aRow;
    int i = aAt;
    for (int j = bAt; j < bAt + steps * COLUMNS; j += COLUMNS) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, j);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, j + WIDTH);
      FloatVector b2 = FloatVector.fromArray(FLOAT, b, j + 2 * WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[i]);
      s00 = x0.lanewise(FMA, b0, s00);
      s01 = x0.lanewise(FMA, b1, s01);
      s02 = x0.lanewise(FMA, b2, s02);
      FloatVector x1 = FloatVector.broadcast(FLOAT, a[i + aRow]);
      s10 = x1.lanewise(FMA, b0, s10);
      s11 = x1.lanewise(FMA, b1, s11);
      s12 = x1.lanewise(FMA, b2, s12);
      FloatVector x2 = FloatVector.broadcast(FLOAT, a[i + a2]);
      s20 = x2.lanewise(FMA, b0, s20);
      s21 = x2.lanewise(FMA, b1, s21);
      s22 = x2.lanewise(FMA, b2, s22);
      i++;
    }
    s00.intoArray(c, cAt);
    s01.intoArray(c, cAt + WIDTH);
    s02.intoArray(c, cAt + 2 * WIDTH);
    s10.intoArray(c, cAt + COLUMNS);
    s11.intoArray(c, cAt + COLUMNS + WIDTH);
    s12.intoArray(c, cAt + COLUMNS + 2 * WIDTH);
    s20.intoArray(c, cAt + 2 * COLUMNS);
    s21.intoArray(c, cAt + 2 * COLUMNS + WIDTH);
    s22.intoArray(c, cAt + 2 * COLUMNS + 2 * WIDTH);
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
      int steps,
      boolean resume) {
    FloatVector s00 = FloatVector.zero(FLOAT);
    FloatVector s01 = FloatVector.zero(FLOAT);
    FloatVector s10 = FloatVector.zero(FLOAT);
    FloatVector s11 = FloatVector.zero(FLOAT);
    FloatVector s20 = FloatVector.zero(FLOAT);
    FloatVector s21 = FloatVector.zero(FLOAT);
    FloatVector s30 = FloatVector.zero(FLOAT);
    FloatVector s31 = FloatVector.zero(FLOAT);
    FloatVector s40 = FloatVector.zero(FLOAT);
    FloatVector s41 = FloatVector.zero(FLOAT);
    FloatVector s50 = FloatVector.zero(FLOAT);
    FloatVector s51 = FloatVector.zero(FLOAT);
    if (resume) {
      s00 = FloatVector.fromArray(FLOAT, c, cAt);
      s01 = FloatVector.fromArray(FLOAT, c, cAt + WIDTH);
      s10 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS);
      s11 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS + WIDTH);
      s20 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS);
      s21 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS + WIDTH);
      s30 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS);
      s31 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS + WIDTH);
      s40 = FloatVector.fromArray(FLOAT, c, cAt + 4 * COLUMNS);
      s41 = FloatVector.fromArray(FLOAT, c, cAt + 4 * COLUMNS + WIDTH);
      s50 = FloatVector.fromArray(FLOAT, c, cAt + 5 * COLUMNS);
      s51 = FloatVector.fromArray(FLOAT, c, cAt + 5 * COLUMNS + WIDTH);
    }
    int a2 = 2 * aRow;
    int a3 = 3 * aRow;
    int a4 = 4 * aRow;
    int a5 = 5 * aRow;
    int i = aAt;
    for (int j = bAt; j < bAt + steps * COLUMNS; j += COLUMNS) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, j);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, j + WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[i]);
      s00 = x0.lanewise(FMA, b0, s00);
      s01 = x0.lanewise(FMA, b1, s01);
      FloatVector x1 = FloatVector.broadcast(FLOAT, a[i + aRow]);
      s10 = x1.lanewise(FMA, b0, s10);
      s11 = x1.lanewise(FMA, b1, s11);
      FloatVector x2 = FloatVector.broadcast(FLOAT, a[i + a2]);
      s20 = x2.lanewise(FMA, b0, s20);
      s21 = x2.lanewise(FMA, b1, s21);
      FloatVector x3 = FloatVector.broadcast(FLOAT, a[i + a3]);
      s30 = x3.lanewise(FMA, b0, s30);
      s31 = x3.lanewise(FMA, b1, s31);
      FloatVector x4 = FloatVector.broadcast(FLOAT, a[i + a4]);
      s40 = x4.lanewise(FMA, b0, s40);
      s41 = x4.lanewise(FMA, b1, s41);
      FloatVector x5 = FloatVector.broadcast(FLOAT, a[i + a5]);
      s50 = x5.lanewise(FMA, b0, s50);
      s51 = x5.lanewise(FMA, b1, s51);
      i++;
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

  /// Six rows by four vectors; rows of A lie a block of keys apart.
  private static void six4OfKeys(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps, boolean resume) {
    FloatVector s00 = FloatVector.zero(FLOAT);
    FloatVector s01 = FloatVector.zero(FLOAT);
    FloatVector s02 = FloatVector.zero(FLOAT);
    FloatVector s03 = FloatVector.zero(FLOAT);
    FloatVector s10 = FloatVector.zero(FLOAT);
    FloatVector s11 = FloatVector.zero(FLOAT);
    FloatVector s12 = FloatVector.zero(FLOAT);
    FloatVector s13 = FloatVector.zero(FLOAT);
    FloatVector s20 = FloatVector.zero(FLOAT);
    FloatVector s21 = FloatVector.zero(FLOAT);
    FloatVector s22 = FloatVector.zero(FLOAT);
    FloatVector s23 = FloatVector.zero(FLOAT);
    FloatVector s30 = FloatVector.zero(FLOAT);
    FloatVector s31 = FloatVector.zero(FLOAT);
    FloatVector s32 = FloatVector.zero(FLOAT);
    FloatVector s33 = FloatVector.zero(FLOAT);
    FloatVector s40 = FloatVector.zero(FLOAT);
    FloatVector s41 = FloatVector.zero(FLOAT);
    FloatVector s42 = FloatVector.zero(FLOAT);
    FloatVector s43 = FloatVector.zero(FLOAT);
    FloatVector s50 = FloatVector.zero(FLOAT);
    FloatVector s51 = FloatVector.zero(FLOAT);
    FloatVector s52 = FloatVector.zero(FLOAT);
    FloatVector s53 = FloatVector.zero(FLOAT);
    if (resume) {
      s00 = FloatVector.fromArray(FLOAT, c, cAt);
      s01 = FloatVector.fromArray(FLOAT, c, cAt + WIDTH);
      s02 = FloatVector.fromArray(FLOAT, c, cAt + 2 * WIDTH);
      s03 = FloatVector.fromArray(FLOAT, c, cAt + 3 * WIDTH);
      s10 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS);
      s11 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS + WIDTH);
      s12 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS + 2 * WIDTH);
      s13 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS + 3 * WIDTH);
      s20 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS);
      s21 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS + WIDTH);
      s22 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS + 2 * WIDTH);
      s23 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS + 3 * WIDTH);
      s30 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS);
      s31 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS + WIDTH);
      s32 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS + 2 * WIDTH);
      s33 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS + 3 * WIDTH);
      s40 = FloatVector.fromArray(FLOAT, c, cAt + 4 * COLUMNS);
      s41 = FloatVector.fromArray(FLOAT, c, cAt + 4 * COLUMNS + WIDTH);
      s42 = FloatVector.fromArray(FLOAT, c, cAt + 4 * COLUMNS + 2 * WIDTH);
      s43 = FloatVector.fromArray(FLOAT, c, cAt + 4 * COLUMNS + 3 * WIDTH);
      s50 = FloatVector.fromArray(FLOAT, c, cAt + 5 * COLUMNS);
      s51 = FloatVector.fromArray(FLOAT, c, cAt + 5 * COLUMNS + WIDTH);
      s52 = FloatVector.fromArray(FLOAT, c, cAt + 5 * COLUMNS + 2 * WIDTH);
      s53 = FloatVector.fromArray(FLOAT, c, cAt + 5 * COLUMNS + 3 * WIDTH);
    }
    int i = aAt;
    for (int j = bAt; j < bAt + steps * COLUMNS; j += COLUMNS) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, j);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, j + WIDTH);
      FloatVector b2 = FloatVector.fromArray(FLOAT, b, j + 2 * WIDTH);
      FloatVector b3 = FloatVector.fromArray(FLOAT, b, j + 3 * WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[i]);
      s00 = x0.lanewise(FMA, b0, s00);
      s01 = x0.lanewise(FMA, b1, s01);
      s02 = x0.lanewise(FMA, b2, s02);
      s03 = x0.lanewise(FMA, b3, s03);
      FloatVector x1 = FloatVector.broadcast(FLOAT, a[i + KEYS]);
      s10 = x1.lanewise(FMA, b0, s10);
      s11 = x1.lanewise(FMA, b1, s11);
      s12 = x1.lanewise(FMA, b2, s12);
      s13 = x1.lanewise(FMA, b3, s13);
      FloatVector x2 = FloatVector.broadcast(FLOAT, a[i + 2 * KEYS]);
      s20 = x2.lanewise(FMA, b0, s20);
      s21 = x2.lanewise(FMA, b1, s21);
      s22 = x2.lanewise(FMA, b2, s22);
      s23 = x2.lanewise(FMA, b3, s23);
      FloatVector x3 = FloatVector.broadcast(FLOAT, a[i + 3 * KEYS]);
      s30 = x3.lanewise(FMA, b0, s30);
      s31 = x3.lanewise(FMA, b1, s31);
      s32 = x3.lanewise(FMA, b2, s32);
      s33 = x3.lanewise(FMA, b3, s33);
      FloatVector x4 = FloatVector.broadcast(FLOAT, a[i + 4 * KEYS]);
      s40 = x4.lanewise(FMA, b0, s40);
      s41 = x4.lanewise(FMA, b1, s41);
      s42 = x4.lanewise(FMA, b2, s42);
      s43 = x4.lanewise(FMA, b3, s43);
      FloatVector x5 = FloatVector.broadcast(FLOAT, a[i + 5 * KEYS]);
      s50 = x5.lanewise(FMA, b0, s50);
      s51 = x5.lanewise(FMA, b1, s51);
      s52 = x5.lanewise(FMA, b2, s52);
      s53 = x5.lanewise(FMA, b3, s53);
      i++;
    }
    s00.intoArray(c, cAt);
    s01.intoArray(c, cAt + WIDTH);
    s02.intoArray(c, cAt + 2 * WIDTH);
    s03.intoArray(c, cAt + 3 * WIDTH);
    s10.intoArray(c, cAt + COLUMNS);
    s11.intoArray(c, cAt + COLUMNS + WIDTH);
    s12.intoArray(c, cAt + COLUMNS + 2 * WIDTH);
    s13.intoArray(c, cAt + COLUMNS + 3 * WIDTH);
    s20.intoArray(c, cAt + 2 * COLUMNS);
    s21.intoArray(c, cAt + 2 * COLUMNS + WIDTH);
    s22.intoArray(c, cAt + 2 * COLUMNS + 2 * WIDTH);
    s23.intoArray(c, cAt + 2 * COLUMNS + 3 * WIDTH);
    s30.intoArray(c, cAt + 3 * COLUMNS);
    s31.intoArray(c, cAt + 3 * COLUMNS + WIDTH);
    s32.intoArray(c, cAt + 3 * COLUMNS + 2 * WIDTH);
    s33.intoArray(c, cAt + 3 * COLUMNS + 3 * WIDTH);
    s40.intoArray(c, cAt + 4 * COLUMNS);
    s41.intoArray(c, cAt + 4 * COLUMNS + WIDTH);
    s42.intoArray(c, cAt + 4 * COLUMNS + 2 * WIDTH);
    s43.intoArray(c, cAt + 4 * COLUMNS + 3 * WIDTH);
    s50.intoArray(c, cAt + 5 * COLUMNS);
    s51.intoArray(c, cAt + 5 * COLUMNS + WIDTH);
    s52.intoArray(c, cAt + 5 * COLUMNS + 2 * WIDTH);
    s53.intoArray(c, cAt + 5 * COLUMNS + 3 * WIDTH);
  }

  /// The same for rows of A that are as long as those of B: the distance must be a constant.
  private static void six4(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps, boolean resume) {
    FloatVector s00 = FloatVector.zero(FLOAT);
    FloatVector s01 = FloatVector.zero(FLOAT);
    FloatVector s02 = FloatVector.zero(FLOAT);
    FloatVector s03 = FloatVector.zero(FLOAT);
    FloatVector s10 = FloatVector.zero(FLOAT);
    FloatVector s11 = FloatVector.zero(FLOAT);
    FloatVector s12 = FloatVector.zero(FLOAT);
    FloatVector s13 = FloatVector.zero(FLOAT);
    FloatVector s20 = FloatVector.zero(FLOAT);
    FloatVector s21 = FloatVector.zero(FLOAT);
    FloatVector s22 = FloatVector.zero(FLOAT);
    FloatVector s23 = FloatVector.zero(FLOAT);
    FloatVector s30 = FloatVector.zero(FLOAT);
    FloatVector s31 = FloatVector.zero(FLOAT);
    FloatVector s32 = FloatVector.zero(FLOAT);
    FloatVector s33 = FloatVector.zero(FLOAT);
    FloatVector s40 = FloatVector.zero(FLOAT);
    FloatVector s41 = FloatVector.zero(FLOAT);
    FloatVector s42 = FloatVector.zero(FLOAT);
    FloatVector s43 = FloatVector.zero(FLOAT);
    FloatVector s50 = FloatVector.zero(FLOAT);
    FloatVector s51 = FloatVector.zero(FLOAT);
    FloatVector s52 = FloatVector.zero(FLOAT);
    FloatVector s53 = FloatVector.zero(FLOAT);
    if (resume) {
      s00 = FloatVector.fromArray(FLOAT, c, cAt);
      s01 = FloatVector.fromArray(FLOAT, c, cAt + WIDTH);
      s02 = FloatVector.fromArray(FLOAT, c, cAt + 2 * WIDTH);
      s03 = FloatVector.fromArray(FLOAT, c, cAt + 3 * WIDTH);
      s10 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS);
      s11 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS + WIDTH);
      s12 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS + 2 * WIDTH);
      s13 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS + 3 * WIDTH);
      s20 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS);
      s21 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS + WIDTH);
      s22 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS + 2 * WIDTH);
      s23 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS + 3 * WIDTH);
      s30 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS);
      s31 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS + WIDTH);
      s32 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS + 2 * WIDTH);
      s33 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS + 3 * WIDTH);
      s40 = FloatVector.fromArray(FLOAT, c, cAt + 4 * COLUMNS);
      s41 = FloatVector.fromArray(FLOAT, c, cAt + 4 * COLUMNS + WIDTH);
      s42 = FloatVector.fromArray(FLOAT, c, cAt + 4 * COLUMNS + 2 * WIDTH);
      s43 = FloatVector.fromArray(FLOAT, c, cAt + 4 * COLUMNS + 3 * WIDTH);
      s50 = FloatVector.fromArray(FLOAT, c, cAt + 5 * COLUMNS);
      s51 = FloatVector.fromArray(FLOAT, c, cAt + 5 * COLUMNS + WIDTH);
      s52 = FloatVector.fromArray(FLOAT, c, cAt + 5 * COLUMNS + 2 * WIDTH);
      s53 = FloatVector.fromArray(FLOAT, c, cAt + 5 * COLUMNS + 3 * WIDTH);
    }
    int i = aAt;
    for (int j = bAt; j < bAt + steps * COLUMNS; j += COLUMNS) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, j);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, j + WIDTH);
      FloatVector b2 = FloatVector.fromArray(FLOAT, b, j + 2 * WIDTH);
      FloatVector b3 = FloatVector.fromArray(FLOAT, b, j + 3 * WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[i]);
      s00 = x0.lanewise(FMA, b0, s00);
      s01 = x0.lanewise(FMA, b1, s01);
      s02 = x0.lanewise(FMA, b2, s02);
      s03 = x0.lanewise(FMA, b3, s03);
      FloatVector x1 = FloatVector.broadcast(FLOAT, a[i + COLUMNS]);
      s10 = x1.lanewise(FMA, b0, s10);
      s11 = x1.lanewise(FMA, b1, s11);
      s12 = x1.lanewise(FMA, b2, s12);
      s13 = x1.lanewise(FMA, b3, s13);
      FloatVector x2 = FloatVector.broadcast(FLOAT, a[i + 2 * COLUMNS]);
      s20 = x2.lanewise(FMA, b0, s20);
      s21 = x2.lanewise(FMA, b1, s21);
      s22 = x2.lanewise(FMA, b2, s22);
      s23 = x2.lanewise(FMA, b3, s23);
      FloatVector x3 = FloatVector.broadcast(FLOAT, a[i + 3 * COLUMNS]);
      s30 = x3.lanewise(FMA, b0, s30);
      s31 = x3.lanewise(FMA, b1, s31);
      s32 = x3.lanewise(FMA, b2, s32);
      s33 = x3.lanewise(FMA, b3, s33);
      FloatVector x4 = FloatVector.broadcast(FLOAT, a[i + 4 * COLUMNS]);
      s40 = x4.lanewise(FMA, b0, s40);
      s41 = x4.lanewise(FMA, b1, s41);
      s42 = x4.lanewise(FMA, b2, s42);
      s43 = x4.lanewise(FMA, b3, s43);
      FloatVector x5 = FloatVector.broadcast(FLOAT, a[i + 5 * COLUMNS]);
      s50 = x5.lanewise(FMA, b0, s50);
      s51 = x5.lanewise(FMA, b1, s51);
      s52 = x5.lanewise(FMA, b2, s52);
      s53 = x5.lanewise(FMA, b3, s53);
      i++;
    }
    s00.intoArray(c, cAt);
    s01.intoArray(c, cAt + WIDTH);
    s02.intoArray(c, cAt + 2 * WIDTH);
    s03.intoArray(c, cAt + 3 * WIDTH);
    s10.intoArray(c, cAt + COLUMNS);
    s11.intoArray(c, cAt + COLUMNS + WIDTH);
    s12.intoArray(c, cAt + COLUMNS + 2 * WIDTH);
    s13.intoArray(c, cAt + COLUMNS + 3 * WIDTH);
    s20.intoArray(c, cAt + 2 * COLUMNS);
    s21.intoArray(c, cAt + 2 * COLUMNS + WIDTH);
    s22.intoArray(c, cAt + 2 * COLUMNS + 2 * WIDTH);
    s23.intoArray(c, cAt + 2 * COLUMNS + 3 * WIDTH);
    s30.intoArray(c, cAt + 3 * COLUMNS);
    s31.intoArray(c, cAt + 3 * COLUMNS + WIDTH);
    s32.intoArray(c, cAt + 3 * COLUMNS + 2 * WIDTH);
    s33.intoArray(c, cAt + 3 * COLUMNS + 3 * WIDTH);
    s40.intoArray(c, cAt + 4 * COLUMNS);
    s41.intoArray(c, cAt + 4 * COLUMNS + WIDTH);
    s42.intoArray(c, cAt + 4 * COLUMNS + 2 * WIDTH);
    s43.intoArray(c, cAt + 4 * COLUMNS + 3 * WIDTH);
    s50.intoArray(c, cAt + 5 * COLUMNS);
    s51.intoArray(c, cAt + 5 * COLUMNS + WIDTH);
    s52.intoArray(c, cAt + 5 * COLUMNS + 2 * WIDTH);
    s53.intoArray(c, cAt + 5 * COLUMNS + 3 * WIDTH);
  }
}
