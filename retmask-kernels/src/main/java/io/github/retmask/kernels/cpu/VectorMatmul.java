package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// The three products of a linear layer, all as `C[m,n] (+)= sum_k A[m,k] B[k,n]`:
///
/// | op              | C         | A      | B    | k runs over |
/// |-----------------|-----------|--------|------|-------------|
/// | matmul          | out [N,O] | x      | W^T  | inputs      |
/// | backward input  | dx [N,I]  | dOut   | W    | outputs     |
/// | backward weight | dW [O,I]  | dOut^T | x    | tokens      |
///
/// B is packed into panels of 64 columns, A is read where it lies, a block of C stays in an array
/// until it is finished. With few rows every task packs the panels it needs, and memory bounds the
/// speed; with many rows all tasks first pack B together, and the multiply-adds do.
final class VectorMatmul {
  /// Steps of k per pass: a tile's share of a panel (32 columns of 4 bytes) fills 16 KiB of L1. With
  /// 256 steps the gradient of the weight, whose A is read across its rows, ran at 150 instead of
  /// 166 GFLOP/s (3072 tokens, 256 to 128), the other products at the same speed.
  private static final int DEPTH = 128;

  /// Columns of a block of C.
  private static final int WIDTH = 4 * Panels.COLUMNS;

  /// Rows of a block of C, 192 KiB of L2.
  private static final int ROWS = 192;

  /// Rows from which packing B together pays.
  private static final int MANY = 48;

  /// Floats of B that are packed together, 16 MiB.
  private static final long SHARED = 1 << 22;

  /// Multiply-adds below which a second thread is not worth waking, some 5 microseconds.
  private static final long SMALL = 1 << 18;

  /// Packing an element takes about as long as this many multiply-adds.
  private static final long PACKING = 12;

  private static final int PACKED = 0;
  private static final int STAGED = 1;
  private static final int SUMS = 2;
  private static final int SHARED_PANELS = 3;

  private VectorMatmul() {}

  static void matmul(WorkerPool pool, Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    int inner = (int) x.dim(1);
    multiply(
        pool,
        new Product(
            x.segment(),
            4L * inner,
            4,
            new Operand(weight.segment(), weight.dtype(), inner, true),
            out.segment(),
            x.dim(0),
            (int) weight.dim(0),
            inner,
            false,
            bias == null ? null : bias.toFloats()));
  }

  static void backwardInput(
      WorkerPool pool, Tensor dx, Tensor dOut, Tensor weight, Accumulate intoDx) {
    int outs = (int) weight.dim(0);
    int inner = (int) weight.dim(1);
    multiply(
        pool,
        new Product(
            dOut.segment(),
            4L * outs,
            4,
            new Operand(weight.segment(), weight.dtype(), inner, false),
            dx.segment(),
            dOut.dim(0),
            inner,
            outs,
            intoDx == Accumulate.ADD,
            null));
  }

  /// The chains start from the former content of dWeight and dBias, so that rows given in several
  /// calls add up to the same bits as in one.
  static void backwardWeight(
      WorkerPool pool, Tensor dWeight, @Nullable Tensor dBias, Tensor dOut, Tensor x) {
    int outs = (int) dWeight.dim(0);
    int inner = (int) dWeight.dim(1);
    multiply(
        pool,
        new Product(
            dOut.segment(),
            4,
            4L * outs,
            new Operand(x.segment(), DType.F32, inner, false),
            dWeight.segment(),
            outs,
            inner,
            (int) x.dim(0),
            true,
            null));
    if (dBias != null) {
      addRows(dBias, dOut);
    }
  }

  /// `sum[j] += rows[n][j]`, n ascending.
  private static void addRows(Tensor sum, Tensor rows) {
    float[] total = sum.toFloats();
    MemorySegment from = rows.segment();
    for (long n = 0; n < rows.dim(0); n++) {
      long row = n * total.length * 4;
      for (int j = 0; j < total.length; j++) {
        total[j] += Lanes.get(from, row + j * 4L);
      }
    }
    sum.copyFrom(total);
  }

  /// B of a product.
  ///
  /// @param width elements of a stored row
  /// @param transposed whether stored rows are columns of B
  private record Operand(MemorySegment memory, DType type, int width, boolean transposed) {

    /// Packs B[k0 .. k0 + steps, n0 .. n0 + columns], at most [#WIDTH] columns, into panels.
    ///
    /// @param stride distance of panels in `to`
    void pack(
        float[] to, int at, int stride, int k0, int steps, int n0, int columns, Scratch scratch) {
      float[] staged = scratch.floats(STAGED, DEPTH * VectorMatmul.WIDTH);
      int rows = transposed ? columns : steps;
      int rowLength = transposed ? steps : columns;
      int row = transposed ? n0 : k0;
      int column = transposed ? k0 : n0;
      Blocks.readWide(staged, 0, memory, type, width, row, column, rows, rowLength, scratch);
      for (int j = 0; j < columns; j += Panels.COLUMNS) {
        int some = Math.min(Panels.COLUMNS, columns - j);
        int panel = at + j / Panels.COLUMNS * stride;
        if (transposed) {
          Panels.transpose(to, panel, staged, j * rowLength, rowLength, some, steps);
        } else {
          Panels.copy(to, panel, staged, j, rowLength, steps, some);
        }
      }
    }
  }

  /// One product; A[m][k] lies at byte `m aRow + k aStep`, C is dense.
  ///
  /// @param resume whether C is added to
  /// @param bias `[n]`, added after the last step, or null
  private record Product(
      MemorySegment a,
      long aRow,
      long aStep,
      Operand b,
      MemorySegment c,
      long m,
      int n,
      int k,
      boolean resume,
      float @Nullable [] bias) {

    long work() {
      return (m + PACKING) * n * Math.max(1, k);
    }

    /// A block of C from the packed columns of B, or packing them on the way.
    ///
    /// @param rows at most [#ROWS]
    /// @param columns at most [#WIDTH]
    /// @param packed all steps of the panels from column j0 on, or null
    void block(
        long r0,
        int rows,
        int j0,
        int columns,
        float @Nullable [] packed,
        int packedAt,
        Scratch scratch) {
      int cRow = (columns + Tiles.TILE - 1) / Tiles.TILE * Tiles.TILE;
      float[] sums = scratch.floats(SUMS, ROWS * VectorMatmul.WIDTH);
      long cAt = 4 * (r0 * n + j0);
      if (resume) {
        Blocks.read(sums, 0, cRow, c, cAt, 4L * n, rows, columns);
      }
      int passes = Math.max(1, (k + DEPTH - 1) / DEPTH);
      for (int i = 0; i < passes; i++) {
        int k0 = (int) ((long) k * i / passes);
        int steps = (int) ((long) k * (i + 1) / passes) - k0;
        float[] panels;
        int at;
        int stride;
        if (packed == null) {
          panels = scratch.floats(PACKED, DEPTH * VectorMatmul.WIDTH);
          at = 0;
          stride = DEPTH * Panels.COLUMNS;
          b.pack(panels, at, stride, k0, steps, j0, columns, scratch);
        } else {
          panels = packed;
          at = packedAt + k0 * Panels.COLUMNS;
          stride = k * Panels.COLUMNS;
        }
        for (int j = 0; j < columns; j += Tiles.TILE) {
          Tiles.multiply(
              a,
              r0 * aRow + k0 * aStep,
              aRow,
              aStep,
              panels,
              at + j / Panels.COLUMNS * stride + j % Panels.COLUMNS,
              sums,
              j,
              cRow,
              rows,
              steps,
              resume || i > 0);
        }
      }
      if (bias != null) {
        for (int r = 0; r < rows; r++) {
          for (int j = 0; j < columns; j++) {
            sums[r * cRow + j] += bias[j0 + j];
          }
        }
      }
      Blocks.write(c, cAt, 4L * n, sums, 0, cRow, rows, columns);
    }
  }

  private static void multiply(WorkerPool pool, Product p) {
    if (p.m == 0 || p.n == 0) {
      return;
    }
    if (p.m < MANY) {
      multiplyFew(pool, p);
      return;
    }
    long columns = Math.max(1, SHARED / Math.max(1, p.k) / WIDTH) * WIDTH;
    for (int j0 = 0; j0 < p.n; j0 += (int) Math.min(columns, p.n)) {
      multiplyMany(pool, p, j0, (int) Math.min(p.n, j0 + columns));
    }
  }

  /// Every task packs its own columns.
  private static void multiplyFew(WorkerPool pool, Product p) {
    int panels = (p.n + Panels.COLUMNS - 1) / Panels.COLUMNS;
    long wanted = pool.threads() == 1 ? 1 : Math.min(4L * pool.threads(), p.work() / SMALL);
    int perTask = (int) Math.max(1, Math.min(4, panels / Math.max(1, wanted)));
    int tasks = (panels + perTask - 1) / perTask;
    pool.ranges(
        tasks,
        1,
        Math.max(1, tasks / Math.max(1, wanted)),
        (from, to, scratch) -> {
          for (int task = (int) from; task < to; task++) {
            int j0 = task * perTask * Panels.COLUMNS;
            int columns = Math.min(p.n - j0, perTask * Panels.COLUMNS);
            p.block(0, (int) p.m, j0, columns, null, 0, scratch);
          }
        });
  }

  /// The columns from n0 to n1: first B is packed, then multiplied.
  private static void multiplyMany(WorkerPool pool, Product p, int n0, int n1) {
    int groups = (n1 - n0 + WIDTH - 1) / WIDTH;
    int passes = Math.max(1, (p.k + DEPTH - 1) / DEPTH);
    int panelSize = p.k * Panels.COLUMNS;
    int panels = (n1 - n0 + Panels.COLUMNS - 1) / Panels.COLUMNS;
    float[] packed = pool.callerScratch().floats(SHARED_PANELS, panels * panelSize);
    int units = groups * passes;
    pool.ranges(
        units,
        1,
        Math.max(1, SMALL / PACKING / DEPTH / WIDTH),
        (from, to, scratch) -> {
          for (int unit = (int) from; unit < to; unit++) {
            int group = unit / passes;
            int i = unit % passes;
            int k0 = (int) ((long) p.k * i / passes);
            int steps = (int) ((long) p.k * (i + 1) / passes) - k0;
            int j = group * WIDTH;
            int columns = Math.min(WIDTH, n1 - n0 - j);
            int at = group * (WIDTH / Panels.COLUMNS) * panelSize + k0 * Panels.COLUMNS;
            p.b.pack(packed, at, panelSize, k0, steps, n0 + j, columns, scratch);
          }
        });
    // Blocks of whole sixes of rows, a few per thread; columns are cut where rows do not suffice.
    long wanted =
        pool.threads() == 1 ? 1 : Math.min(4L * pool.threads(), Math.max(1, p.work() / SMALL));
    long perTask = (p.m / wanted + 5) / 6 * 6;
    int rows = (int) Math.max(24, Math.min(ROWS, perTask));
    int blocks = (int) ((p.m + rows - 1) / rows);
    int cut = blocks < Math.min(wanted, pool.threads()) ? Panels.COLUMNS : WIDTH;
    int cuts = (n1 - n0 + cut - 1) / cut;
    int tasks = blocks * cuts;
    pool.ranges(
        tasks,
        1,
        Math.max(1, tasks / wanted),
        (from, to, scratch) -> {
          for (int task = (int) from; task < to; task++) {
            long r0 = (long) (task / cuts) * rows;
            int j = task % cuts * cut;
            p.block(
                r0,
                (int) Math.min(rows, p.m - r0),
                n0 + j,
                Math.min(cut, n1 - n0 - j),
                packed,
                j / Panels.COLUMNS * panelSize,
                scratch);
          }
        });
  }
}
