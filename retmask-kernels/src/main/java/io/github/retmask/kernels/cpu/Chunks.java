package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.BatchLayout;

/// The tokens of a batch, row by row, in chunks of at most `size` that start anew with every row.
///
/// @param rows row of each chunk
/// @param starts its first token within the row
record Chunks(BatchLayout layout, int size, int[] rows, int[] starts) {

  static Chunks of(BatchLayout layout, int size) {
    int count = 0;
    for (int r = 0; r < layout.rows(); r++) {
      count += (layout.length(r) + size - 1) / size;
    }
    int[] rows = new int[count];
    int[] starts = new int[count];
    int chunk = 0;
    for (int r = 0; r < layout.rows(); r++) {
      for (int t = 0; t < layout.length(r); t += size) {
        rows[chunk] = r;
        starts[chunk++] = t;
      }
    }
    return new Chunks(layout, size, rows, starts);
  }

  int count() {
    return rows.length;
  }

  /// Tokens of a chunk.
  int length(int chunk) {
    return Math.min(size, layout.length(rows[chunk]) - starts[chunk]);
  }

  /// Its first token in packed tensors.
  int token(int chunk) {
    return layout.tokenStart(rows[chunk]) + starts[chunk];
  }
}
