package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.LE;
import static jdk.incubator.vector.VectorOperators.B2I;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LSHR;

import io.github.retmask.tensor.DType;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorShuffle;

/// Packs [RowGroups] as columns of B ([Operand#packColumns]): elements of many rows lie side by side
/// there too.
final class GroupPanels {
  /// Rows of a vector that is loaded; two of them fill one that is stored.
  private static final int HALF = Lanes.WIDTH / 2;

  private static final VectorShuffle<Float> EVEN =
      Lanes.FLOAT.shuffleFromOp(lane -> lane % HALF * 2);
  private static final VectorShuffle<Float> ODD =
      Lanes.FLOAT.shuffleFromOp(lane -> lane % HALF * 2 + 1);
  private static final VectorShuffle<Float> TWICE = Lanes.FLOAT.shuffleFromOp(lane -> lane / 2);
  private static final VectorMask<Float> UPPER =
      VectorMask.fromLong(Lanes.FLOAT, -1L << HALF & (1L << Lanes.WIDTH) - 1);

  private GroupPanels() {}

  /// Whether rows from `row` on, and their elements `[k0, k0 + count)`, are whole vectors and blocks.
  static boolean suits(long row, int k0, int count) {
    return row % Lanes.WIDTH == 0
        && k0 % RowGroups.ELEMENTS == 0
        && count % RowGroups.ELEMENTS == 0;
  }

  /// Step k of a row goes to the slice of chain k mod 8. Rows up to a whole vector are written.
  ///
  /// @param at place of the first step of the first row and chain
  /// @param width floats from one step of a chain to the next
  /// @param sliceSize floats from one chain to the next
  static void pack(
      float[] to,
      int at,
      int width,
      int sliceSize,
      RowGroups groups,
      long row,
      int rows,
      int k0,
      int count) {
    MemorySegment w = OffHeap.KIND.cast(groups.segment());
    int firstBlock = k0 / RowGroups.ELEMENTS;
    int blocks = count / RowGroups.ELEMENTS;
    int size = RowGroups.blockBytes(groups.type());
    int stepsOfBlock = RowGroups.ELEMENTS / RowDots.CHAINS * width;
    for (int j = 0; j < rows; j += Lanes.WIDTH) {
      long lower = groups.blockOf(row + j, firstBlock);
      long upper = groups.blockOf(row + j + HALF, firstBlock);
      int within = (int) ((row + j + HALF) % RowGroups.ROWS); // rows before the upper ones
      if (groups.type() == DType.Q8_0) {
        q8(to, at + j, width, sliceSize, w, lower, upper, within, blocks, size, stepsOfBlock);
      } else {
        q4(to, at + j, width, sliceSize, w, lower, upper, within, blocks, size, stepsOfBlock);
      }
    }
  }

  private static void q8(
      float[] to,
      int at,
      int width,
      int sliceSize,
      MemorySegment w,
      long lower,
      long upper,
      int within,
      int blocks,
      int size,
      int stepsOfBlock) {
    for (int b = 0; b < blocks; b++) {
      long l = lower + (long) b * size;
      long u = upper + (long) b * size;
      FloatVector dl = FloatVector.fromMemorySegment(Lanes.FLOAT, w, l, LE).rearrange(TWICE);
      FloatVector du =
          FloatVector.fromMemorySegment(Lanes.FLOAT, w, u + 4L * within, LE).rearrange(TWICE);
      for (int i = 0; i < RowGroups.ELEMENTS / 2; i++) {
        long two = RowGroups.SCALES + (long) i * RowGroups.TWOS;
        FloatVector vl =
            ((FloatVector)
                    ByteVector.fromMemorySegment(Lanes.BYTES, w, l + two, LE)
                        .convertShape(B2I, Lanes.INT, 0)
                        .convert(I2F, 0))
                .mul(dl);
        FloatVector vu =
            ((FloatVector)
                    ByteVector.fromMemorySegment(Lanes.BYTES, w, u + two + 2L * within, LE)
                        .convertShape(B2I, Lanes.INT, 0)
                        .convert(I2F, 0))
                .mul(du);
        int step = at + b * stepsOfBlock + i / 4 * width + 2 * (i % 4) * sliceSize;
        vl.rearrange(EVEN).blend(vu.rearrange(EVEN), UPPER).intoArray(to, step);
        vl.rearrange(ODD).blend(vu.rearrange(ODD), UPPER).intoArray(to, step + sliceSize);
      }
    }
  }

  private static void q4(
      float[] to,
      int at,
      int width,
      int sliceSize,
      MemorySegment w,
      long lower,
      long upper,
      int within,
      int blocks,
      int size,
      int stepsOfBlock) {
    for (int b = 0; b < blocks; b++) {
      long l = lower + (long) b * size;
      long u = upper + (long) b * size;
      FloatVector dl = FloatVector.fromMemorySegment(Lanes.FLOAT, w, l, LE).rearrange(TWICE);
      FloatVector du =
          FloatVector.fromMemorySegment(Lanes.FLOAT, w, u + 4L * within, LE).rearrange(TWICE);
      for (int i = 0; i < RowGroups.ELEMENTS / 2; i++) {
        long line = RowGroups.SCALES + (long) (i / 8) * RowGroups.LINE;
        FloatVector vl =
            ((FloatVector)
                    IntVector.fromMemorySegment(Lanes.INT, w, l + line, LE)
                        .lanewise(LSHR, 4 * (i % 8))
                        .and(0xf)
                        .sub(8)
                        .convert(I2F, 0))
                .mul(dl);
        FloatVector vu =
            ((FloatVector)
                    IntVector.fromMemorySegment(Lanes.INT, w, u + line + 8L * within, LE)
                        .lanewise(LSHR, 4 * (i % 8))
                        .and(0xf)
                        .sub(8)
                        .convert(I2F, 0))
                .mul(du);
        int step = at + b * stepsOfBlock + i / 4 * width + 2 * (i % 4) * sliceSize;
        vl.rearrange(EVEN).blend(vu.rearrange(EVEN), UPPER).intoArray(to, step);
        vl.rearrange(ODD).blend(vu.rearrange(ODD), UPPER).intoArray(to, step + sliceSize);
      }
    }
  }
}
