package io.github.retmask.kernels.cpu;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.util.Arrays;

/// One factor of a product, as it is stored, and how it is packed for [Tiles]. Its lines are the
/// rows of A or the columns of B; every line runs over the inner dimension k.
///
/// @param matrix row-major
/// @param lineIsRow whether a line is stored as a row, or as a column
record Operand(Tensor matrix, boolean lineIsRow) {
  private static final int STAGED = 0;

  /// Lines and steps of a block that [Panels] transposes.
  private static final int EIGHT = 8;

  /// Packs one pass of lines as rows of A: within a slice tile by tile, in the form that [Tiles]
  /// wants.
  ///
  /// @param to filled from `at`, the first line's place in the pass's first slice, on
  /// @param height lines that a slice has room for
  void packRows(
      float[] to,
      int at,
      int height,
      ChainLayout layout,
      int pass,
      long firstLine,
      int lines,
      Scratch scratch) {
    int steps = layout.steps(pass);
    int sliceSize = layout.sliceSize(pass, height);
    int group = lineIsRow ? Tiles.ROWS : lines;
    for (int r = 0; r < lines; r += group) {
      int some = Math.min(group, lines - r);
      Interleaved panels = new Interleaved(to, at + r * steps, Tiles.ROWS, steps * Tiles.ROWS, -0f);
      pack(panels, sliceSize, layout, pass, firstLine + r, some, scratch);
    }
  }

  /// Lines that are best packed as columns of B in one go.
  int group() {
    return lineIsRow ? Tiles.COLUMNS : 12 * Tiles.COLUMNS;
  }

  /// Packs one pass of lines, at most a [#group], as columns of B: panel by panel, and within a
  /// slice of a panel step by step, [Tiles#COLUMNS] elements each.
  ///
  /// @param to filled from `at`, the pass's place in the first panel, on
  /// @param panelSize distance of panels in `to`
  void packColumns(
      float[] to,
      int at,
      int panelSize,
      ChainLayout layout,
      int pass,
      long firstLine,
      int lines,
      Scratch scratch) {
    Interleaved panels = new Interleaved(to, at, Tiles.COLUMNS, panelSize, 0f);
    int sliceSize = layout.sliceSize(pass, Tiles.COLUMNS);
    pack(panels, sliceSize, layout, pass, firstLine, lines, scratch);
  }

  /// Where lines go that lie side by side: step by step `width` elements.
  ///
  /// @param apart distance of panels of `width` lines
  /// @param padding value of steps behind the inner dimension
  private record Interleaved(float[] to, int at, int width, int apart, float padding) {}

  /// @param lines at most one panel's where lines are rows
  private void pack(
      Interleaved panels,
      int sliceSize,
      ChainLayout layout,
      int pass,
      long firstLine,
      int lines,
      Scratch scratch) {
    float[] to = panels.to;
    int at = panels.at;
    int width = panels.width;
    int k0 = layout.firstOf(pass);
    int count = layout.firstOf(pass + 1) - k0;
    int chains = layout.chains();
    for (int k = Math.ceilDiv(count, chains); k < layout.steps(pass); k++) {
      for (int j = 0; j < lines; j += width) {
        for (int c = 0; c < chains; c++) {
          int step = at + j / width * panels.apart + c * sliceSize + k * width;
          Arrays.fill(to, step, step + width, panels.padding);
        }
      }
    }
    RowGroups groups = lineIsRow && chains == EIGHT ? RowGroups.of(matrix) : null;
    if (groups != null && width % Lanes.WIDTH == 0) {
      long row = groups.firstRow(matrix) + firstLine;
      if (GroupPanels.suits(row, k0, count)) {
        GroupPanels.pack(to, at, width, sliceSize, groups, row, lines, k0, count);
        return;
      }
    }
    if (readsInPlace(lines, count, chains)) {
      // Within a block of eight steps every step is another chain's, or the next of the only one.
      int step = chains == 1 ? width : sliceSize;
      int block = chains == 1 ? EIGHT * width : width;
      long rowBytes = Float.BYTES * matrix.dim(-1);
      long from = firstLine * rowBytes + Float.BYTES * k0;
      Panels.transpose(to, at, step, block, matrix.segment(), from, rowBytes, lines, count);
      return;
    }
    float[] staged = stage(k0, count, firstLine, lines, scratch);
    if (!lineIsRow) {
      for (int j = 0; j < lines; j += width) {
        int panel = at + j / width * panels.apart;
        if (lines - j >= width && width >= RowDots.LANES) {
          Blocks.spread(to, panel, width, staged, j, lines, count);
          continue;
        }
        int some = Math.min(width, lines - j);
        for (int k = 0; k < count; k++) {
          for (int i = 0; i < some; i++) {
            to[panel + k * width + i] = staged[k * lines + j + i];
          }
        }
      }
      return;
    }
    int row = stagedRow(count);
    if (chains == 1) {
      Panels.transpose(to, at, width, staged, 0, row, lines, count);
      return;
    }
    for (int k = 0; k < count; k += chains) {
      int some = Math.min(chains, count - k);
      int step = at + k / chains * width;
      Panels.transpose(to, step, sliceSize, staged, k, row, lines, some);
      for (int c = some; c < chains; c++) {
        Arrays.fill(to, step + c * sliceSize, step + c * sliceSize + width, panels.padding);
      }
    }
  }

  /// Whether lines are floats that can be transposed where they lie, in blocks of eight by eight.
  private boolean readsInPlace(int lines, int count, int chains) {
    return lineIsRow
        && matrix.dtype() == DType.F32
        && (chains == 1 || chains == EIGHT)
        && Panels.readsOffHeap(matrix.segment(), lines, count);
  }

  /// A part of the matrix widened to floats, in stored order; columns are dense.
  private float[] stage(int k0, int count, long firstLine, int lines, Scratch scratch) {
    if (lineIsRow) {
      int row = stagedRow(count);
      float[] staged = scratch.floats(STAGED, row * lines);
      Blocks.readWide(staged, 0, row, matrix, firstLine, k0, lines, count, scratch);
      return staged;
    }
    float[] staged = scratch.floats(STAGED, count * lines);
    Blocks.readWide(staged, 0, lines, matrix, k0, firstLine, count, lines, scratch);
    return staged;
  }

  /// Distance of staged rows: not a power of two, which would put them all into one set of L1.
  private static int stagedRow(int count) {
    return count + 16;
  }
}
