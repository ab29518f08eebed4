package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.LE;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;

/// Moves short rows of floats, such as those of one head, between segments and heap arrays: by vectors,
/// which take less time to begin than a copy of memory.
///
/// One loop over the vectors of all rows: C2 would check the bounds of a loop over one row before it,
/// which takes longer than the few vectors that follow. Four of them a turn, for which there is but one
/// reason: methods of more than 325 bytes are compiled by themselves. Inlined into callers whose profile
/// had a method that cast the segment as rare, C2 left that out, and every vector became an object in
/// six of eight JVM runs (a tenth of the attention of narrow heads).
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
    MemorySegment memory = OffHeap.KIND.cast(from);
    int toFirst = toAt;
    long first = at;
    int column = 0;
    int vectors = rows * columns / WIDTH;
    int i = 0;
    for (; i < vectors - 3; i += 4) {
      FloatVector.fromMemorySegment(FLOAT, memory, first + column * 4L, LE)
          .intoArray(to, toFirst + column);
      column += WIDTH;
      if (column == columns) {
        column = 0;
        toFirst += toRow;
        first += rowBytes;
      }
      FloatVector.fromMemorySegment(FLOAT, memory, first + column * 4L, LE)
          .intoArray(to, toFirst + column);
      column += WIDTH;
      if (column == columns) {
        column = 0;
        toFirst += toRow;
        first += rowBytes;
      }
      FloatVector.fromMemorySegment(FLOAT, memory, first + column * 4L, LE)
          .intoArray(to, toFirst + column);
      column += WIDTH;
      if (column == columns) {
        column = 0;
        toFirst += toRow;
        first += rowBytes;
      }
      FloatVector.fromMemorySegment(FLOAT, memory, first + column * 4L, LE)
          .intoArray(to, toFirst + column);
      column += WIDTH;
      if (column == columns) {
        column = 0;
        toFirst += toRow;
        first += rowBytes;
      }
    }
    for (; i < vectors; i++) {
      FloatVector.fromMemorySegment(FLOAT, memory, first + column * 4L, LE)
          .intoArray(to, toFirst + column);
      column += WIDTH;
      if (column == columns) {
        column = 0;
        toFirst += toRow;
        first += rowBytes;
      }
    }
  }

  /// Writes `rows` x `columns` floats.
  ///
  /// @param rowBytes distance of rows in `to`
  /// @param row distance of rows in `from`
  static void write(
      MemorySegment to,
      long toAt,
      long rowBytes,
      float[] from,
      int at,
      int row,
      int rows,
      int columns) {
    if (columns % WIDTH != 0 || !OffHeap.holds(to)) {
      Blocks.write(to, toAt, rowBytes, from, at, row, rows, columns);
      return;
    }
    MemorySegment memory = OffHeap.KIND.cast(to);
    long toFirst = toAt;
    int first = at;
    int column = 0;
    int vectors = rows * columns / WIDTH;
    int i = 0;
    for (; i < vectors - 3; i += 4) {
      FloatVector.fromArray(FLOAT, from, first + column)
          .intoMemorySegment(memory, toFirst + column * 4L, LE);
      column += WIDTH;
      if (column == columns) {
        column = 0;
        toFirst += rowBytes;
        first += row;
      }
      FloatVector.fromArray(FLOAT, from, first + column)
          .intoMemorySegment(memory, toFirst + column * 4L, LE);
      column += WIDTH;
      if (column == columns) {
        column = 0;
        toFirst += rowBytes;
        first += row;
      }
      FloatVector.fromArray(FLOAT, from, first + column)
          .intoMemorySegment(memory, toFirst + column * 4L, LE);
      column += WIDTH;
      if (column == columns) {
        column = 0;
        toFirst += rowBytes;
        first += row;
      }
      FloatVector.fromArray(FLOAT, from, first + column)
          .intoMemorySegment(memory, toFirst + column * 4L, LE);
      column += WIDTH;
      if (column == columns) {
        column = 0;
        toFirst += rowBytes;
        first += row;
      }
    }
    for (; i < vectors; i++) {
      FloatVector.fromArray(FLOAT, from, first + column)
          .intoMemorySegment(memory, toFirst + column * 4L, LE);
      column += WIDTH;
      if (column == columns) {
        column = 0;
        toFirst += rowBytes;
        first += row;
      }
    }
  }
}
