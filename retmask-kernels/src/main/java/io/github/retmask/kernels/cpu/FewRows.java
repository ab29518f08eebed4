package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// `out = x W^T` for few rows of x: every stored row of the weight is read once, its dot products
/// with all rows of x taken while it is in cache. Reading memory bounds the speed.
final class FewRows {
  /// Rows of x up to which this beats packing.
  private static final int MOST = 24;

  /// Multiply-adds below which another thread is not worth waking.
  private static final long SMALL = 1 << 17;

  private static final int X = 0;
  private static final int SUMS = 1;
  private static final int WIDE = 2;

  private FewRows() {}

  /// Whether this is the way for a product with eight chains.
  static boolean suits(Tensor x, Tensor weight) {
    return x.dim(0) <= MOST
        && Kernels.chains((int) x.dim(1)) == RowDots.CHAINS
        && x.dim(1) % RowDots.CHAINS == 0
        && weight.dim(0) >= RowDots.ROWS;
  }

  static void multiply(
      WorkerPool pool, Tensor out, Tensor x, Tensor weight, float @Nullable [] bias) {
    int rows = (int) x.dim(0);
    int inner = (int) x.dim(1);
    int outs = (int) weight.dim(0);
    if (rows == 0) {
      return;
    }
    float[] xs = pool.callerScratch().floats(X, rows * inner);
    MemorySegment.copy(x.segment(), Lanes.F32, 0, xs, 0, rows * inner);
    MemorySegment w = weight.segment();
    DType type = weight.dtype();
    RowDots dots = OffHeap.holds(w) ? RowDots.of(type) : null;
    long rowBytes = type.bytes(inner);
    MemorySegment to = out.segment();
    long minimum = Math.max(1, SMALL / rows / inner);
    pool.ranges(
        outs,
        RowDots.ROWS,
        minimum,
        (begin, end, scratch) -> {
          float[] sums = scratch.floats(SUMS, rows * RowDots.ROWS * RowDots.CHAINS);
          for (long o = begin; o < end; o += RowDots.ROWS) {
            // The last rows of an odd number are taken together with some before them.
            int first = (int) Math.min(o, outs - RowDots.ROWS);
            if (dots == null) {
              wide(w, type, first, xs, rows, inner, sums, scratch);
            } else {
              for (int r = 0; r < rows; r += 2) {
                int count = Math.min(2, rows - r);
                int sum = r * RowDots.ROWS * RowDots.CHAINS;
                dots.multiply(w, first * rowBytes, xs, r * inner, count, inner, sums, sum, scratch);
              }
            }
            for (int r = 0; r < rows; r++) {
              for (int i = 0; i < RowDots.ROWS; i++) {
                float sum = tree(sums, (r * RowDots.ROWS + i) * RowDots.CHAINS);
                float value = bias == null ? sum : sum + bias[first + i];
                Lanes.set(to, 4 * ((long) r * outs + first + i), value);
              }
            }
          }
        });
  }

  /// Rows of types without a kernel of their own are widened first.
  private static void wide(
      MemorySegment w,
      DType type,
      int first,
      float[] xs,
      int rows,
      int inner,
      float[] sums,
      Scratch scratch) {
    float[] wide = scratch.floats(WIDE, RowDots.ROWS * inner);
    Blocks.readWide(wide, inner, w, type, inner, first, 0, RowDots.ROWS, inner, scratch);
    for (int r = 0; r < rows; r++) {
      WideDots.one(wide, xs, r * inner, inner, sums, r * RowDots.ROWS * RowDots.CHAINS);
    }
  }

  private static float tree(float[] c, int at) {
    return ((c[at] + c[at + 4]) + (c[at + 2] + c[at + 6]))
        + ((c[at + 1] + c[at + 5]) + (c[at + 3] + c[at + 7]));
  }
}
