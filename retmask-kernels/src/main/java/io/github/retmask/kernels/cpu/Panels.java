package io.github.retmask.kernels.cpu;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorShuffle;
import jdk.incubator.vector.VectorSpecies;

/// Transposes matrices into heap arrays, a block of 8 x 8 at a time.
final class Panels {
  /// Columns of a panel of attention, and its row length: as a constant it lets the compiler drop
  /// bounds checks.
  static final int COLUMNS = 64;

  // A block of 8 x 8 is transposed in three rounds: round d swaps, between rows i and i + d, the
  // elements whose columns differ from them in bit d.
  private static final VectorSpecies<Float> EIGHT = FloatVector.SPECIES_256;
  private static final VectorShuffle<Float> ROTATE_4 = rotate(4);
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

  /// `to[k][j] = from[j][k]` for `rows` j and `steps` k.
  ///
  /// @param toRow distance of rows in `to`
  /// @param row distance of rows in `from`
  static void transpose(
      float[] to, int toAt, int toRow, float[] from, int at, int row, int rows, int steps) {
    if (Lanes.WIDTH < 8 || rows < 8 || steps < 8) {
      transposeScalar(to, toAt, toRow, from, at, row, rows, steps);
      return;
    }
    // The last block of an odd size starts early and writes some elements again.
    for (int j = 0; j < rows; j += 8) {
      int j0 = Math.min(j, rows - 8);
      for (int k = 0; k < steps; k += 8) {
        int k0 = Math.min(k, steps - 8);
        transposeBlock(to, toAt + k0 * toRow + j0, toRow, from, at + j0 * row + k0, row);
      }
    }
  }

  /// Whether rows off the heap can be transposed where they lie.
  static boolean readsOffHeap(MemorySegment from, int rows, int steps) {
    return Lanes.WIDTH >= 8 && rows >= 8 && steps % 8 == 0 && OffHeap.holds(from);
  }

  /// Transposes rows off the heap, eight by eight. The source is read once, in order.
  ///
  /// @param toRow distance of columns, within a block, in `to`
  /// @param toBlock distance of blocks of eight columns in `to`
  /// @param from what [#readsOffHeap]
  /// @param at byte of the first row
  /// @param rowBytes distance of rows in `from`
  static void transpose(
      float[] to,
      int toAt,
      int toRow,
      int toBlock,
      MemorySegment from,
      long at,
      long rowBytes,
      int rows,
      int steps) {
    MemorySegment memory = OffHeap.KIND.cast(from);
    // The last eight begin early and are written twice where rows are no multiple of eight.
    for (int end = 8; end < rows + 8; end += 8) {
      int j = Math.min(end, rows) - 8;
      for (int b = 0; b < steps / 8; b++) {
        long block = at + j * rowBytes + b * 32L;
        transposeBlock(to, toAt + j + b * toBlock, toRow, memory, block, rowBytes);
      }
    }
  }

  private static void transposeScalar(
      float[] to, int toAt, int toRow, float[] from, int at, int row, int rows, int steps) {
    for (int j = 0; j < rows; j++) {
      for (int k = 0; k < steps; k++) {
        to[toAt + k * toRow + j] = from[at + j * row + k];
      }
    }
  }

  private static void transposeBlock(
      float[] to, int toAt, int toRow, float[] from, int at, int row) {
    FloatVector r0 = FloatVector.fromArray(EIGHT, from, at);
    FloatVector r1 = FloatVector.fromArray(EIGHT, from, at + row);
    FloatVector r2 = FloatVector.fromArray(EIGHT, from, at + 2 * row);
    FloatVector r3 = FloatVector.fromArray(EIGHT, from, at + 3 * row);
    FloatVector r4 = FloatVector.fromArray(EIGHT, from, at + 4 * row);
    FloatVector r5 = FloatVector.fromArray(EIGHT, from, at + 5 * row);
    FloatVector r6 = FloatVector.fromArray(EIGHT, from, at + 6 * row);
    FloatVector r7 = FloatVector.fromArray(EIGHT, from, at + 7 * row);
    FloatVector s0 = r0.blend(r4.rearrange(ROTATE_4), BIT_4);
    FloatVector s4 = r0.rearrange(ROTATE_4).blend(r4, BIT_4);
    FloatVector s1 = r1.blend(r5.rearrange(ROTATE_4), BIT_4);
    FloatVector s5 = r1.rearrange(ROTATE_4).blend(r5, BIT_4);
    FloatVector s2 = r2.blend(r6.rearrange(ROTATE_4), BIT_4);
    FloatVector s6 = r2.rearrange(ROTATE_4).blend(r6, BIT_4);
    FloatVector s3 = r3.blend(r7.rearrange(ROTATE_4), BIT_4);
    FloatVector s7 = r3.rearrange(ROTATE_4).blend(r7, BIT_4);
    FloatVector t0 = s0.blend(s2.rearrange(DOWN_2), BIT_2);
    FloatVector t2 = s0.rearrange(UP_2).blend(s2, BIT_2);
    FloatVector t1 = s1.blend(s3.rearrange(DOWN_2), BIT_2);
    FloatVector t3 = s1.rearrange(UP_2).blend(s3, BIT_2);
    FloatVector t4 = s4.blend(s6.rearrange(DOWN_2), BIT_2);
    FloatVector t6 = s4.rearrange(UP_2).blend(s6, BIT_2);
    FloatVector t5 = s5.blend(s7.rearrange(DOWN_2), BIT_2);
    FloatVector t7 = s5.rearrange(UP_2).blend(s7, BIT_2);
    t0.blend(t1.rearrange(DOWN_1), BIT_1).intoArray(to, toAt);
    t0.rearrange(UP_1).blend(t1, BIT_1).intoArray(to, toAt + toRow);
    t2.blend(t3.rearrange(DOWN_1), BIT_1).intoArray(to, toAt + 2 * toRow);
    t2.rearrange(UP_1).blend(t3, BIT_1).intoArray(to, toAt + 3 * toRow);
    t4.blend(t5.rearrange(DOWN_1), BIT_1).intoArray(to, toAt + 4 * toRow);
    t4.rearrange(UP_1).blend(t5, BIT_1).intoArray(to, toAt + 5 * toRow);
    t6.blend(t7.rearrange(DOWN_1), BIT_1).intoArray(to, toAt + 6 * toRow);
    t6.rearrange(UP_1).blend(t7, BIT_1).intoArray(to, toAt + 7 * toRow);
  }

  /// The same from memory off the heap: vectors cannot be handed to a method that both could share.
  ///
  /// @param at byte of the first row
  /// @param row bytes from row to row
  private static void transposeBlock(
      float[] to, int toAt, int toRow, MemorySegment from, long at, long row) {
    FloatVector r0 = FloatVector.fromMemorySegment(EIGHT, from, at, Lanes.LE);
    FloatVector r1 = FloatVector.fromMemorySegment(EIGHT, from, at + row, Lanes.LE);
    FloatVector r2 = FloatVector.fromMemorySegment(EIGHT, from, at + 2 * row, Lanes.LE);
    FloatVector r3 = FloatVector.fromMemorySegment(EIGHT, from, at + 3 * row, Lanes.LE);
    FloatVector r4 = FloatVector.fromMemorySegment(EIGHT, from, at + 4 * row, Lanes.LE);
    FloatVector r5 = FloatVector.fromMemorySegment(EIGHT, from, at + 5 * row, Lanes.LE);
    FloatVector r6 = FloatVector.fromMemorySegment(EIGHT, from, at + 6 * row, Lanes.LE);
    FloatVector r7 = FloatVector.fromMemorySegment(EIGHT, from, at + 7 * row, Lanes.LE);
    FloatVector s0 = r0.blend(r4.rearrange(ROTATE_4), BIT_4);
    FloatVector s4 = r0.rearrange(ROTATE_4).blend(r4, BIT_4);
    FloatVector s1 = r1.blend(r5.rearrange(ROTATE_4), BIT_4);
    FloatVector s5 = r1.rearrange(ROTATE_4).blend(r5, BIT_4);
    FloatVector s2 = r2.blend(r6.rearrange(ROTATE_4), BIT_4);
    FloatVector s6 = r2.rearrange(ROTATE_4).blend(r6, BIT_4);
    FloatVector s3 = r3.blend(r7.rearrange(ROTATE_4), BIT_4);
    FloatVector s7 = r3.rearrange(ROTATE_4).blend(r7, BIT_4);
    FloatVector t0 = s0.blend(s2.rearrange(DOWN_2), BIT_2);
    FloatVector t2 = s0.rearrange(UP_2).blend(s2, BIT_2);
    FloatVector t1 = s1.blend(s3.rearrange(DOWN_2), BIT_2);
    FloatVector t3 = s1.rearrange(UP_2).blend(s3, BIT_2);
    FloatVector t4 = s4.blend(s6.rearrange(DOWN_2), BIT_2);
    FloatVector t6 = s4.rearrange(UP_2).blend(s6, BIT_2);
    FloatVector t5 = s5.blend(s7.rearrange(DOWN_2), BIT_2);
    FloatVector t7 = s5.rearrange(UP_2).blend(s7, BIT_2);
    t0.blend(t1.rearrange(DOWN_1), BIT_1).intoArray(to, toAt);
    t0.rearrange(UP_1).blend(t1, BIT_1).intoArray(to, toAt + toRow);
    t2.blend(t3.rearrange(DOWN_1), BIT_1).intoArray(to, toAt + 2 * toRow);
    t2.rearrange(UP_1).blend(t3, BIT_1).intoArray(to, toAt + 3 * toRow);
    t4.blend(t5.rearrange(DOWN_1), BIT_1).intoArray(to, toAt + 4 * toRow);
    t4.rearrange(UP_1).blend(t5, BIT_1).intoArray(to, toAt + 5 * toRow);
    t6.blend(t7.rearrange(DOWN_1), BIT_1).intoArray(to, toAt + 6 * toRow);
    t6.rearrange(UP_1).blend(t7, BIT_1).intoArray(to, toAt + 7 * toRow);
  }
}
