package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// `out = x W^T` for few rows of x: every stored row of the weight is read once, its dot products
/// with all rows of x taken while it is in cache. Reading memory bounds the speed.
final class FewRows {
  /// Rows of x up to which this beats packing.
  private static final int MOST = 15;

  /// Multiply-adds below which another thread is not worth waking.
  private static final long SMALL = 1 << 15;

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
    RowDots dots = OffHeap.holds(weight.segment()) ? RowDots.of(weight.dtype()) : null;
    long minimum = Math.max(1, SMALL / rows / inner);
    pool.ranges(
        outs,
        RowDots.ROWS,
        minimum,
        (begin, end, scratch) -> {
          float[] sums = scratch.floats(SUMS, rows * RowDots.ROWS * RowDots.CHAINS);
          Part part =
              new Part(
                  weight,
                  weight.segment(),
                  weight.dtype().bytes(inner),
                  dots,
                  out.segment(),
                  outs,
                  xs,
                  rows,
                  inner,
                  bias,
                  sums,
                  scratch);
          // Four stored rows at a time from as many parts of the range: long runs of memory, which
          // the processor fetches ahead.
          int quarter = (int) (end - begin) / RowDots.ROWS;
          for (int o = 0; o < quarter; o++) {
            part.multiply((int) begin + o, quarter);
          }
          if (quarter * RowDots.ROWS < end - begin) {
            part.multiply(outs - RowDots.ROWS, 1); // the last rows, with some before them
          }
        });
  }

  /// What a thread multiplies, with all that its loop would have to look up for every four rows.
  ///
  /// @param rowBytes of a stored row
  /// @param dots null where rows of the weight are widened first
  private record Part(
      Tensor weight,
      MemorySegment w,
      long rowBytes,
      @Nullable RowDots dots,
      MemorySegment out,
      int outs,
      float[] xs,
      int rows,
      int inner,
      float @Nullable [] bias,
      float[] sums,
      Scratch scratch) {

    /// Outputs `first`, `first + apart` and so on, [RowDots#ROWS] of them, for all rows of x.
    void multiply(int first, int apart) {
      if (dots == null) {
        wide(first, apart);
      } else {
        for (int r = 0; r < rows; r += 2) {
          int count = Math.min(2, rows - r);
          int sum = r * RowDots.ROWS * RowDots.CHAINS;
          dots.multiply(
              w, first * rowBytes, apart * rowBytes, xs, r * inner, count, inner, sums, sum);
        }
      }
      for (int r = 0; r < rows; r++) {
        for (int i = 0; i < RowDots.ROWS; i++) {
          int o = first + i * apart;
          float sum = tree(sums, (r * RowDots.ROWS + i) * RowDots.CHAINS);
          Lanes.set(out, 4L * r * outs + 4L * o, bias == null ? sum : sum + bias[o]);
        }
      }
    }

    private void wide(int first, int apart) {
      float[] wide = scratch.floats(WIDE, RowDots.ROWS * inner);
      for (int i = 0; i < RowDots.ROWS; i++) {
        int row = first + i * apart;
        Blocks.readWide(
            wide, i * inner, inner, w, weight.dtype(), inner, row, 0, 1, inner, scratch);
      }
      for (int r = 0; r < rows; r++) {
        WideDots.one(wide, xs, r * inner, inner, sums, r * RowDots.ROWS * RowDots.CHAINS);
      }
    }
  }

  private static float tree(float[] c, int at) {
    return ((c[at] + c[at + 4]) + (c[at + 2] + c[at + 6]))
        + ((c[at + 1] + c[at + 5]) + (c[at + 3] + c[at + 7]));
  }
}
