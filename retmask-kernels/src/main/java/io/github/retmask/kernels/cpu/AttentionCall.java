package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Panels.COLUMNS;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.HeadPlan.Mode;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;

/// What all tasks of an attention call share: inputs, shapes, and who attends to what.
record AttentionCall(
    MemorySegment q,
    MemorySegment k,
    MemorySegment v,
    BatchLayout layout,
    HeadPlan plan,
    AttentionSpec spec,
    int heads,
    int kvHeads,
    int headDim) {

  /// Keys of a block. Blocks start at multiples of it, so what a query adds up, and in which order,
  /// does not depend on where its chunk began.
  static final int KEYS = 96;

  /// Keys of a span, a multiple of a block: sums of a span start from zero and are merged in
  /// ascending order, so spans can be computed by different threads. Short ones leave threads that
  /// decode whole rows of keys to read.
  static final int SPAN = 3 * KEYS;

  /// Queries side by side in the lanes, whole tiles: four vectors of AVX-512, six of AVX2.
  static final int LANES = Lanes.WIDTH == 16 ? 64 : 48;

  /// Multiply-adds below which a second thread is not worth waking.
  static final long SMALL = 1 << 17;

  static AttentionCall of(
      Tensor q, Tensor k, Tensor v, BatchLayout layout, HeadPlan plan, AttentionSpec spec) {
    return new AttentionCall(
        q.segment(),
        k.segment(),
        v.segment(),
        layout,
        plan,
        spec,
        (int) q.dim(1),
        (int) k.dim(1),
        (int) q.dim(2));
  }

  /// Query heads of a kv head.
  int group() {
    return heads / kvHeads;
  }

  /// The token of a row at a position past those of its cache.
  int token(int row, int position) {
    return layout.tokenStart(row) + position - layout.past(row);
  }

  /// Byte of element [token, head, 0] of a `[N,H,D]` tensor.
  long at(long token, int head) {
    return 4 * (token * heads + head) * headDim;
  }

  /// Byte of element [token, head] of a `[N,H]` tensor.
  long lseAt(long token, int head) {
    return 4 * (token * heads + head);
  }

  /// Byte of element [position, kvHead, 0] of a row's keys or values.
  long kvAt(int row, int position, int kvHead) {
    return 4 * ((layout.keyStart(row) + (long) position) * kvHeads + kvHead) * headDim;
  }

  /// Bytes from a token to the next in a `[N,H,D]` tensor.
  long rowBytes() {
    return 4L * heads * headDim;
  }

  /// Bytes from a key to the next.
  long kvRowBytes() {
    return 4L * kvHeads * headDim;
  }

  /// D rounded up to the rows of whole tiles.
  int headRows() {
    return (headDim + AttentionTiles.ROWS - 1) / AttentionTiles.ROWS * AttentionTiles.ROWS;
  }

  /// Panels of 64 that D fills.
  int panels() {
    return (headDim + COLUMNS - 1) / COLUMNS;
  }

  /// Floats of the panels that [#readPanels] fills for so many rows.
  int panelFloats(int rows) {
    return (headDim + KEYS - 1) / KEYS * rows * KEYS;
  }

  /// Reads keys or values of a kv head into panels of 96 of their D elements, rows a constant 96
  /// apart, as [AttentionTiles] reads them best.
  ///
  /// @param to `[panel][room][96]`
  /// @param at byte of the first row
  /// @param room rows of a panel, at least those that are read
  void readPanels(float[] to, MemorySegment kv, long at, int rows, int room) {
    for (int d = 0; d < headDim; d += KEYS) {
      int panel = d * room;
      int width = Math.min(KEYS, headDim - d);
      ShortRows.read(to, panel, KEYS, kv, at + 4L * d, kvRowBytes(), rows, width);
    }
  }

  int panelWidth(int panel) {
    return Math.min(COLUMNS, headDim - panel * COLUMNS);
  }

  /// Whether a head looks at keys at all.
  boolean attends(int row, int head) {
    Mode mode = plan.mode(row, head);
    return mode == Mode.ATTEND || mode == Mode.UNIFORM;
  }

  boolean isUniform(int row, int head) {
    return plan.mode(row, head) == Mode.UNIFORM;
  }

  Visible visible(int row, int head) {
    return Visible.of(plan, spec, row, head);
  }

  /// Multiply-adds of a product of all queries with all keys of the rows.
  long work() {
    long work = 0;
    for (int r = 0; r < layout.rows(); r++) {
      work += (long) layout.length(r) * layout.keys(r) * heads * headDim;
    }
    return work;
  }

  /// Runs tasks in ascending order, on one thread when the whole is small.
  static void run(WorkerPool pool, int tasks, long work, WorkerPool.Body body) {
    if (work >= SMALL) {
      pool.run(tasks, body);
      return;
    }
    for (int task = 0; task < tasks; task++) {
      body.run(task, pool.callerScratch());
    }
  }
}
