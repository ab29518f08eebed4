package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static jdk.incubator.vector.VectorOperators.FMA;

import jdk.incubator.vector.FloatVector;

/// Innermost loops of matrix products: a tile of C stays in registers while k runs, one broadcast
/// element of A times the vectors of a row of B per step. Outputs lie side by side in the lanes, so
/// each is one chain of fused multiply-adds over ascending k.
///
/// With the 16 registers of AVX2 it is three rows by three vectors: 9 sums, 3 of B and 3 of A. Six
/// rows by two vectors fit too, but only where the compiler loads the elements of A one after the
/// other: with some garbage collectors it loads all six first, spills, and takes twice as long. With
/// the 32 registers of AVX-512 and NEON it is twelve rows by two vectors, of which a last tile may
/// need four. The elements of A of a step lie side by side, so that one index serves them. Rows are
/// written out by hand because vectors in an array would be boxed. Where chains resume, C is loaded in
/// one branch, not by a method that returns either start: where the compiler leaves that a call, all
/// sums of the loop are boxed. All operands are heap arrays and run with a stride the compiler knows,
/// so that few bounds checks are left: two for all stores, two in a loop of twelve by two for all of A,
/// none in the others.
final class Tiles {
  private static final boolean SIXTEEN_REGISTERS = WIDTH == 8;

  /// Rows of a tile.
  static final int ROWS = SIXTEEN_REGISTERS ? 3 : 12;

  private static final int VECTORS = SIXTEEN_REGISTERS ? 3 : 2;

  /// Columns of a tile.
  static final int COLUMNS = VECTORS * WIDTH;

  private Tiles() {}

  /// `C[r][j] (+)= sum_k A[r][k] B[k][j]` for all j of a tile and `rows` r; rows of A and C up to a
  /// multiple of [#ROWS] may be touched.
  ///
  /// @param a tiles of rows, [#ROWS] times `steps` elements each
  /// @param b rows of [#COLUMNS]
  /// @param c rows of [#COLUMNS]
  /// @param steps an even number
  /// @param resume whether the chains start from C instead of zero
  static void multiply(
      float[] a,
      int aAt,
      float[] b,
      int bAt,
      float[] c,
      int cAt,
      int rows,
      int steps,
      boolean resume) {
    if (rows == 1) {
      one(a, aAt, b, bAt, c, cAt, steps, resume);
      return;
    }
    for (int r = 0; r < rows; r += ROWS) {
      if (ROWS == 12 && rows - r <= 4) {
        four(a, aAt + r * steps, b, bAt, c, cAt + r * COLUMNS, steps, resume);
      } else if (ROWS == 12) {
        twelve(a, aAt + r * steps, b, bAt, c, cAt + r * COLUMNS, steps, resume);
      } else {
        three(a, aAt + r * steps, b, bAt, c, cAt + r * COLUMNS, steps, resume);
      }
    }
  }

  /// Three rows by three vectors.
  private static void three(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps, boolean resume) {
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
    // Three elements of A a step; COLUMNS is three times WIDTH.
    for (int i = 0; i < 3 * steps; i += 3) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + i * WIDTH);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, bAt + i * WIDTH + WIDTH);
      FloatVector b2 = FloatVector.fromArray(FLOAT, b, bAt + i * WIDTH + 2 * WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[aAt + i]);
      s00 = x0.lanewise(FMA, b0, s00);
      s01 = x0.lanewise(FMA, b1, s01);
      s02 = x0.lanewise(FMA, b2, s02);
      FloatVector x1 = FloatVector.broadcast(FLOAT, a[aAt + i + 1]);
      s10 = x1.lanewise(FMA, b0, s10);
      s11 = x1.lanewise(FMA, b1, s11);
      s12 = x1.lanewise(FMA, b2, s12);
      FloatVector x2 = FloatVector.broadcast(FLOAT, a[aAt + i + 2]);
      s20 = x2.lanewise(FMA, b0, s20);
      s21 = x2.lanewise(FMA, b1, s21);
      s22 = x2.lanewise(FMA, b2, s22);
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

  /// Twelve rows by two vectors, two steps at a time. With a counter of its own for A the loop has
  /// few instructions beside the multiply-adds, which a processor of four a cycle waits for.
  private static void twelve(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps, boolean resume) {
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
    FloatVector s60 = FloatVector.zero(FLOAT);
    FloatVector s61 = FloatVector.zero(FLOAT);
    FloatVector s70 = FloatVector.zero(FLOAT);
    FloatVector s71 = FloatVector.zero(FLOAT);
    FloatVector s80 = FloatVector.zero(FLOAT);
    FloatVector s81 = FloatVector.zero(FLOAT);
    FloatVector s90 = FloatVector.zero(FLOAT);
    FloatVector s91 = FloatVector.zero(FLOAT);
    FloatVector sa0 = FloatVector.zero(FLOAT);
    FloatVector sa1 = FloatVector.zero(FLOAT);
    FloatVector sb0 = FloatVector.zero(FLOAT);
    FloatVector sb1 = FloatVector.zero(FLOAT);
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
      s60 = FloatVector.fromArray(FLOAT, c, cAt + 6 * COLUMNS);
      s61 = FloatVector.fromArray(FLOAT, c, cAt + 6 * COLUMNS + WIDTH);
      s70 = FloatVector.fromArray(FLOAT, c, cAt + 7 * COLUMNS);
      s71 = FloatVector.fromArray(FLOAT, c, cAt + 7 * COLUMNS + WIDTH);
      s80 = FloatVector.fromArray(FLOAT, c, cAt + 8 * COLUMNS);
      s81 = FloatVector.fromArray(FLOAT, c, cAt + 8 * COLUMNS + WIDTH);
      s90 = FloatVector.fromArray(FLOAT, c, cAt + 9 * COLUMNS);
      s91 = FloatVector.fromArray(FLOAT, c, cAt + 9 * COLUMNS + WIDTH);
      sa0 = FloatVector.fromArray(FLOAT, c, cAt + 10 * COLUMNS);
      sa1 = FloatVector.fromArray(FLOAT, c, cAt + 10 * COLUMNS + WIDTH);
      sb0 = FloatVector.fromArray(FLOAT, c, cAt + 11 * COLUMNS);
      sb1 = FloatVector.fromArray(FLOAT, c, cAt + 11 * COLUMNS + WIDTH);
    }
    int i = aAt;
    for (int j = bAt; j < bAt + steps * COLUMNS; j += 2 * COLUMNS) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, j);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, j + WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[i]);
      s00 = x0.lanewise(FMA, b0, s00);
      s01 = x0.lanewise(FMA, b1, s01);
      FloatVector x1 = FloatVector.broadcast(FLOAT, a[i + 1]);
      s10 = x1.lanewise(FMA, b0, s10);
      s11 = x1.lanewise(FMA, b1, s11);
      FloatVector x2 = FloatVector.broadcast(FLOAT, a[i + 2]);
      s20 = x2.lanewise(FMA, b0, s20);
      s21 = x2.lanewise(FMA, b1, s21);
      FloatVector x3 = FloatVector.broadcast(FLOAT, a[i + 3]);
      s30 = x3.lanewise(FMA, b0, s30);
      s31 = x3.lanewise(FMA, b1, s31);
      FloatVector x4 = FloatVector.broadcast(FLOAT, a[i + 4]);
      s40 = x4.lanewise(FMA, b0, s40);
      s41 = x4.lanewise(FMA, b1, s41);
      FloatVector x5 = FloatVector.broadcast(FLOAT, a[i + 5]);
      s50 = x5.lanewise(FMA, b0, s50);
      s51 = x5.lanewise(FMA, b1, s51);
      FloatVector x6 = FloatVector.broadcast(FLOAT, a[i + 6]);
      s60 = x6.lanewise(FMA, b0, s60);
      s61 = x6.lanewise(FMA, b1, s61);
      FloatVector x7 = FloatVector.broadcast(FLOAT, a[i + 7]);
      s70 = x7.lanewise(FMA, b0, s70);
      s71 = x7.lanewise(FMA, b1, s71);
      FloatVector x8 = FloatVector.broadcast(FLOAT, a[i + 8]);
      s80 = x8.lanewise(FMA, b0, s80);
      s81 = x8.lanewise(FMA, b1, s81);
      FloatVector x9 = FloatVector.broadcast(FLOAT, a[i + 9]);
      s90 = x9.lanewise(FMA, b0, s90);
      s91 = x9.lanewise(FMA, b1, s91);
      FloatVector xa = FloatVector.broadcast(FLOAT, a[i + 10]);
      sa0 = xa.lanewise(FMA, b0, sa0);
      sa1 = xa.lanewise(FMA, b1, sa1);
      FloatVector xb = FloatVector.broadcast(FLOAT, a[i + 11]);
      sb0 = xb.lanewise(FMA, b0, sb0);
      sb1 = xb.lanewise(FMA, b1, sb1);
      FloatVector d0 = FloatVector.fromArray(FLOAT, b, j + COLUMNS);
      FloatVector d1 = FloatVector.fromArray(FLOAT, b, j + COLUMNS + WIDTH);
      FloatVector y0 = FloatVector.broadcast(FLOAT, a[i + 12]);
      s00 = y0.lanewise(FMA, d0, s00);
      s01 = y0.lanewise(FMA, d1, s01);
      FloatVector y1 = FloatVector.broadcast(FLOAT, a[i + 13]);
      s10 = y1.lanewise(FMA, d0, s10);
      s11 = y1.lanewise(FMA, d1, s11);
      FloatVector y2 = FloatVector.broadcast(FLOAT, a[i + 14]);
      s20 = y2.lanewise(FMA, d0, s20);
      s21 = y2.lanewise(FMA, d1, s21);
      FloatVector y3 = FloatVector.broadcast(FLOAT, a[i + 15]);
      s30 = y3.lanewise(FMA, d0, s30);
      s31 = y3.lanewise(FMA, d1, s31);
      FloatVector y4 = FloatVector.broadcast(FLOAT, a[i + 16]);
      s40 = y4.lanewise(FMA, d0, s40);
      s41 = y4.lanewise(FMA, d1, s41);
      FloatVector y5 = FloatVector.broadcast(FLOAT, a[i + 17]);
      s50 = y5.lanewise(FMA, d0, s50);
      s51 = y5.lanewise(FMA, d1, s51);
      FloatVector y6 = FloatVector.broadcast(FLOAT, a[i + 18]);
      s60 = y6.lanewise(FMA, d0, s60);
      s61 = y6.lanewise(FMA, d1, s61);
      FloatVector y7 = FloatVector.broadcast(FLOAT, a[i + 19]);
      s70 = y7.lanewise(FMA, d0, s70);
      s71 = y7.lanewise(FMA, d1, s71);
      FloatVector y8 = FloatVector.broadcast(FLOAT, a[i + 20]);
      s80 = y8.lanewise(FMA, d0, s80);
      s81 = y8.lanewise(FMA, d1, s81);
      FloatVector y9 = FloatVector.broadcast(FLOAT, a[i + 21]);
      s90 = y9.lanewise(FMA, d0, s90);
      s91 = y9.lanewise(FMA, d1, s91);
      FloatVector ya = FloatVector.broadcast(FLOAT, a[i + 22]);
      sa0 = ya.lanewise(FMA, d0, sa0);
      sa1 = ya.lanewise(FMA, d1, sa1);
      FloatVector yb = FloatVector.broadcast(FLOAT, a[i + 23]);
      sb0 = yb.lanewise(FMA, d0, sb0);
      sb1 = yb.lanewise(FMA, d1, sb1);
      i += 24;
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
    s60.intoArray(c, cAt + 6 * COLUMNS);
    s61.intoArray(c, cAt + 6 * COLUMNS + WIDTH);
    s70.intoArray(c, cAt + 7 * COLUMNS);
    s71.intoArray(c, cAt + 7 * COLUMNS + WIDTH);
    s80.intoArray(c, cAt + 8 * COLUMNS);
    s81.intoArray(c, cAt + 8 * COLUMNS + WIDTH);
    s90.intoArray(c, cAt + 9 * COLUMNS);
    s91.intoArray(c, cAt + 9 * COLUMNS + WIDTH);
    sa0.intoArray(c, cAt + 10 * COLUMNS);
    sa1.intoArray(c, cAt + 10 * COLUMNS + WIDTH);
    sb0.intoArray(c, cAt + 11 * COLUMNS);
    sb1.intoArray(c, cAt + 11 * COLUMNS + WIDTH);
  }

  /// The first four rows of a tile of twelve.
  private static void four(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps, boolean resume) {
    FloatVector s00 = FloatVector.zero(FLOAT);
    FloatVector s01 = FloatVector.zero(FLOAT);
    FloatVector s10 = FloatVector.zero(FLOAT);
    FloatVector s11 = FloatVector.zero(FLOAT);
    FloatVector s20 = FloatVector.zero(FLOAT);
    FloatVector s21 = FloatVector.zero(FLOAT);
    FloatVector s30 = FloatVector.zero(FLOAT);
    FloatVector s31 = FloatVector.zero(FLOAT);
    if (resume) {
      s00 = FloatVector.fromArray(FLOAT, c, cAt);
      s01 = FloatVector.fromArray(FLOAT, c, cAt + WIDTH);
      s10 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS);
      s11 = FloatVector.fromArray(FLOAT, c, cAt + COLUMNS + WIDTH);
      s20 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS);
      s21 = FloatVector.fromArray(FLOAT, c, cAt + 2 * COLUMNS + WIDTH);
      s30 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS);
      s31 = FloatVector.fromArray(FLOAT, c, cAt + 3 * COLUMNS + WIDTH);
    }
    for (int k = 0; k < steps; k++) {
      FloatVector b0 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS);
      FloatVector b1 = FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + WIDTH);
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[aAt + k * 12]);
      s00 = x0.lanewise(FMA, b0, s00);
      s01 = x0.lanewise(FMA, b1, s01);
      FloatVector x1 = FloatVector.broadcast(FLOAT, a[aAt + k * 12 + 1]);
      s10 = x1.lanewise(FMA, b0, s10);
      s11 = x1.lanewise(FMA, b1, s11);
      FloatVector x2 = FloatVector.broadcast(FLOAT, a[aAt + k * 12 + 2]);
      s20 = x2.lanewise(FMA, b0, s20);
      s21 = x2.lanewise(FMA, b1, s21);
      FloatVector x3 = FloatVector.broadcast(FLOAT, a[aAt + k * 12 + 3]);
      s30 = x3.lanewise(FMA, b0, s30);
      s31 = x3.lanewise(FMA, b1, s31);
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

  /// One row, by as many vectors as the others.
  private static void one(
      float[] a, int aAt, float[] b, int bAt, float[] c, int cAt, int steps, boolean resume) {
    FloatVector s0 = FloatVector.zero(FLOAT);
    FloatVector s1 = FloatVector.zero(FLOAT);
    FloatVector s2 = FloatVector.zero(FLOAT);
    if (resume) {
      s0 = FloatVector.fromArray(FLOAT, c, cAt);
      s1 = FloatVector.fromArray(FLOAT, c, cAt + WIDTH);
      if (VECTORS == 3) {
        s2 = FloatVector.fromArray(FLOAT, c, cAt + 2 * WIDTH);
      }
    }
    for (int k = 0; k < steps; k++) {
      FloatVector x0 = FloatVector.broadcast(FLOAT, a[aAt + k * ROWS]);
      s0 = x0.lanewise(FMA, FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS), s0);
      s1 = x0.lanewise(FMA, FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + WIDTH), s1);
      if (VECTORS == 3) {
        s2 = x0.lanewise(FMA, FloatVector.fromArray(FLOAT, b, bAt + k * COLUMNS + 2 * WIDTH), s2);
      }
    }
    s0.intoArray(c, cAt);
    s1.intoArray(c, cAt + WIDTH);
    if (VECTORS == 3) {
      s2.intoArray(c, cAt + 2 * WIDTH);
    }
  }
}
