package io.github.retmask.kernels.cpu;

import io.github.retmask.tensor.DType;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/// One factor of a product, as it is stored, and how it is packed for [Tiles]. Its lines are the
/// rows of A or the columns of B; every line runs over the inner dimension k.
///
/// @param memory the matrix, row-major
/// @param type of its elements
/// @param width elements of a stored row
/// @param lineIsRow whether a line is stored as a row, or as a column
record Operand(MemorySegment memory, DType type, int width, boolean lineIsRow) {
  private static final int STAGED = 0;

  /// Packs one pass of lines as rows of A: within a slice, line by line, `steps` elements each.
  ///
  /// @param to filled from `at`, the first line's place in the pass's first slice, on
  /// @param sliceSize distance of slices in `to`
  void packRows(
      float[] to,
      int at,
      int sliceSize,
      ChainLayout layout,
      int pass,
      long firstLine,
      int lines,
      Scratch scratch) {
    int k0 = layout.firstOf(pass);
    int count = layout.firstOf(pass + 1) - k0;
    int steps = layout.steps(pass);
    float[] staged = stage(k0, count, firstLine, lines, scratch);
    if (!lineIsRow) {
      Panels.transpose(to, at, steps, staged, 0, lines, count, lines);
      return;
    }
    int chains = layout.chains();
    for (int r = 0; r < lines; r++) {
      int from = r * count;
      int line = at + r * steps;
      if (chains == 1) {
        System.arraycopy(staged, from, to, line, count);
        continue;
      }
      int whole = count / chains;
      Panels.transpose(to, line, sliceSize, staged, from, chains, whole, chains);
      if (whole < steps) {
        for (int c = 0; c < chains; c++) {
          int k = whole * chains + c;
          to[line + c * sliceSize + whole] = k < count ? staged[from + k] : 0f;
        }
      }
    }
  }

  /// Packs one pass of lines, at most a tile's, as columns of B: within a slice, step by step,
  /// [Tiles#COLUMNS] elements each.
  void packColumns(
      float[] to,
      int at,
      ChainLayout layout,
      int pass,
      long firstLine,
      int lines,
      Scratch scratch) {
    int k0 = layout.firstOf(pass);
    int count = layout.firstOf(pass + 1) - k0;
    float[] staged = stage(k0, count, firstLine, lines, scratch);
    if (!lineIsRow) {
      for (int k = 0; k < count; k++) {
        System.arraycopy(staged, k * lines, to, at + k * Tiles.COLUMNS, lines);
      }
      return;
    }
    int chains = layout.chains();
    if (chains == 1) {
      Panels.transpose(to, at, Tiles.COLUMNS, staged, 0, count, lines, count);
      return;
    }
    int sliceSize = layout.steps(pass) * Tiles.COLUMNS;
    for (int k = 0; k < count; k += chains) {
      int some = Math.min(chains, count - k);
      int step = at + k / chains * Tiles.COLUMNS;
      Panels.transpose(to, step, sliceSize, staged, k, count, lines, some);
      for (int c = some; c < chains; c++) {
        Arrays.fill(to, step + c * sliceSize, step + c * sliceSize + Tiles.COLUMNS, 0f);
      }
    }
  }

  /// A part of the matrix widened to floats, dense, in stored order.
  private float[] stage(int k0, int count, long firstLine, int lines, Scratch scratch) {
    float[] staged = scratch.floats(STAGED, count * lines);
    if (lineIsRow) {
      Blocks.readWide(staged, 0, memory, type, width, firstLine, k0, lines, count, scratch);
    } else {
      Blocks.readWide(staged, 0, memory, type, width, k0, firstLine, count, lines, scratch);
    }
    return staged;
  }
}
