package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// The three products of a linear layer, all as `C[m,n] (+)= sum_k A[m,k] B[k,n]`:
///
/// | op              | C         | A               | B              | k runs over |
/// |-----------------|-----------|-----------------|----------------|-------------|
/// | matmul          | out [N,O] | x               | W^T            | inputs      |
/// | backward input  | dx [N,I]  | dOut            | W              | outputs     |
/// | backward weight | dW [O,I]  | dOut^T          | x              | tokens      |
///
/// B is packed into panels of 64 columns and at most [#DEPTH] steps, A is read where it lies. Between
/// two blocks of k the unfinished chains rest in C, which changes no bit. Each element of C belongs
/// to one task. With few rows, packing bounds the speed; with many, the multiply-adds do.
final class VectorMatmul {
  /// Steps of k per block: a tile's share of a panel (32 columns of 4 bytes) fills 32 KiB of L1.
  private static final int DEPTH = 256;

  /// Panels packed at once, 64 KiB each: they share L2 with the rows of A.
  private static final int PANELS = 4;

  /// Rows of A per pass over the packed panels.
  private static final int ROWS = 192;

  /// Multiply-adds below which a second thread is not worth waking, some 5 microseconds.
  private static final long SMALL = 1 << 18;

  private static final int PACKED = 0;
  private static final int WIDE = 1;
  private static final int EDGE = 2;

  private VectorMatmul() {}

  static void matmul(WorkerPool pool, Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    long inner = x.dim(1);
    Product product =
        new Product(
            x.segment(),
            4 * inner,
            4,
            new Operand(weight.segment(), weight.dtype(), inner, true),
            out.segment(),
            x.dim(0),
            (int) weight.dim(0),
            inner,
            false,
            bias == null ? null : bias.toFloats());
    multiply(pool, product);
  }

  static void backwardInput(
      WorkerPool pool, Tensor dx, Tensor dOut, Tensor weight, Accumulate intoDx) {
    long outs = weight.dim(0);
    int inner = (int) weight.dim(1);
    Product product =
        new Product(
            dOut.segment(),
            4 * outs,
            4,
            new Operand(weight.segment(), weight.dtype(), inner, false),
            dx.segment(),
            dOut.dim(0),
            inner,
            outs,
            intoDx == Accumulate.ADD,
            null);
    multiply(pool, product);
  }

  static void backwardWeight(
      WorkerPool pool, Tensor dWeight, @Nullable Tensor dBias, Tensor dOut, Tensor x) {
    long outs = dWeight.dim(0);
    int inner = (int) dWeight.dim(1);
    Product product =
        new Product(
            dOut.segment(),
            4,
            4 * outs,
            new Operand(x.segment(), DType.F32, inner, false),
            dWeight.segment(),
            outs,
            inner,
            x.dim(0),
            true,
            null);
    multiply(pool, product);
    if (dBias != null) {
      addRows(dBias.segment(), dOut.segment(), dOut.dim(0), (int) outs);
    }
  }

  /// `sum[j] += rows[n][j]`, n ascending.
  private static void addRows(MemorySegment sum, MemorySegment rows, long count, int width) {
    float[] total = new float[width];
    MemorySegment.copy(sum, Lanes.F32, 0, total, 0, width);
    for (long n = 0; n < count; n++) {
      long row = n * width * 4;
      for (int j = 0; j < width; j++) {
        total[j] += rows.get(Lanes.F32, row + j * 4L);
      }
    }
    MemorySegment.copy(total, 0, sum, Lanes.F32, 0, width);
  }

  /// B of a product.
  ///
  /// @param width elements of a stored row
  /// @param transposed whether stored rows are columns of B
  private record Operand(MemorySegment memory, DType type, long width, boolean transposed) {

    /// Packs B[k0 .. k0 + steps, n0 .. n0 + columns] into a panel.
    void pack(float[] panel, int at, long k0, int steps, long n0, int columns, Scratch scratch) {
      long row = transposed ? n0 : k0;
      long column = transposed ? k0 : n0;
      int rows = transposed ? columns : steps;
      int rowLength = transposed ? steps : columns;
      MemorySegment from = memory;
      long fromAt = (row * width + column) * type.bytes();
      long rowBytes = width * type.bytes();
      if (type != DType.F32) {
        from = scratch.segment(WIDE, (long) DEPTH * Panels.COLUMNS);
        for (int r = 0; r < rows; r++) {
          Panels.widen(from, 4L * r * rowLength, memory, fromAt + r * rowBytes, type, rowLength);
        }
        fromAt = 0;
        rowBytes = 4L * rowLength;
      }
      if (transposed) {
        Panels.transpose(panel, at, from, fromAt, rowBytes, rows, steps);
      } else {
        Panels.copy(panel, at, from, fromAt, rowBytes, rows, columns);
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
      long k,
      boolean resume,
      float @Nullable [] bias) {

    /// The block of C from row m0 to m1 and column n0 to n1; n0 is a multiple of 64.
    void block(long m0, long m1, int n0, int n1, Scratch scratch) {
      float[] packed = scratch.floats(PACKED, PANELS * DEPTH * Panels.COLUMNS);
      for (int j0 = n0; j0 < n1; j0 += PANELS * Panels.COLUMNS) {
        int j1 = Math.min(n1, j0 + PANELS * Panels.COLUMNS);
        long blocks = Math.max(1, (k + DEPTH - 1) / DEPTH);
        for (long i = 0; i < blocks; i++) {
          long k0 = k * i / blocks;
          int steps = (int) (k * (i + 1) / blocks - k0);
          for (int j = j0; j < j1; j += Panels.COLUMNS) {
            int panel = (j - j0) * DEPTH;
            b.pack(packed, panel, k0, steps, j, Math.min(Panels.COLUMNS, n - j), scratch);
          }
          for (long r0 = m0; r0 < m1; r0 += ROWS) {
            int rows = (int) Math.min(ROWS, m1 - r0);
            for (int j = j0; j < j1; j += Panels.COLUMNS) {
              int panel = (j - j0) * DEPTH;
              int columns = Math.min(Panels.COLUMNS, n - j);
              panel(r0, rows, packed, panel, j, columns, k0, steps, resume || i > 0, scratch);
            }
          }
        }
        if (bias != null) {
          addBias(bias, m0, m1, j0, Math.min(n, j1));
        }
      }
    }

    private void panel(
        long r0,
        int rows,
        float[] packed,
        int panel,
        int j0,
        int columns,
        long k0,
        int steps,
        boolean resume,
        Scratch scratch) {
      long aAt = r0 * aRow + k0 * aStep;
      long cRow = 4L * n;
      for (int j = 0; j < columns; j += Tiles.TILE) {
        long cAt = r0 * cRow + 4L * (j0 + j);
        int width = columns - j;
        if (width >= Tiles.TILE) {
          Tiles.multiply(a, aAt, aRow, aStep, packed, panel + j, c, cAt, cRow, rows, steps, resume);
        } else {
          MemorySegment edge = scratch.segment(EDGE, (long) ROWS * Tiles.TILE);
          long edgeRow = 4L * Tiles.TILE;
          if (resume) {
            copyColumns(edge, 0, edgeRow, c, cAt, cRow, rows, width);
          }
          Tiles.multiply(
              a, aAt, aRow, aStep, packed, panel + j, edge, 0, edgeRow, rows, steps, resume);
          copyColumns(c, cAt, cRow, edge, 0, edgeRow, rows, width);
        }
      }
    }

    private static void copyColumns(
        MemorySegment to,
        long toAt,
        long toRow,
        MemorySegment from,
        long at,
        long row,
        int rows,
        int columns) {
      for (int r = 0; r < rows; r++) {
        MemorySegment.copy(from, at + r * row, to, toAt + r * toRow, 4L * columns);
      }
    }

    private void addBias(float[] bias, long m0, long m1, int n0, int n1) {
      for (long r = m0; r < m1; r++) {
        for (int j = n0; j < n1; j++) {
          long at = 4 * (r * n + j);
          Lanes.set(c, at, Lanes.get(c, at) + bias[j]);
        }
      }
    }
  }

  /// Cuts C into tasks. Cutting columns packs nothing twice, cutting rows packs B once per cut: rows
  /// are cut only as far as needed or when they are many.
  private static void multiply(WorkerPool pool, Product p) {
    int panels = (p.n + Panels.COLUMNS - 1) / Panels.COLUMNS;
    long work = p.m * p.n * Math.max(1, p.k);
    int wanted = (int) Math.min(4L * pool.threads(), Math.max(1, work / SMALL));
    if (pool.threads() == 1) {
      wanted = 1;
    }
    long rowCuts = Math.min(wanted, p.m / 128);
    if (rowCuts * panels < wanted) {
      rowCuts = Math.min((wanted + panels - 1) / panels, (p.m + 5) / 6);
    }
    int byRows = (int) Math.max(1, rowCuts);
    int byColumns = Math.min(panels, (wanted + byRows - 1) / byRows);
    long sixes = (p.m + 5) / 6;
    pool.run(
        byRows * byColumns,
        (task, scratch) -> {
          int row = task / byColumns;
          int column = task % byColumns;
          long m0 = sixes * row / byRows * 6;
          long m1 = Math.min(p.m, sixes * (row + 1) / byRows * 6);
          int n0 = panels * column / byColumns * Panels.COLUMNS;
          int n1 = Math.min(p.n, panels * (column + 1) / byColumns * Panels.COLUMNS);
          p.block(m0, m1, n0, n1, scratch);
        });
  }
}
