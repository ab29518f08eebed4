package io.github.retmask.kernels.cpu;

import io.github.retmask.tensor.DType;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// Dot products of one or two rows of x with stored rows of a weight, in the eight chains of
/// [io.github.retmask.backend.Kernels#matmul]: step i goes to lane i mod 8 of a vector of eight, or of
/// two of four. The weight is read once, where it lies.
interface RowDots {
  /// Lanes of the vectors that hold chains.
  int LANES = Math.min(8, Lanes.WIDTH);

  /// Chains per output.
  int CHAINS = 8;

  /// Stored rows per call.
  int ROWS = 4;

  /// [#ROWS] stored rows with `count` rows of x, `inner` apart: `sums[8 (ROWS j + r) + chain]` for
  /// row j of x and stored row r.
  ///
  /// @param weight off-heap
  /// @param at byte of the first stored row
  /// @param row bytes from one of the stored rows to the next
  /// @param count one or two
  /// @param inner elements of a row, a multiple of 8
  void multiply(
      MemorySegment weight,
      long at,
      long row,
      float[] x,
      int xAt,
      int count,
      int inner,
      float[] sums,
      int sumsAt);

  /// The kernel of a type, or null where rows are widened before.
  static @Nullable RowDots of(DType type) {
    return switch (type) {
      case F32 -> FloatDots.INSTANCE;
      case BF16 -> BFloat16Dots.INSTANCE;
      default -> null;
    };
  }
}
