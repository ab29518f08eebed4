package io.github.retmask.kernels.cpu;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// Dot products of one or two rows of x with some rows of a weight, in the eight chains of
/// [io.github.retmask.backend.Kernels#matmul]: step i goes to chain i mod 8. The weight is read once,
/// where it lies.
interface RowDots {
  /// Lanes of the vectors that hold chains of one row.
  int LANES = Math.min(8, Lanes.WIDTH);

  /// Chains per output.
  int CHAINS = 8;

  /// Floats that a call leaves for every row of x: [StoredRowDots] the eight chains of four outputs,
  /// [GroupDots] two parts of sixteen.
  int LEFT = 32;

  /// Rows of x as a kernel reads them.
  ///
  /// @param floats the elements, or none
  /// @param twos every two of them together, for [GroupDots], or none
  record Inputs(float[] floats, long[] twos) {}

  /// @param x F32; for [StoredRowDots] of any type
  Inputs inputs(Tensor x, Scratch scratch);

  /// What is left of the outputs of row j of x goes to `sums[LEFT j]` and on.
  ///
  /// @param weight off-heap
  /// @param at byte of the first rows
  /// @param apart bytes from there to the next rows
  /// @param first the first of those rows of x
  /// @param count one or two
  /// @param inner elements of a row
  void multiply(
      MemorySegment weight,
      long at,
      long apart,
      Inputs x,
      int first,
      int count,
      int inner,
      float[] sums,
      int sumsAt);

  /// The sum of eight chains.
  static float tree(float[] c, int at) {
    return ((c[at] + c[at + 4]) + (c[at + 2] + c[at + 6]))
        + ((c[at + 1] + c[at + 5]) + (c[at + 3] + c[at + 7]));
  }

  /// The kernel of a type as it is stored, or null where rows are widened before.
  static @Nullable RowDots of(DType type) {
    return switch (type) {
      case F32 -> FloatDots.INSTANCE;
      case BF16 -> BFloat16Dots.INSTANCE;
      default -> null;
    };
  }
}
