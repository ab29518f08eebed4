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
    float[] xs = pool.callerScratch().floats(X, rows * inner + PairDots.PAD);
    MemorySegment.copy(x.segment(), Lanes.F32, 0, xs, 0, rows * inner);
    Form form = Form.of(weight, inner);
    int passes = (rows + 1) / 2; // over the weight, but for the first one in cache
    long most = weight.dtype().bytes(weight.size()) * passes / form.leastOfTask();
    int tasks = (int) Math.clamp(most, 1, 8L * pool.threads());
    int units = form.units(outs);
    int perCall = RowDots.ROWS / form.rows;
    int spans = Math.min(units / perCall, form.rows == 1 ? tasks : Math.min(pool.threads(), tasks));
    Streams streams = new Streams(units, perCall, spans);
    int rounds = tasks / spans;
    int callsOfTask = (streams.longest() + rounds - 1) / rounds;
    pool.run(
        spans * rounds,
        (task, scratch) -> {
          float[] sums = scratch.floats(SUMS, rows * RowDots.ROWS * RowDots.CHAINS);
          Part part =
              new Part(weight, form, out.segment(), outs, xs, rows, inner, bias, sums, scratch);
          int span = task % spans;
          int first = task / spans * callsOfTask;
          int calls = streams.calls(span);
          for (int call = first; call < Math.min(calls, first + callsOfTask); call++) {
            part.multiply(streams.begin(span) + call, calls);
          }
          if (task == 0 && streams.left() > 0) {
            part.multiply(units - perCall, 1); // the last ones, with some before them
          }
        });
  }

  /// Which units of a weight are read in which order. A span for each thread; in a span as many
  /// streams as a call takes units, side by side: long runs of memory, which the processor fetches
  /// ahead. Tasks go through the spans in turn, so that a thread that takes every n-th one continues
  /// its streams.
  ///
  /// @param units of the weight
  /// @param perCall units that are multiplied at a time
  private record Streams(int units, int perCall, int spans) {
    private int allCalls() {
      return units / perCall;
    }

    private int firstCall(int span) {
      return (int) ((long) allCalls() * span / spans);
    }

    /// First unit of a span.
    int begin(int span) {
      return firstCall(span) * perCall;
    }

    /// Calls that multiply a span, and units of each of its streams.
    int calls(int span) {
      return firstCall(span + 1) - firstCall(span);
    }

    /// Calls of the longest span.
    int longest() {
      return (allCalls() + spans - 1) / spans;
    }

    /// Units that fill no call.
    int left() {
      return units - allCalls() * perCall;
    }
  }

  /// How the rows of a weight lie in memory.
  ///
  /// @param dots null where rows are widened first
  /// @param memory what it reads; null with `dots`
  /// @param at byte of the first unit
  /// @param bytes of a unit
  /// @param rows that lie together as a unit: one, or two of [PairedRows]
  private record Form(
      @Nullable RowDots dots, @Nullable MemorySegment memory, long at, long bytes, int rows) {
    private static final Form WIDENED = new Form(null, null, 0, 0, 1);

    /// Bytes of the weight that are worth a task of their own: every task starts reading anew.
    long leastOfTask() {
      return rows == 1 ? 128 << 10 : 512 << 10;
    }

    static Form of(Tensor weight, int inner) {
      PairedRows paired = PairedRows.of(weight);
      if (paired != null) {
        long row = paired.firstRow(weight);
        return row % 2 == 0
            ? new Form(
                PairDots.of(weight.dtype()),
                paired.segment(),
                row / 2 * paired.pairBytes(),
                paired.pairBytes(),
                2)
            : WIDENED;
      }
      RowDots dots = OffHeap.holds(weight.segment()) ? RowDots.of(weight.dtype()) : null;
      return dots == null
          ? WIDENED
          : new Form(dots, weight.segment(), 0, weight.dtype().bytes(inner), 1);
    }

    /// Units that hold so many rows.
    int units(long count) {
      return (int) ((count + rows - 1) / rows);
    }
  }

  /// What a thread multiplies.
  private record Part(
      Tensor weight,
      Form form,
      MemorySegment out,
      int outs,
      float[] xs,
      int rows,
      int inner,
      float @Nullable [] bias,
      float[] sums,
      Scratch scratch) {

    /// [RowDots#ROWS] outputs for all rows of x: those of the units `first`, `first + apart` and so on.
    void multiply(int first, int apart) {
      RowDots dots = form.dots;
      MemorySegment memory = form.memory;
      if (dots == null || memory == null) {
        wide(first, apart);
      } else {
        long at = form.at + first * form.bytes;
        for (int r = 0; r < rows; r += 2) {
          int count = Math.min(2, rows - r);
          int sum = r * RowDots.ROWS * RowDots.CHAINS;
          dots.multiply(memory, at, apart * form.bytes, xs, r * inner, count, inner, sums, sum);
        }
      }
      int together = form.rows;
      for (int i = 0; i < RowDots.ROWS; i++) {
        int o = (first + i / together * apart) * together + i % together;
        if (o < outs) { // the last pair may hold one row
          for (int r = 0; r < rows; r++) {
            float sum = tree(sums, (r * RowDots.ROWS + i) * RowDots.CHAINS);
            Lanes.set(out, 4L * r * outs + 4L * o, bias == null ? sum : sum + bias[o]);
          }
        }
      }
    }

    private void wide(int first, int apart) {
      float[] wide = scratch.floats(WIDE, RowDots.ROWS * inner);
      for (int i = 0; i < RowDots.ROWS; i++) {
        long element = (long) (first + i * apart) * inner;
        Blocks.readWide(wide, i * inner, weight, element, inner, scratch);
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
