package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Projection;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// `out = x W^T` for few rows of x: every row of the weight is read once, its dot products with all
/// rows of x taken while it is in cache. Reading memory bounds the speed. Where there are few outputs
/// and many rows, x and the weight change places: every row of x is read once, and multiplied with all
/// rows of the weight, which stay in cache.
final class FewRows {
  /// Rows of x up to which this beats packing.
  private static final int MOST = 15;

  /// The same where rows of the weight end with steps that vectors do not take.
  private static final int MOST_UNEVEN = 8;

  /// Outputs up to which this beats packing however many rows x has.
  private static final int OUTPUTS = 24;

  /// The same where rows end with steps that vectors do not take.
  private static final int OUTPUTS_UNEVEN = 16;

  // Slots of the scratch arrays.
  private static final int SUMS = StoredRowDots.X + 1;
  private static final int WIDE = SUMS + 1;

  private FewRows() {}

  /// Whether this is the way for a product with eight chains.
  static boolean suits(Tensor x, Tensor weight) {
    return Kernels.chains((int) x.dim(1)) == RowDots.CHAINS
        && weight.dim(0) > 0
        && (isFew(x) || weight.dim(0) <= (isEven(weight) ? OUTPUTS : OUTPUTS_UNEVEN));
  }

  private static boolean isFew(Tensor x) {
    return x.dim(0) <= (isEven(x) ? MOST : MOST_UNEVEN);
  }

  /// Whether vectors take all steps of rows.
  private static boolean isEven(Tensor rows) {
    return rows.dim(1) % RowDots.CHAINS == 0;
  }

  /// Whether x and the weight change places.
  private static boolean isTurned(Tensor x, Tensor weight) {
    return !isFew(x) || weight.dim(0) < StoredRowDots.ROWS && weight.dim(0) < x.dim(0);
  }

  /// Whether these can be multiplied by one call: their rows lie in memory in the same form and, where
  /// there are several, are what is read from memory.
  static boolean suits(Tensor x, List<Projection> projections) {
    Form form = Form.of(projections.getFirst().weight());
    for (Projection one : projections) {
      Tensor weight = one.weight();
      if (!suits(x, weight)
          || projections.size() > 1 && isTurned(x, weight)
          || !Form.of(weight).isLike(form)) {
        return false;
      }
    }
    return true;
  }

  static void multiply(WorkerPool pool, Tensor x, List<Projection> projections) {
    if (x.dim(0) == 0) {
      return;
    }
    Scratch scratch = pool.callerScratch();
    Projection first = projections.getFirst();
    Part[] parts = new Part[projections.size()];
    if (isTurned(x, first.weight())) {
      RowDots.Inputs inputs = Form.of(x).inputs(first.weight(), scratch);
      parts[0] = Part.of(first, x, first.weight(), inputs, true, pool.threads(), 0);
    } else {
      RowDots.Inputs inputs = Form.of(first.weight()).inputs(x, scratch);
      int from = 0;
      for (int i = 0; i < parts.length; i++) {
        Projection one = projections.get(i);
        parts[i] = Part.of(one, one.weight(), x, inputs, false, pool.threads(), from);
        from = parts[i].end();
      }
    }
    run(pool, parts);
  }

  private static void run(WorkerPool pool, Part[] parts) {
    pool.run(
        parts[parts.length - 1].end(),
        (task, scratch) -> {
          int i = 0;
          while (task >= parts[i].end()) {
            i++;
          }
          parts[i].run(task - parts[i].from, scratch);
        });
  }

  /// The tasks of one product.
  ///
  /// A span has as many streams as a call takes units: long runs of memory, which the processor fetches
  /// ahead. Of groups there is a span for each thread; tasks go through the spans in turn, so that a
  /// thread that takes every n-th one continues its streams.
  ///
  /// @param from tasks of the products before
  private record Part(
      Product product, int units, int perCall, int calls, int spans, int rounds, int from) {

    /// @param weight whose rows are read from memory: of the projection, or x where it is turned
    /// @param x the other
    static Part of(
        Projection one,
        Tensor weight,
        Tensor x,
        RowDots.Inputs inputs,
        boolean isTurned,
        int threads,
        int from) {
      Form form = Form.of(weight);
      int rows = (int) x.dim(0);
      float[] bias = one.bias() == null ? null : one.bias().toFloats();
      Product product =
          new Product(
              one.out().segment(),
              inputs,
              weight,
              form,
              rows,
              (int) x.dim(1),
              (int) weight.dim(0),
              bias,
              isTurned);
      int passes = (rows + 1) / 2; // over the weight, but for the first one in cache
      long most = weight.dtype().bytes(weight.size()) * passes / form.leastOfTask();
      int tasks = (int) Math.clamp(most, 1, 8L * threads);
      int units = form.units(weight.dim(0));
      int perCall = Math.min(form.perCall(), units);
      int calls = units / perCall;
      int spans = Math.min(calls, form.rows == 1 ? tasks : Math.min(threads, tasks));
      return new Part(product, units, perCall, calls, spans, tasks / spans, from);
    }

    int end() {
      return from + spans * rounds;
    }

    void run(int task, Scratch scratch) {
      int span = task % spans;
      int round = task / spans;
      int first = (int) ((long) calls * span / spans);
      int length = (int) ((long) calls * (span + 1) / spans) - first;
      int begin = (int) ((long) length * round / rounds);
      int end = (int) ((long) length * (round + 1) / rounds);
      for (int u = begin; u < end; u++) {
        product.multiply(first * perCall + u, length, scratch);
      }
      if (task == 0 && calls * perCall < units) {
        product.multiply(units - perCall, 1, scratch); // the last, with some before them
      }
    }
  }

  /// How the rows of a weight lie in memory.
  ///
  /// @param dots null where rows are widened first
  /// @param memory what it reads; null with `dots`
  /// @param at byte of the first unit
  /// @param bytes of a unit
  /// @param rows that lie together as a unit: one, or those of [RowGroups]
  private record Form(
      @Nullable RowDots dots, @Nullable MemorySegment memory, long at, long bytes, int rows) {
    private static final Form WIDENED = new Form(null, null, 0, 0, 1);

    static Form of(Tensor weight) {
      RowGroups groups = RowGroups.of(weight);
      if (groups != null) {
        long row = groups.firstRow(weight);
        boolean isWhole = row % RowGroups.ROWS == 0 && weight.dim(0) > RowGroups.ROWS;
        return isWhole
            ? new Form(
                GroupDots.of(weight.dtype()),
                groups.segment(),
                groups.blockOf(row, 0),
                groups.groupBytes(),
                RowGroups.ROWS)
            : WIDENED;
      }
      boolean isStored = OffHeap.holds(weight.segment()) && weight.dim(0) >= StoredRowDots.ROWS;
      RowDots dots = isStored ? RowDots.of(weight.dtype()) : null;
      return dots == null
          ? WIDENED
          : new Form(dots, weight.segment(), 0, weight.dtype().bytes(weight.dim(1)), 1);
    }

    /// Whether products of both take the same inputs.
    boolean isLike(Form other) {
      return dots == other.dots && rows == other.rows;
    }

    RowDots.Inputs inputs(Tensor x, Scratch scratch) {
      return dots == null
          ? new RowDots.Inputs(StoredRowDots.read(x, scratch), new long[0])
          : dots.inputs(x, scratch);
    }

    /// Bytes of the weight that are worth a task of their own: every task starts reading anew.
    long leastOfTask() {
      return rows == 1 ? 128 << 10 : 512 << 10;
    }

    /// Units that are multiplied at a time.
    int perCall() {
      return rows == 1 ? StoredRowDots.ROWS : GroupDots.GROUPS;
    }

    /// Units that hold so many rows.
    int units(long count) {
      return (int) ((count + rows - 1) / rows);
    }
  }

  /// What is multiplied, with all that would have to be looked up for every call.
  ///
  /// @param isTurned whether rows of the weight are those of the output, not its columns
  private record Product(
      MemorySegment out,
      RowDots.Inputs x,
      Tensor weight,
      Form form,
      int rows,
      int inner,
      int outs,
      float @Nullable [] bias,
      boolean isTurned) {

    /// The outputs of the units `first`, `first + apart` and so on, for all rows of x.
    void multiply(int first, int apart, Scratch scratch) {
      RowDots dots = form.dots;
      MemorySegment memory = form.memory;
      if (dots == null || memory == null) {
        wide(first, apart, scratch);
        return;
      }
      float[] sums = scratch.floats(SUMS, rows * RowDots.LEFT);
      long at = form.at + first * form.bytes;
      for (int r = 0; r < rows; r += 2) {
        int count = Math.min(2, rows - r);
        dots.multiply(memory, at, apart * form.bytes, x, r, count, inner, sums, r * RowDots.LEFT);
      }
      for (int r = 0; r < rows; r++) {
        int row = r * RowDots.LEFT;
        if (form.rows == 1) {
          for (int i = 0; i < StoredRowDots.ROWS; i++) {
            set(r, first + i * apart, RowDots.tree(sums, row + i * RowDots.CHAINS));
          }
        } else {
          group(r, first, sums, row);
          group(r, first + apart, sums, row + RowGroups.ROWS * GroupDots.PARTS);
        }
      }
    }

    private void group(int row, int unit, float[] sums, int at) {
      int first = unit * RowGroups.ROWS;
      int count = Math.min(RowGroups.ROWS, outs - first); // the last group may not be full
      for (int i = 0; i < count; i++) {
        int parts = at + i * GroupDots.PARTS;
        set(row, first + i, sums[parts] + sums[parts + 1]);
      }
    }

    private void set(int row, int o, float sum) {
      long at = isTurned ? (long) o * rows + row : (long) row * outs + o;
      int column = isTurned ? row : o;
      Lanes.set(out, Float.BYTES * at, bias == null ? sum : sum + bias[column]);
    }

    private void wide(int first, int apart, Scratch scratch) {
      int some = Math.min(StoredRowDots.ROWS, outs);
      float[] wide = scratch.floats(WIDE, StoredRowDots.ROWS * inner);
      float[] sums = scratch.floats(SUMS, StoredRowDots.ROWS * RowDots.CHAINS);
      for (int i = 0; i < some; i++) {
        long element = (long) (first + i * apart) * inner;
        Blocks.readWide(wide, i * inner, weight, element, inner, scratch);
      }
      for (int r = 0; r < rows; r++) {
        WideDots.one(wide, x.floats(), r * inner, inner, sums);
        for (int i = 0; i < some; i++) {
          set(r, first + i * apart, RowDots.tree(sums, i * RowDots.CHAINS));
        }
      }
    }
  }
}
