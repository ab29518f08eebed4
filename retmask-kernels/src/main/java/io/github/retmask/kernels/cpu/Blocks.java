package io.github.retmask.kernels.cpu;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/// Moves blocks of matrices between segments and heap arrays. Vectors are loaded from arrays and
/// stored to arrays only.
///
/// The reason: until C2 has compiled it, `reinterpretAsInts` goes through a heap segment, and from
/// then on the profile of every vector access to a segment holds two kinds of memory. Products that
/// start or end in a segment then keep their sums boxed: 24 instead of 220 GFLOP/s (JDK 25). Where that
/// takes too long, [OffHeap] tells the compiler the kind, as in [ShortRows].
final class Blocks {
  /// Half as wide as the float vectors, so that widening fills one.
  private static final VectorSpecies<Short> HALF =
      VectorSpecies.of(short.class, VectorShape.forBitSize(Lanes.WIDTH * 16));

  private Blocks() {}

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
    if (toRow == columns && rowBytes == 4L * columns) {
      MemorySegment.copy(from, Lanes.F32, at, to, toAt, rows * columns);
      return;
    }
    for (int r = 0; r < rows; r++) {
      MemorySegment.copy(from, Lanes.F32, at + r * rowBytes, to, toAt + r * toRow, columns);
    }
  }

  /// Writes `rows` x `columns` floats.
  static void write(
      MemorySegment to,
      long toAt,
      long rowBytes,
      float[] from,
      int at,
      int row,
      int rows,
      int columns) {
    if (row == columns && rowBytes == 4L * columns) {
      MemorySegment.copy(from, at, to, Lanes.F32, toAt, rows * columns);
      return;
    }
    for (int r = 0; r < rows; r++) {
      MemorySegment.copy(from, at + r * row, to, Lanes.F32, toAt + r * rowBytes, columns);
    }
  }

  /// Reads `rows` x `columns` elements of any float type from a matrix, starting at its row `row` and
  /// column `column`.
  ///
  /// @param toRow distance of rows in `to`
  static void readWide(
      float[] to,
      int toAt,
      int toRow,
      Tensor from,
      long row,
      long column,
      int rows,
      int columns,
      Scratch scratch) {
    long width = from.dim(-1);
    long first = row * width + column;
    if (from.dtype() == DType.F32) {
      long rowBytes = Float.BYTES * width;
      read(to, toAt, toRow, from.segment(), Float.BYTES * first, rowBytes, rows, columns);
    } else if (toRow == columns && columns == width) {
      readWide(to, toAt, from, first, rows * columns, scratch);
    } else {
      for (int r = 0; r < rows; r++) {
        readWide(to, toAt + r * toRow, from, first + r * width, columns, scratch);
      }
    }
  }

  /// Reads the elements `[first, first + count)` of a tensor of any float type, in row-major order.
  static void readWide(float[] to, int toAt, Tensor from, long first, int count, Scratch scratch) {
    DType type = from.dtype();
    if (!type.isBlock()) {
      if (type == DType.F32) {
        MemorySegment.copy(from.segment(), Lanes.F32, Float.BYTES * first, to, toAt, count);
      } else {
        widen(to, toAt, from.segment(), Short.BYTES * first, type, count, scratch);
      }
      return;
    }
    RowGroups groups = RowGroups.of(from);
    if (groups != null) {
      groups.read(to, toAt, from, first, count, scratch);
    } else {
      BlockTypes.read(to, toAt, from.segment(), type, first, count, scratch);
    }
  }

  private static void widen(
      float[] to, int toAt, MemorySegment from, long at, DType type, int count, Scratch scratch) {
    short[] bits = scratch.shorts(count);
    MemorySegment.copy(from, Lanes.I16, at, bits, 0, count);
    if (type == DType.BF16) {
      widenBFloat16(to, toAt, bits, count);
    } else {
      widenFloat16(to, toAt, bits, count);
    }
  }

  private static void widenBFloat16(float[] to, int toAt, short[] bits, int count) {
    int i = 0;
    for (; i <= count - Lanes.WIDTH; i += Lanes.WIDTH) {
      ShortVector.fromArray(HALF, bits, i)
          .convertShape(VectorOperators.ZERO_EXTEND_S2I, Lanes.INT, 0)
          .reinterpretAsInts()
          .lanewise(VectorOperators.LSHL, 16)
          .reinterpretAsFloats()
          .intoArray(to, toAt + i);
    }
    for (; i < count; i++) {
      to[toAt + i] = Float.intBitsToFloat(bits[i] << 16);
    }
  }

  /// C2 turns this loop into vector conversions where the processor has them.
  private static void widenFloat16(float[] to, int toAt, short[] bits, int count) {
    for (int i = 0; i < count; i++) {
      to[toAt + i] = Float.float16ToFloat(bits[i]);
    }
  }

  /// Copies rows of `width` floats to where they lie one after the other.
  ///
  /// @param row distance of rows in `from`
  static void spread(float[] to, int toAt, int width, float[] from, int at, int row, int rows) {
    for (int r = 0; r < rows; r++) {
      System.arraycopy(from, at + r * row, to, toAt + r * width, width);
    }
  }
}
