package io.github.retmask.kernels.cpu;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;
import org.jspecify.annotations.Nullable;

/// `C[m,n] (+)= sum_k A[m,k] B[k,n]` by packing: A and B are copied into the form that [Tiles]
/// reads, each once and by all threads together, then blocks of C are computed from them. A block
/// stays in an array until it is finished.
///
/// @param a its lines are the rows of A
/// @param b its lines are the columns of B
/// @param c dense
/// @param resume whether C is added to; the chain then starts from it
/// @param bias `[n]`, added after the last step, or null
record PackedProduct(
    Operand a,
    Operand b,
    MemorySegment c,
    long m,
    int n,
    ChainLayout layout,
    boolean resume,
    float @Nullable [] bias) {
  /// Rows of a block of C at most: what a tile reads of A, and the sums of all chains, stay in L2.
  private static final int ROWS = 96;

  /// Columns of a block of C at most, a multiple of every tile's.
  private static final int WIDTH = 192;

  /// Floats of B that the blocks of some columns share, 384 KiB of L2.
  private static final int CACHED = 96 << 10;

  /// Floats of an operand that are packed at once, 16 MiB.
  private static final long PACKED = 1 << 22;

  /// Multiply-adds below which a second thread is not worth waking, some 5 microseconds.
  private static final long SMALL = 1 << 18;

  /// Packing an element takes about as long as this many multiply-adds.
  private static final int PACKING = 16;

  /// Rows below which every task packs its own columns of B, which saves a wait.
  private static final int FEW = 24;

  // Slot 0 is the operands' staging area.
  private static final int PACKED_A = 1;
  private static final int PACKED_B = 2;
  private static final int BLOCK = 3;
  private static final int SUMS = 4;
  private static final int OWN_B = 5;

  void run(WorkerPool pool) {
    if (m == 0 || n == 0) {
      return;
    }
    int padded = Math.max(1, layout.padded());
    long rows = Math.max(ROWS, PACKED / padded / ROWS * ROWS);
    int columns =
        (int) Math.max(WIDTH, Math.min(Integer.MAX_VALUE / 2, PACKED / padded) / WIDTH * WIDTH);
    for (long m0 = 0; m0 < m; m0 += rows) {
      int some = (int) Math.min(rows, m - m0);
      float[] packedA = packA(pool, m0, some);
      if (m < FEW) {
        multiply(pool, packedA, m0, some, null, 0, n);
        continue;
      }
      for (int n0 = 0; n0 < n; n0 += Math.min(columns, n - n0)) {
        int wide = Math.min(columns, n - n0);
        multiply(pool, packedA, m0, some, packB(pool, n0, wide), n0, wide);
      }
    }
  }

  private static int roundUp(int value, int multiple) {
    return (value + multiple - 1) / multiple * multiple;
  }

  /// Units of packing below which another thread is not worth waking.
  private static long atLeast(int units, long elements) {
    return Math.max(1, units * SMALL / Math.max(1, elements * PACKING));
  }

  /// Rows by blocks, so that what a block reads lies together.
  private float[] packA(WorkerPool pool, long m0, int rows) {
    int padded = layout.padded();
    float[] packed =
        pool.callerScratch().floats(PACKED_A, roundUp(rows, Tiles.ROWS) * layout.padded());
    int passes = layout.passes();
    int units = (rows + ROWS - 1) / ROWS * passes;
    pool.ranges(
        units,
        1,
        atLeast(units, (long) rows * padded),
        (from, to, scratch) -> {
          for (int unit = (int) from; unit < to; unit++) {
            int r = unit / passes * ROWS;
            int pass = unit % passes;
            int lines = Math.min(ROWS, rows - r);
            int height = roundUp(lines, Tiles.ROWS);
            int at = r * padded + height * layout.chains() * layout.begin(pass);
            int sliceSize = height * layout.steps(pass);
            a.packRows(packed, at, sliceSize, layout, pass, m0 + r, lines, scratch);
          }
        });
    return packed;
  }

  private float[] packB(WorkerPool pool, int n0, int columns) {
    int panels = (columns + Tiles.COLUMNS - 1) / Tiles.COLUMNS;
    float[] packed = pool.callerScratch().floats(PACKED_B, panels * panelSize());
    int units = panels * layout.passes();
    pool.ranges(
        units,
        1,
        atLeast(units, (long) columns * layout.padded()),
        (from, to, scratch) -> {
          for (int unit = (int) from; unit < to; unit++) {
            int panel = unit / layout.passes();
            int pass = unit % layout.passes();
            int j = panel * Tiles.COLUMNS;
            packPanel(packed, panel * panelSize(), pass, n0 + j, columns - j, scratch);
          }
        });
    return packed;
  }

  private int panelSize() {
    return layout.padded() * Tiles.COLUMNS;
  }

  /// One pass of a panel at `at`: as many of the columns as it holds.
  private void packPanel(float[] to, int at, int pass, int column, int columns, Scratch scratch) {
    int slices = at + layout.begin(pass) * layout.chains() * Tiles.COLUMNS;
    int some = Math.min(Tiles.COLUMNS, columns);
    b.packColumns(to, slices, layout, pass, column, some, scratch);
  }

  /// Rows from m0 on and columns from n0 on.
  ///
  /// @param packedB the columns, or null where every task packs its own
  private void multiply(
      WorkerPool pool,
      float[] packedA,
      long m0,
      int rows,
      float @Nullable [] packedB,
      int n0,
      int columns) {
    long work = ((long) rows + (packedB == null ? PACKING : 0)) * columns * layout.padded();
    long wanted = pool.threads() == 1 ? 1 : Math.min(4L * pool.threads(), work / SMALL);
    int heights = (rows + ROWS - 1) / ROWS;
    int fitting = CACHED / Math.max(1, layout.padded()) / Tiles.COLUMNS * Tiles.COLUMNS;
    int width = Math.max(Tiles.COLUMNS, Math.min(WIDTH, fitting));
    while (width > Tiles.COLUMNS && (long) heights * ((columns + width - 1) / width) < wanted) {
      width = roundUp(width / 2, Tiles.COLUMNS);
    }
    int widths = (columns + width - 1) / width;
    int columnsOfBlock = width;
    int tasks = heights * widths;
    pool.ranges(
        tasks,
        1,
        Math.max(1, tasks / Math.max(1, wanted)),
        (from, to, scratch) -> {
          for (int task = (int) from; task < to; task++) {
            int r = task % heights * ROWS; // one block after the other reads the same of B
            int j = task / heights * columnsOfBlock;
            int some = Math.min(columnsOfBlock, columns - j);
            int lines = Math.min(ROWS, rows - r);
            block(packedA, r, lines, m0 + r, packedB, j, some, n0 + j, scratch);
          }
        });
  }

  /// A block of C.
  ///
  /// @param r first row within them, m0 within C
  /// @param j first column within the packed ones, n0 within C
  private void block(
      float[] packedA,
      int r,
      int lines,
      long m0,
      float @Nullable [] packedB,
      int j,
      int columns,
      int n0,
      Scratch scratch) {
    int width = roundUp(columns, Tiles.COLUMNS);
    int height = roundUp(lines, Tiles.ROWS);
    long cAt = 4 * (m0 * n + n0);
    float[] block = scratch.floats(BLOCK, ROWS * WIDTH);
    if (resume) {
      Blocks.read(block, 0, width, c, cAt, 4L * n, lines, columns);
    }
    boolean single = layout.chains() == 1;
    float[] sums = single ? block : scratch.floats(SUMS, layout.chains() * ROWS * Tiles.COLUMNS);
    int sumRow = single ? width : Tiles.COLUMNS;
    int aAt = r * layout.padded();
    for (int p = 0; p < width; p += Tiles.COLUMNS) {
      float[] panels;
      int panel;
      if (packedB == null) {
        panels = scratch.floats(OWN_B, panelSize());
        panel = 0;
        for (int pass = 0; pass < layout.passes(); pass++) {
          packPanel(panels, 0, pass, n0 + p, columns - p, scratch);
        }
      } else {
        panels = packedB;
        panel = (j + p) / Tiles.COLUMNS * panelSize();
      }
      for (int pass = 0; pass < layout.passes(); pass++) {
        int steps = layout.steps(pass);
        for (int chain = 0; chain < layout.chains(); chain++) {
          int slice = layout.chains() * layout.begin(pass) + chain * steps;
          Tiles.multiply(
              packedA,
              aAt + height * slice,
              steps,
              panels,
              panel + slice * Tiles.COLUMNS,
              sums,
              single ? p : chain * height * Tiles.COLUMNS,
              sumRow,
              lines,
              steps,
              resume || pass > 0);
        }
      }
      if (!single) {
        addChains(sums, height * Tiles.COLUMNS, lines, block, p, width);
      }
    }
    if (bias != null) {
      for (int i = 0; i < lines; i++) {
        for (int col = 0; col < columns; col++) {
          block[i * width + col] += bias[n0 + col];
        }
      }
    }
    Blocks.write(c, cAt, 4L * n, block, 0, width, lines, columns);
  }

  /// The tree over the eight chains of a tile's columns.
  private static void addChains(
      float[] sums, int size, int lines, float[] block, int at, int width) {
    for (int r = 0; r < lines; r++) {
      for (int j = 0; j < Tiles.COLUMNS; j += Lanes.WIDTH) {
        int from = r * Tiles.COLUMNS + j;
        FloatVector even = pair(sums, from, size).add(pair(sums, from + 2 * size, size));
        FloatVector odd = pair(sums, from + size, size).add(pair(sums, from + 3 * size, size));
        even.add(odd).intoArray(block, at + r * width + j);
      }
    }
  }

  /// A chain and the fourth after it.
  private static FloatVector pair(float[] sums, int at, int size) {
    return FloatVector.fromArray(Lanes.FLOAT, sums, at)
        .add(FloatVector.fromArray(Lanes.FLOAT, sums, at + 4 * size));
  }
}
