package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.LE;

import io.github.retmask.tensor.DType;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorShuffle;
import jdk.incubator.vector.VectorSpecies;

/// Copies parts of matrices into panels: heap arrays of 64 columns, row-major, the form from which
/// [Tiles] loads vectors. The constant row length lets the compiler drop its bounds checks.
final class Panels {
  /// Columns of a panel, and its row length.
  static final int COLUMNS = 64;

  // A block of 8 x 8 is transposed in three rounds: round d swaps, between the rows i and i + d,
  // the
  // elements whose columns differ from them in bit d.
  private static final VectorSpecies<Float> EIGHT = FloatVector.SPECIES_256;
  private static final VectorShuffle<Float> DOWN_4 = rotate(4);
  private static final VectorShuffle<Float> DOWN_2 = rotate(6);
  private static final VectorShuffle<Float> UP_2 = rotate(2);
  private static final VectorShuffle<Float> DOWN_1 = rotate(7);
  private static final VectorShuffle<Float> UP_1 = rotate(1);
  private static final VectorMask<Float> BIT_4 = VectorMask.fromLong(EIGHT, 0b11110000);
  private static final VectorMask<Float> BIT_2 = VectorMask.fromLong(EIGHT, 0b11001100);
  private static final VectorMask<Float> BIT_1 = VectorMask.fromLong(EIGHT, 0b10101010);

  private Panels() {}

  /// Lane i takes lane i + by.
  private static VectorShuffle<Float> rotate(int by) {
    return VectorShuffle.fromOp(EIGHT, i -> i + by & 7);
  }

  /// `to[k][j] = from[k][j]` for `columns` j; the rest of each panel row becomes zero.
  ///
  /// @param from F32
  /// @param rowBytes distance of rows in `from`
  static void copy(
      float[] to, int toAt, MemorySegment from, long at, long rowBytes, int rows, int columns) {
    for (int k = 0; k < rows; k++) {
      int row = toAt + k * COLUMNS;
      MemorySegment.copy(from, Lanes.F32, at + k * rowBytes, to, row, columns);
      Arrays.fill(to, row + columns, row + COLUMNS, 0f);
    }
  }

  /// `to[k][j] = from[j][k]` for `rows` j, at most 64, and `steps` k; the rest of each panel row
  /// becomes zero.
  ///
  /// @param from F32
  /// @param rowBytes distance of rows in `from`
  static void transpose(
      float[] to, int toAt, MemorySegment from, long at, long rowBytes, int rows, int steps) {
    if (rows < COLUMNS) {
      for (int k = 0; k < steps; k++) {
        Arrays.fill(to, toAt + k * COLUMNS + rows, toAt + (k + 1) * COLUMNS, 0f);
      }
    }
    if (Lanes.WIDTH < 8 || rows < 8 || steps < 8) {
      transposeScalar(to, toAt, from, at, rowBytes, rows, steps);
      return;
    }
    // The last block of an odd size starts early and writes some elements again.
    for (int j = 0; j < rows; j += 8) {
      int j0 = Math.min(j, rows - 8);
      transposeEight(to, toAt + j0, from, at + j0 * rowBytes, rowBytes, steps);
    }
  }

  private static void transposeScalar(
      float[] to, int toAt, MemorySegment from, long at, long rowBytes, int rows, int steps) {
    for (int j = 0; j < rows; j++) {
      long row = at + j * rowBytes;
      for (int k = 0; k < steps; k++) {
        to[toAt + j + k * COLUMNS] = from.get(Lanes.F32, row + k * 4L);
      }
    }
  }

  private static void transposeEight(
      float[] to, int toAt, MemorySegment from, long at, long rowBytes, int steps) {
    for (int k = 0; k < steps; k += 8) {
      int k0 = Math.min(k, steps - 8);
      transposeBlock(to, toAt + k0 * COLUMNS, from, at + k0 * 4L, rowBytes);
    }
  }

  private static void transposeBlock(
      float[] to, int toAt, MemorySegment from, long at, long rowBytes) {
    FloatVector r0 = eight(from, at);
    FloatVector r1 = eight(from, at + rowBytes);
    FloatVector r2 = eight(from, at + 2 * rowBytes);
    FloatVector r3 = eight(from, at + 3 * rowBytes);
    FloatVector r4 = eight(from, at + 4 * rowBytes);
    FloatVector r5 = eight(from, at + 5 * rowBytes);
    FloatVector r6 = eight(from, at + 6 * rowBytes);
    FloatVector r7 = eight(from, at + 7 * rowBytes);
    FloatVector s0 = r0.blend(r4.rearrange(DOWN_4), BIT_4);
    FloatVector s4 = r0.rearrange(DOWN_4).blend(r4, BIT_4);
    FloatVector s1 = r1.blend(r5.rearrange(DOWN_4), BIT_4);
    FloatVector s5 = r1.rearrange(DOWN_4).blend(r5, BIT_4);
    FloatVector s2 = r2.blend(r6.rearrange(DOWN_4), BIT_4);
    FloatVector s6 = r2.rearrange(DOWN_4).blend(r6, BIT_4);
    FloatVector s3 = r3.blend(r7.rearrange(DOWN_4), BIT_4);
    FloatVector s7 = r3.rearrange(DOWN_4).blend(r7, BIT_4);
    FloatVector t0 = s0.blend(s2.rearrange(DOWN_2), BIT_2);
    FloatVector t2 = s0.rearrange(UP_2).blend(s2, BIT_2);
    FloatVector t1 = s1.blend(s3.rearrange(DOWN_2), BIT_2);
    FloatVector t3 = s1.rearrange(UP_2).blend(s3, BIT_2);
    FloatVector t4 = s4.blend(s6.rearrange(DOWN_2), BIT_2);
    FloatVector t6 = s4.rearrange(UP_2).blend(s6, BIT_2);
    FloatVector t5 = s5.blend(s7.rearrange(DOWN_2), BIT_2);
    FloatVector t7 = s5.rearrange(UP_2).blend(s7, BIT_2);
    t0.blend(t1.rearrange(DOWN_1), BIT_1).intoArray(to, toAt);
    t0.rearrange(UP_1).blend(t1, BIT_1).intoArray(to, toAt + COLUMNS);
    t2.blend(t3.rearrange(DOWN_1), BIT_1).intoArray(to, toAt + 2 * COLUMNS);
    t2.rearrange(UP_1).blend(t3, BIT_1).intoArray(to, toAt + 3 * COLUMNS);
    t4.blend(t5.rearrange(DOWN_1), BIT_1).intoArray(to, toAt + 4 * COLUMNS);
    t4.rearrange(UP_1).blend(t5, BIT_1).intoArray(to, toAt + 5 * COLUMNS);
    t6.blend(t7.rearrange(DOWN_1), BIT_1).intoArray(to, toAt + 6 * COLUMNS);
    t6.rearrange(UP_1).blend(t7, BIT_1).intoArray(to, toAt + 7 * COLUMNS);
  }

  private static FloatVector eight(MemorySegment from, long at) {
    return FloatVector.fromMemorySegment(EIGHT, from, at, LE);
  }

  /// Widens `count` elements to F32.
  ///
  /// @param from F32, BF16 or F16 elements, starting at byte `at`
  static void widen(
      MemorySegment to, long toAt, MemorySegment from, long at, DType type, int count) {
    switch (type) {
      case F32 -> MemorySegment.copy(from, at, to, toAt, 4L * count);
      case BF16 -> widenBFloat16(to, toAt, from, at, count);
      case F16 -> widenFloat16(to, toAt, from, at, count);
      case I32 -> throw new IllegalArgumentException("I32 is no real type");
    }
  }

  private static void widenBFloat16(
      MemorySegment to, long toAt, MemorySegment from, long at, int count) {
    for (int i = 0; i < count; i++) {
      to.set(Lanes.I32, toAt + i * 4L, from.get(Lanes.I16, at + i * 2L) << 16);
    }
  }

  private static void widenFloat16(
      MemorySegment to, long toAt, MemorySegment from, long at, int count) {
    for (int i = 0; i < count; i++) {
      to.set(Lanes.F32, toAt + i * 4L, Float.float16ToFloat(from.get(Lanes.I16, at + i * 2L)));
    }
  }
}
