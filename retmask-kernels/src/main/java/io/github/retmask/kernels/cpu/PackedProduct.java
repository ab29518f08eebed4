package io.github.retmask.kernels.cpu;

import static jdk.incubator.vector.VectorOperators.ADD;

import java.lang.foreign.MemorySegment;
import java.util.List;
import jdk.incubator.vector.FloatVector;
import org.jspecify.annotations.Nullable;

/// `C[m,n] (+)= sum_k A[m,k] B[k,n]` by packing: A and B are copied into the form that [Tiles]
/// reads, then blocks of C are computed from them. Where all of B fits into a task's L2, all threads pack
/// it together, and every task packs its own rows of A. Otherwise A is packed once by all threads, and
/// columns of B that are stored as rows by the task that needs them, so that they stay in its L2; other
/// columns are, as A is, many side by side. The sums of a block of C stay in an array until they
/// are finished.
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
  /// Rows of a block of C at most, a multiple of every tile's: a slice of A then takes up to
  /// 144 KiB of L2.
  private static final int ROWS = 144;

  /// Columns of a block of C at most, a multiple of every tile's.
  private static final int WIDTH = 192;

  /// Floats of an operand that are packed at once, 8 MiB.
  private static final long PACKED = 1 << 21;

  /// Multiply-adds below which a second thread is not worth waking, some 5 microseconds.
  private static final long SMALL = 1 << 18;

  /// Packing an element takes about as long as this many multiply-adds.
  private static final int PACKING = 16;

  /// Floats of the columns that a task packs for itself at most, unless a tile's are more: 256 KiB
  /// of L2.
  private static final int OWN = 1 << 16;

  /// Rows for each thread below which tasks take columns, not rows.
  private static final int ROWS_EACH = 48;

  /// Rows below which tasks pack any columns of B themselves, which saves a wait.
  private static final int FEW = 24;

  // Slots 0 and BlockTypes.PART are for reading operands.
  private static final int PACKED_A = 1;
  private static final int PACKED_B = 2;
  private static final int SUMS = 3;
  private static final int OWN_B = BlockTypes.PART + 1;

  void run(WorkerPool pool) {
    run(pool, List.of(this));
  }

  /// Products of one A, which is packed once for all of them.
  ///
  /// @param products alike in `a`, `m`, `layout` and whether columns of B are stored as rows
  static void run(WorkerPool pool, List<PackedProduct> products) {
    PackedProduct any = products.getFirst();
    if (suitRows(products, pool.threads())) {
      multiplyRows(pool, products);
      return;
    }
    int rows = any.atOnce(any.m, ROWS, Tiles.ROWS);
    for (long m0 = 0; m0 < any.m; m0 += rows) {
      int some = (int) Math.min(rows, any.m - m0);
      float[] packedA = any.packA(pool, m0, some);
      if (any.m < FEW || any.b.lineIsRow()) {
        multiplyOwn(pool, products, packedA, m0, some);
        continue;
      }
      for (PackedProduct one : products) {
        one.multiplyShared(pool, packedA, m0, some);
      }
    }
  }

  /// Lines of an operand that are packed at once: parts of about the same size.
  ///
  /// @param least lines that are worth a part
  /// @param multiple of which parts are, the last one aside
  private int atOnce(long lines, int least, int multiple) {
    long most = Math.max(least, PACKED / Math.max(1, layout.inner()));
    long parts = Math.max(1, Math.ceilDiv(lines, most));
    return roundUp((int) Math.ceilDiv(lines, parts), multiple);
  }

  /// Whether all columns of B fit into a task's L2, and there are rows for all threads.
  private static boolean suitRows(List<PackedProduct> products, int threads) {
    PackedProduct any = products.getFirst();
    return any.a.lineIsRow()
        && any.m >= (long) ROWS_EACH * threads
        && (long) panels(products) * any.panelSize() <= OWN;
  }

  private static int panels(List<PackedProduct> products) {
    return products.stream().mapToInt(PackedProduct::panels).sum();
  }

  /// Columns of B are packed by all threads together; every task packs some rows of A, and multiplies
  /// them with all columns while they are in its L2.
  private static void multiplyRows(WorkerPool pool, List<PackedProduct> products) {
    PackedProduct any = products.getFirst();
    int size = any.panelSize();
    float[] packedB = pool.callerScratch().floats(PACKED_B, panels(products) * size);
    int panels = 0;
    for (PackedProduct one : products) {
      one.packB(pool, packedB, panels * size, 0, one.n);
      panels += one.panels();
    }
    long work = (any.m + PACKING) * panels(products) * Tiles.COLUMNS * any.layout.inner();
    int threads = Math.clamp(work / SMALL, 1, pool.threads());
    long most = Math.ceilDiv(any.m, ROWS);
    int lines =
        roundUp((int) Math.ceilDiv(any.m, Math.ceilDiv(most, threads) * threads), Tiles.ROWS);
    run(
        pool,
        (int) Math.ceilDiv(any.m, lines),
        threads > 1,
        (task, scratch) -> {
          long m0 = (long) task * lines;
          int some = (int) Math.min(lines, any.m - m0);
          float[] rows = scratch.floats(PACKED_A, any.layout.size(ROWS));
          for (int pass = 0; pass < any.layout.passes(); pass++) {
            any.packRows(rows, 0, pass, m0, some, scratch);
          }
          int j = 0;
          for (PackedProduct one : products) {
            for (int n0 = 0; n0 < one.n; n0 += WIDTH) {
              int wide = Math.min(WIDTH, one.n - n0);
              one.block(rows, 0, some, m0, packedB, j + n0, wide, n0, scratch);
            }
            j += one.panels() * Tiles.COLUMNS;
          }
        });
  }

  /// Rows from m0 on and all columns, which all threads pack together.
  private void multiplyShared(WorkerPool pool, float[] packedA, long m0, int rows) {
    int columns = atOnce(n, WIDTH, Tiles.COLUMNS);
    for (int n0 = 0; n0 < n; n0 += Math.min(columns, n - n0)) {
      int wide = Math.min(columns, n - n0);
      int panels = (wide + Tiles.COLUMNS - 1) / Tiles.COLUMNS;
      float[] packedB = pool.callerScratch().floats(PACKED_B, panels * panelSize());
      packB(pool, packedB, 0, n0, wide);
      multiply(pool, packedA, m0, rows, packedB, n0, wide);
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
    int blocks = (rows + ROWS - 1) / ROWS;
    float[] packed = pool.callerScratch().floats(PACKED_A, blocks * layout.size(ROWS));
    int passes = layout.passes();
    int units = blocks * passes;
    pool.ranges(
        units,
        1,
        atLeast(units, (long) rows * layout.inner()),
        (from, to, scratch) -> {
          for (int unit = (int) from; unit < to; unit++) {
            int block = unit / passes;
            int r = block * ROWS;
            int pass = unit % passes;
            int lines = Math.min(ROWS, rows - r);
            packRows(packed, block * layout.size(ROWS), pass, m0 + r, lines, scratch);
          }
        });
    return packed;
  }

  /// One pass of a block of rows, which begins at `at`.
  private void packRows(float[] to, int at, int pass, long row, int lines, Scratch scratch) {
    int height = roundUp(lines, Tiles.ROWS);
    int first = at + layout.at(pass, 0, height);
    a.packRows(to, first, height, layout, pass, row, lines, scratch);
  }

  /// Columns from n0 on, panel by panel from `packed[first]` on.
  private void packB(WorkerPool pool, float[] packed, int first, int n0, int columns) {
    int group = b.group();
    int passes = layout.passes();
    int units = (columns + group - 1) / group * passes;
    pool.ranges(
        units,
        1,
        atLeast(units, (long) columns * layout.inner()),
        (from, to, scratch) -> {
          for (int unit = (int) from; unit < to; unit++) {
            int j = unit / passes * group;
            int some = Math.min(group, columns - j);
            int at = first + j / Tiles.COLUMNS * panelSize();
            packPass(packed, at, unit % passes, n0 + j, some, scratch);
          }
        });
  }

  private int panelSize() {
    return layout.size(Tiles.COLUMNS);
  }

  /// One pass of the panels from `at` on.
  private void packPass(float[] to, int at, int pass, int column, int columns, Scratch scratch) {
    int slices = at + layout.at(pass, 0, Tiles.COLUMNS);
    b.packColumns(to, slices, panelSize(), layout, pass, column, columns, scratch);
  }

  /// Rows from m0 on and all columns; every task packs some columns and multiplies them with all
  /// rows while they are in its L2.
  private static void multiplyOwn(
      WorkerPool pool, List<PackedProduct> products, float[] packedA, long m0, int rows) {
    long work = 0;
    for (PackedProduct one : products) {
      work += ((long) rows + PACKING) * one.n * one.layout.inner();
    }
    int threads = Math.clamp(work / SMALL, 1, pool.threads());
    OwnColumns[] parts = new OwnColumns[products.size()];
    int tasks = 0;
    for (int i = 0; i < parts.length; i++) {
      parts[i] = OwnColumns.of(products.get(i), rows, threads, tasks);
      tasks = parts[i].end();
    }
    run(
        pool,
        tasks,
        threads > 1,
        (task, scratch) -> {
          int i = 0;
          while (task >= parts[i].end()) {
            i++;
          }
          parts[i].run(task - parts[i].from, packedA, m0, rows, scratch);
        });
  }

  /// The tasks of a product whose columns each task packs itself.
  ///
  /// @param widths groups of columns
  /// @param heights groups of rows: with more threads than panels, some pack the same columns, for
  ///   other rows
  /// @param from tasks of the products before
  private record OwnColumns(PackedProduct product, int widths, int heights, int from) {

    static OwnColumns of(PackedProduct product, int rows, int threads, int from) {
      int panels = product.panels();
      int most = Math.clamp(OWN / product.panelSize(), 1, WIDTH / Tiles.COLUMNS);
      int widths = Math.min(panels, roundUp(Math.ceilDiv(panels, most), threads));
      int heights = Math.min(Math.ceilDiv(rows, ROWS), Math.ceilDiv(threads, Math.max(1, widths)));
      return new OwnColumns(product, widths, heights, from);
    }

    int end() {
      return from + widths * heights;
    }

    void run(int task, float[] packedA, long m0, int rows, Scratch scratch) {
      int width = task % widths;
      long panels = product.panels();
      int first = (int) (panels * width / widths) * Tiles.COLUMNS;
      int end = Math.min(product.n, (int) (panels * (width + 1) / widths) * Tiles.COLUMNS);
      float[] own = product.ownPanels(first, end - first, scratch);
      int blocks = Math.ceilDiv(rows, ROWS);
      int height = task / widths;
      int last = Math.min(rows, blocks * (height + 1) / heights * ROWS);
      for (int r = blocks * height / heights * ROWS; r < last; r += ROWS) {
        int lines = Math.min(ROWS, rows - r);
        product.block(packedA, r, lines, m0 + r, own, 0, end - first, first, scratch);
      }
    }
  }

  private int panels() {
    return Math.ceilDiv(n, Tiles.COLUMNS);
  }

  /// Rows from m0 on and columns from n0 on, packed before.
  private void multiply(
      WorkerPool pool, float[] packedA, long m0, int rows, float[] packedB, int n0, int columns) {
    long work = (long) rows * columns * layout.inner();
    long wanted = pool.threads() == 1 ? 1 : Math.min(16L * pool.threads(), work / SMALL);
    int heights = (rows + ROWS - 1) / ROWS;
    int width = WIDTH;
    while (width > Tiles.COLUMNS && (long) heights * ((columns + width - 1) / width) < wanted) {
      width = roundUp(width / 2, Tiles.COLUMNS);
    }
    int widths = (columns + width - 1) / width;
    int columnsOfBlock = width;
    int tasks = heights * widths;
    WorkerPool.Body block =
        (task, scratch) -> {
          int r = task / widths * ROWS;
          int j = task % widths * columnsOfBlock;
          int some = Math.min(columnsOfBlock, columns - j);
          int lines = Math.min(ROWS, rows - r);
          block(packedA, r, lines, m0 + r, packedB, j, some, n0 + j, scratch);
        };
    run(pool, tasks, wanted > 1, block);
  }

  /// Runs tasks on all threads, or on the calling one where others are not worth waking.
  private static void run(WorkerPool pool, int tasks, boolean onAll, WorkerPool.Body body) {
    if (onAll) {
      pool.run(tasks, body);
      return;
    }
    for (int task = 0; task < tasks; task++) {
      body.run(task, pool.callerScratch());
    }
  }

  /// A block of C.
  ///
  /// @param r first row within the packed ones, m0 within C
  /// @param j first column within the packed ones, n0 within C
  private void block(
      float[] packedA,
      int r,
      int lines,
      long m0,
      float[] packedB,
      int j,
      int columns,
      int n0,
      Scratch scratch) {
    int width = roundUp(columns, Tiles.COLUMNS);
    int height = roundUp(lines, Tiles.ROWS);
    // Sums lie panel after panel, rows of a panel one after the other: at constant distances.
    float[] sums = scratch.floats(SUMS, layout.chains() * ROWS * WIDTH);
    int size = height * width;
    for (int p = 0; p < width && resume; p += Tiles.COLUMNS) {
      int some = Math.min(Tiles.COLUMNS, columns - p);
      long from = cAt(m0, n0 + p);
      ShortRows.read(sums, p * height, Tiles.COLUMNS, c, from, 4L * n, lines, some);
    }
    // A slice of A stays in L2 while the columns run, one of B in L1 while the rows do.
    int panel = j / Tiles.COLUMNS * panelSize();
    int aAt = r / ROWS * layout.size(ROWS);
    for (int pass = 0; pass < layout.passes(); pass++) {
      int steps = layout.steps(pass);
      for (int chain = 0; chain < layout.chains(); chain++) {
        int rowsAt = aAt + layout.at(pass, chain, height);
        int columnsAt = panel + layout.at(pass, chain, Tiles.COLUMNS);
        for (int p = 0; p < width; p += Tiles.COLUMNS) {
          Tiles.multiply(
              packedA,
              rowsAt,
              packedB,
              columnsAt + p / Tiles.COLUMNS * panelSize(),
              sums,
              chain * size + p * height,
              lines,
              steps,
              resume || pass > 0);
        }
      }
    }
    for (int p = 0; p < width; p += Tiles.COLUMNS) {
      int some = Math.min(Tiles.COLUMNS, columns - p);
      write(sums, p * height, size, m0, lines, n0 + p, some);
    }
  }

  /// All panels of some columns, packed by and for one thread.
  private float[] ownPanels(int column, int columns, Scratch scratch) {
    int panels = (columns + Tiles.COLUMNS - 1) / Tiles.COLUMNS;
    float[] packed = scratch.floats(OWN_B, panels * panelSize());
    for (int pass = 0; pass < layout.passes(); pass++) {
      for (int j = 0; j < columns; j += b.group()) {
        int some = Math.min(b.group(), columns - j);
        packPass(packed, j / Tiles.COLUMNS * panelSize(), pass, column + j, some, scratch);
      }
    }
    return packed;
  }

  /// Finishes the sums of a panel and writes them.
  ///
  /// @param at of its first sums
  /// @param size distance of chains
  private void write(float[] sums, int at, int size, long row, int lines, int column, int columns) {
    addChains(sums, at, size, lines);
    if (columns < Tiles.COLUMNS) {
      writePart(sums, at, row, lines, column, columns);
      return;
    }
    MemorySegment memory = OffHeap.KIND.cast(c);
    long to = cAt(row, column);
    for (int line = at; line < at + lines * Tiles.COLUMNS; line += Tiles.COLUMNS) {
      for (int i = 0; i < Tiles.COLUMNS; i += Lanes.WIDTH) {
        FloatVector sum = FloatVector.fromArray(Lanes.FLOAT, sums, line + i);
        if (bias != null) {
          sum = sum.lanewise(ADD, FloatVector.fromArray(Lanes.FLOAT, bias, column + i));
        }
        sum.intoMemorySegment(memory, to + 4L * i, Lanes.LE);
      }
      to += 4L * n;
    }
  }

  /// The same for fewer columns than a panel's.
  private void writePart(float[] sums, int at, long row, int lines, int column, int columns) {
    for (int line = 0; bias != null && line < lines; line++) {
      int first = at + line * Tiles.COLUMNS;
      for (int j = 0; j < columns; j++) {
        sums[first + j] += bias[column + j];
      }
    }
    Blocks.write(c, cAt(row, column), 4L * n, sums, at, Tiles.COLUMNS, lines, columns);
  }

  /// Byte of an element of C.
  private long cAt(long row, int column) {
    return 4 * (row * n + column);
  }

  /// Adds up the chains of each output, a tree over the eight, in place of the first.
  private void addChains(float[] sums, int at, int size, int lines) {
    if (layout.chains() == 1) {
      return;
    }
    for (int i = at; i < at + lines * Tiles.COLUMNS; i += Lanes.WIDTH) {
      FloatVector c0 = FloatVector.fromArray(Lanes.FLOAT, sums, i);
      FloatVector c1 = FloatVector.fromArray(Lanes.FLOAT, sums, i + size);
      FloatVector c2 = FloatVector.fromArray(Lanes.FLOAT, sums, i + 2 * size);
      FloatVector c3 = FloatVector.fromArray(Lanes.FLOAT, sums, i + 3 * size);
      c0 = c0.lanewise(ADD, FloatVector.fromArray(Lanes.FLOAT, sums, i + 4 * size));
      c1 = c1.lanewise(ADD, FloatVector.fromArray(Lanes.FLOAT, sums, i + 5 * size));
      c2 = c2.lanewise(ADD, FloatVector.fromArray(Lanes.FLOAT, sums, i + 6 * size));
      c3 = c3.lanewise(ADD, FloatVector.fromArray(Lanes.FLOAT, sums, i + 7 * size));
      c0.lanewise(ADD, c2).lanewise(ADD, c1.lanewise(ADD, c3)).intoArray(sums, i);
    }
  }
}
