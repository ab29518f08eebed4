package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.AttentionCall.KEYS;
import static io.github.retmask.kernels.cpu.AttentionCall.LANES;
import static io.github.retmask.kernels.cpu.AttentionCall.SPAN;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static io.github.retmask.kernels.cpu.Panels.COLUMNS;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;

/// Attention of many queries of a row at a time, limited by arithmetic.
///
/// A task takes some neighbouring heads of one kv head that see the same keys, and some units of their
/// queries; a block of keys and values is copied once for all of them. The lanes of a unit, up to
/// [AttentionCall#LANES], are the heads of one query and then those of the next, as they lie in memory:
/// the fewer positions a unit has, the less of it is above the diagonal. Per unit and block: `S^T = K
/// Q^T`, softmax per lane, `out^T += V^T P^T`.
final class PrefillAttention {
  /// Elements of a query that the units of a task have together: enough that copying keys and values
  /// costs little, and few enough for the second level of cache.
  private static final int WIDEST = 512;

  private static final int QUERY = 0;
  private static final int QUERY_T = 1;
  private static final int KEY = 2;
  private static final int VALUE = 3;
  private static final int VALUE_T = 4;
  private static final int SCORE = 5;
  private static final int KEEP = 6;
  private static final int TAKE = 7;
  private static final int OUT = 8;
  private static final int PARTIALS = 9;

  private final AttentionCall call;
  private final AttentionOutputs outputs;
  private final Task task;
  private final int units;
  private final int positions; // of a unit
  private final Visible visible;
  private final int[] asked; // [count][heads] or empty
  private final int[] hull; // of the ranges of keys that are asked for
  private final float[] query; // [positions][heads][D]
  private final float[] queryT; // [unit][D][64 lanes], times scale
  private final float[] key; // panels of [96 keys][96]
  private final float[] value; // [96 keys][D], as stored, where that is needed
  private final float[] valueT; // [D][96 keys]
  private final float[] score; // [96 keys][64 lanes]; scores, then weights
  private final float[] keep; // [64]
  private final float[] take; // [64]
  private boolean hasValue; // of this block
  private boolean isAllFinite; // known of this block's values
  private boolean isFirstSpan = true; // it is summed up in place
  // Groups of sums, two a unit: of all spans so far, and of the current one unless it is the first.
  private final Partials partials; // [unit][2]
  private final float[] out; // [unit][2][D in sixes][64 lanes], weighted sums of values

  /// @param head the first of some heads of one kv head, all attending to the same keys in the same
  ///   way, or none attending
  /// @param from first query, within the row
  private record Task(int row, int head, int heads, int from, int count) {}

  /// Attention of the rows that are not to be skipped.
  static void run(WorkerPool pool, AttentionCall call, AttentionOutputs outputs, boolean[] skip) {
    List<Task> tasks = new ArrayList<>();
    int units = Math.clamp(WIDEST / call.headDim(), 1, 8);
    for (int r = 0; r < skip.length; r++) {
      int length = skip[r] ? 0 : call.layout().length(r);
      int heads;
      for (int h = 0; h < call.heads(); h += heads) {
        heads = alike(call, r, h, Math.min(units, call.group() - h % call.group()));
        int queries = units * (LANES / heads);
        for (int from = 0; from < length; from += queries) {
          tasks.add(new Task(r, h, heads, from, Math.min(queries, length - from)));
        }
      }
    }
    // Those that see most keys first: the last ones are small, and the threads end together.
    tasks.sort(Comparator.comparingInt(t -> -call.layout().past(t.row) - t.from - t.count));
    AttentionCall.run(
        pool,
        tasks.size(),
        call.work(),
        (task, scratch) -> new PrefillAttention(call, outputs, tasks.get(task), scratch).run());
  }

  /// How many heads from `first` on, at most `most`, see the same keys in the same way.
  private static int alike(AttentionCall call, int row, int first, int most) {
    int count = 1;
    while (count < most && isAlike(call, row, first, first + count)) {
      count++;
    }
    return count;
  }

  private static boolean isAlike(AttentionCall call, int row, int head, int other) {
    if (!call.attends(row, head) || !call.attends(row, other)) {
      return call.attends(row, head) == call.attends(row, other);
    }
    return call.isUniform(row, head) == call.isUniform(row, other)
        && call.visible(row, head).equals(call.visible(row, other));
  }

  private PrefillAttention(
      AttentionCall call, AttentionOutputs outputs, Task task, Scratch scratch) {
    this.call = call;
    this.outputs = outputs;
    this.task = task;
    positions = LANES / task.heads;
    units = (task.count + positions - 1) / positions;
    visible = call.visible(task.row, task.head);
    asked = AttentionReads.asked(outputs.reads(), token(0), task.count, task.heads);
    hull = outputs.reads() == null ? asked : outputs.reads().hull(asked);
    int headDim = call.headDim();
    int headRows = call.headRows();
    query = scratch.floats(QUERY, LANES * headDim + WIDTH);
    queryT = scratch.floats(QUERY_T, units * headDim * COLUMNS);
    key = scratch.floats(KEY, call.panelFloats(KEYS));
    value = scratch.floats(VALUE, KEYS * headDim + WIDTH);
    valueT = scratch.floats(VALUE_T, headRows * KEYS);
    score = scratch.floats(SCORE, KEYS * COLUMNS);
    keep = scratch.floats(KEEP, COLUMNS);
    take = scratch.floats(TAKE, COLUMNS);
    out = scratch.floats(OUT, 2 * units * headRows * COLUMNS);
    boolean reads = asked.length > 0;
    partials = Partials.of(scratch, PARTIALS, 2 * units, reads, reads ? outputs.masses() : 0);
  }

  private void run() {
    if (!call.attends(task.row, task.head)) {
      for (int h = 0; h < task.heads; h++) {
        outputs.writeConstant(
            task.row, task.head + h, token(0), task.count, asked, h, task.heads, query);
      }
      return;
    }
    for (int unit = 0; unit < units; unit++) {
      begin(unit);
    }
    int end = end();
    int firstKey = visible.first(first(0), 0, first(0) + 1);
    for (int block = firstKey / KEYS * KEYS; block < end; block += KEYS) {
      block(block);
      boolean isLast = block + KEYS >= end;
      if ((block + KEYS) % SPAN == 0 || isLast) {
        endSpan(isLast);
      }
    }
    for (int unit = 0; unit < units; unit++) {
      finish(unit);
    }
  }

  /// End of the keys that any query sees.
  private int end() {
    return call.layout().past(task.row) + task.from + task.count;
  }

  /// Position of a unit's first query.
  private int first(int unit) {
    return call.layout().past(task.row) + task.from + unit * positions;
  }

  private int token(int unit) {
    return call.layout().tokenStart(task.row) + task.from + unit * positions;
  }

  /// Queries of a unit.
  private int queries(int unit) {
    return Math.min(positions, task.count - unit * positions);
  }

  private int lanes(int unit) {
    return queries(unit) * task.heads;
  }

  /// Index of a unit's first lane in [#asked].
  private int askedAt(int unit) {
    return unit * positions * task.heads;
  }

  /// Group of sums over all spans.
  private static int all(int unit) {
    return 2 * unit;
  }

  /// Group of sums over the span that is read.
  private int current(int unit) {
    return isFirstSpan ? all(unit) : all(unit) + 1;
  }

  /// Where a group's sums of values begin.
  private int outAt(int group) {
    return group * call.headRows() * COLUMNS;
  }

  /// A group of sums has seen nothing.
  private void clear(int unit, int group) {
    partials.clear(group);
    Arrays.fill(out, outAt(group), outAt(group + 1), 0f);
    for (int i = 0; i < lanes(unit) && asked.length > 0; i++) {
      int position = first(unit) + i / task.heads;
      int firstKey = visible.first(position, 0, position + 1);
      partials.topKey()[group * COLUMNS + i] = firstKey;
    }
  }

  private void begin(int unit) {
    int headDim = call.headDim();
    int lanes = lanes(unit);
    int width = task.heads * headDim;
    long at = call.at(token(unit), task.head);
    ShortRows.read(query, 0, width, call.q(), at, call.rowBytes(), queries(unit), width);
    for (int i = 0; i < lanes * headDim; i++) {
      query[i] *= call.spec().scale();
    }
    int to = unit * headDim * COLUMNS;
    Panels.transpose(queryT, to, COLUMNS, query, 0, headDim, lanes, headDim);
    clear(unit, all(unit));
  }

  private void endSpan(boolean isLast) {
    boolean merges = !isFirstSpan;
    isFirstSpan = false;
    for (int unit = 0; unit < units; unit++) {
      int to = all(unit);
      int from = current(unit);
      if (merges) {
        int lanes = lanes(unit);
        partials.merge(to, from, lanes, keep, take);
        SoftmaxBlock.merge(out, outAt(to), outAt(from), call.headDim(), lanes, keep, take);
      }
      if (!isLast) {
        clear(unit, from);
      }
    }
  }

  /// Keys of a block.
  private int keys(int block) {
    return Math.min(KEYS, end() - block);
  }

  private void block(int block) {
    int keys = keys(block);
    boolean loaded = false;
    for (int unit = 0; unit < units; unit++) {
      int first = first(unit);
      if (block >= first + queries(unit) || visible.lastQuery(block, block + keys) <= first) {
        continue;
      }
      if (!loaded) {
        load(block);
        loaded = true;
      }
      attend(unit, ScoreBlock.of(visible, first, task.heads, lanes(unit), block));
    }
  }

  private void load(int block) {
    int headDim = call.headDim();
    int keys = keys(block);
    long at = call.kvAt(task.row, block, task.head / call.group());
    call.readPanels(key, call.k(), at, keys, KEYS);
    hasValue = false;
    isAllFinite = false;
    if (Panels.readsOffHeap(call.v(), keys, headDim)) {
      Panels.transpose(valueT, 0, KEYS, 8 * KEYS, call.v(), at, call.kvRowBytes(), keys, headDim);
    } else {
      readValue(block);
      Panels.transpose(valueT, 0, KEYS, value, 0, headDim, keys, headDim);
    }
  }

  /// Reads a block's values as they are stored, unless that is done.
  private void readValue(int block) {
    if (!hasValue) {
      int headDim = call.headDim();
      long at = call.kvAt(task.row, block, task.head / call.group());
      ShortRows.read(value, 0, headDim, call.v(), at, call.kvRowBytes(), keys(block), headDim);
      hasValue = true;
    }
  }

  /// Whether the values that a block sees are finite.
  private boolean isFinite(ScoreBlock block) {
    int headDim = call.headDim();
    int keys = keys(block.block());
    isAllFinite = isAllFinite || SoftmaxBlock.isFinite(valueT, 0, KEYS, headDim, keys);
    return isAllFinite || SoftmaxBlock.isFinite(valueT, 0, KEYS, headDim, block.end());
  }

  private void attend(int unit, ScoreBlock block) {
    if (block.isEmpty()) {
      return;
    }
    int headDim = call.headDim();
    int at = block.from() * COLUMNS;
    if (call.isUniform(task.row, task.head)) {
      Arrays.fill(score, at, at + block.rows() * COLUMNS, 0f);
    } else {
      int queries = unit * headDim * COLUMNS;
      block.multiply(key, 0, KEYS * KEYS, queryT, queries, score, headDim);
    }
    block.hide(score);
    softmax(unit, block, at);
    if (block.isFull() || isFinite(block)) {
      AttentionTiles.multiply(
          valueT,
          block.from(),
          KEYS,
          score,
          at,
          out,
          outAt(current(unit)),
          headDim,
          block.lanes(),
          block.end() - block.from(),
          true);
    } else {
      addOnlySeen(unit, block);
    }
  }

  /// Takes the scores into the running softmax and turns them into weights.
  private void softmax(int unit, ScoreBlock block, int at) {
    int lanes = block.lanes();
    int group = current(unit);
    int state = group * COLUMNS;
    float[] top = partials.top();
    float[] before = take;
    System.arraycopy(top, state, before, 0, lanes);
    int key = block.block() + block.from();
    if (asked.length == 0) {
      SoftmaxBlock.top(score, at, block.rows(), lanes, top, state);
    } else {
      SoftmaxBlock.topKeys(score, at, block.rows(), lanes, top, partials.topKey(), state, key);
    }
    for (int i = 0; i < lanes; i++) {
      before[i] -= top[state + i];
    }
    Exp.exp(keep, 0, before, 0, lanes, 1f, 0f);
    if (partials.scale(group, lanes, keep)) {
      SoftmaxBlock.scale(out, outAt(group), call.headDim(), lanes, keep, 0);
    }
    SoftmaxBlock.weights(score, at, block.rows(), lanes, top, state, partials.sum(), state);
    AttentionReads reads = outputs.reads();
    int keys = block.end() - block.from();
    if (reads != null && asked.length > 0 && hull[0] < key + keys && hull[1] > key) {
      reads.addAll(
          partials, group, asked, askedAt(unit), lanes, hull, score, at, key, keys, keep, take);
    }
  }

  /// Weights times values where some are infinite or NaN: what a query does not see must not reach
  /// it, not even times zero.
  private void addOnlySeen(int unit, ScoreBlock block) {
    int headDim = call.headDim();
    readValue(block.block());
    for (int j = block.from(); j < block.end(); j++) {
      for (int i = block.low(j); i < block.high(j); i++) {
        float weight = score[j * COLUMNS + i];
        for (int d = 0; d < headDim; d++) {
          int to = outAt(current(unit)) + d * COLUMNS + i;
          out[to] = Math.fma(weight, value[j * headDim + d], out[to]);
        }
      }
    }
  }

  private void finish(int unit) {
    int lanes = lanes(unit);
    int group = all(unit);
    int headDim = call.headDim();
    partials.finish(group, lanes, keep, take);
    SoftmaxBlock.means(out, outAt(group), headDim, lanes, take);
    Panels.transpose(query, 0, headDim, out, outAt(group), COLUMNS, headDim, lanes);
    outputs.write(
        task.head,
        task.heads,
        token(unit),
        queries(unit),
        asked,
        askedAt(unit),
        partials,
        group * COLUMNS,
        keep,
        0,
        query,
        0);
  }
}
