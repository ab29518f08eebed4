package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.LE;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;

/// Reads short rows of floats, such as those of one head: by vectors, which take less time to begin
/// than a copy of memory.
final class ShortRows {
  private ShortRows() {}

  /// Reads `rows` x `columns` floats.
  ///
  /// @param toRow distance of rows in `to`
  /// @param rowBytes distance of rows in `from`
  static void read(
      float[] to,
      int toAt,
      int toRow,
      MemorySegment from,
      long at,
      long rowBytes,
      int rows,
      int columns) {
    if (columns % WIDTH != 0 || !OffHeap.holds(from)) {
      Blocks.read(to, toAt, toRow, from, at, rowBytes, rows, columns);
      return;
    }
    for (int r = 0; r < rows; r++) {
      readRow(to, toAt + r * toRow, from, at + r * rowBytes, columns);
    }
  }

  private static void readRow(float[] to, int toAt, MemorySegment segment, long at, int columns) {
    MemorySegment from = OffHeap.cast(segment);
    for (int i = 0; i < columns; i += WIDTH) {
      FloatVector.fromMemorySegment(FLOAT, from, at + i * 4L, LE).intoArray(to, toAt + i);
    }
  }
}
