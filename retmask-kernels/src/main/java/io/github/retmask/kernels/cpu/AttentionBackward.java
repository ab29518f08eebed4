package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.AttentionCall.KEYS;
import static io.github.retmask.kernels.cpu.AttentionCall.LANES;
import static io.github.retmask.kernels.cpu.AttentionTiles.ROWS;
import static io.github.retmask.kernels.cpu.Lanes.VIRTUAL;
import static io.github.retmask.kernels.cpu.Panels.COLUMNS;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/// Gradients of attention, limited by arithmetic: five products per pair of a block of keys and of
/// queries.
///
/// A task takes some keys of one kv head and goes through the queries that see them, 192 at a time
/// from the last ones on, and through the heads of its group. So dk and dv stay with the task; to dq
/// the tasks add one after the other, by ascending key ([Turns]). From the last queries on, since all
/// tasks see those: from the first ones on, a task would wait until the one before has come to where
/// its own queries begin (a tenth of the time at T 2048, two threads).
final class AttentionBackward {
  /// Queries that are added up one after the other for a head before those of the next: whole blocks
  /// of [AttentionCall#LANES] for vectors of any width, so that sums do not depend on it.
  private static final int TOGETHER = 192;

  /// Blocks of keys per task, so that copying queries costs little.
  private static final int BLOCKS = 4;

  /// Keys per task.
  private static final int MOST = BLOCKS * KEYS;

  private static final int QUERY = 0;
  private static final int QUERY_T = 1;
  private static final int D_OUT = 2;
  private static final int D_OUT_T = 3;
  private static final int KEY = 4;
  private static final int KEY_T = 5;
  private static final int VALUE = 6;
  private static final int SCORE = 7;
  private static final int D_SCORE = 8;
  private static final int D_KEY = 9;
  private static final int D_VALUE = 10;
  private static final int D_QUERY_T = 11;
  private static final int D_QUERY = 12;
  private static final int LSE = 13;
  private static final int DELTA = 14;
  private static final int SUMS = 15;
  private static final int GRADIENT = 16;
  private static final int DELTAS = 17; // of the calling thread, shared by all tasks

  private final AttentionCall call;
  private final Gradients gradients;
  private final Shared shared;
  private final int number;
  private final Task task;
  private final int keys;
  private final float[] query; // [panel][LANES queries][64 d], times scale
  private final float[] queryT; // [D][64 queries], times scale
  private final float[] dOut; // [panel][LANES queries][64 d]
  private final float[] dOutT; // [D][64 queries]
  private final float[] key; // panels of [block][96 keys][96]
  private final float[] keyT; // [block][D in sixes][96 keys]
  private final float[] value; // panels of [block][96 keys][96]
  private final float[] score; // [96 keys][64 queries]; scores, then weights
  private final float[] dScore; // [96 keys][64 queries]; dp, then ds
  private final float[] dKey; // [panel][block][96 keys][64 d]
  private final float[] dValue; // [panel][block][96 keys][64 d]
  private final float[] dQueryT; // [D][64 queries]
  private final float[] dQuery; // [LANES queries][D]
  private final float[] gradient; // [LANES queries][D], of dq so far
  private final float[] lse; // [64]
  private final float[] delta; // [64]

  record Gradients(
      MemorySegment dq,
      MemorySegment dk,
      MemorySegment dv,
      MemorySegment dz,
      MemorySegment z,
      MemorySegment lse) {}

  /// @param from position of the first key
  /// @param first number of the task with the first keys of this row and kv head
  private record Task(int row, int kvHead, int from, int first) {}

  /// @param deltas `[N,H]`
  private record Shared(List<Task> tasks, Turns turns, float[] deltas) {}

  static void run(WorkerPool pool, AttentionCall call, Gradients gradients) {
    List<Task> tasks = new ArrayList<>();
    for (int r = 0; r < call.layout().rows(); r++) {
      for (int kvHead = 0; kvHead < call.kvHeads(); kvHead++) {
        int first = tasks.size();
        for (int from = 0; from < call.layout().keys(r); from += MOST) {
          tasks.add(new Task(r, kvHead, from, first));
        }
      }
    }
    int tokens = call.layout().tokens();
    float[] deltas = pool.callerScratch().floats(DELTAS, tokens * call.heads());
    int width = call.heads() * call.headDim();
    pool.ranges(
        tokens,
        1,
        Math.max(1, AttentionCall.SMALL / width),
        (from, to, scratch) -> prepare(call, gradients, deltas, (int) from, (int) to, scratch));
    Shared shared = new Shared(tasks, new Turns(tasks.size()), deltas);
    AttentionCall.run(
        pool,
        tasks.size(),
        2 * call.work(),
        (task, scratch) -> new AttentionBackward(call, gradients, shared, task, scratch).run());
  }

  /// `delta = dz . z` of some tokens, and dq zero.
  private static void prepare(
      AttentionCall call, Gradients gradients, float[] deltas, int from, int to, Scratch scratch) {
    int headDim = call.headDim();
    int width = call.heads() * headDim;
    float[] z = scratch.floats(QUERY, width);
    float[] dz = scratch.floats(D_OUT, width);
    float[] sums = scratch.floats(SUMS, VIRTUAL);
    for (int token = from; token < to; token++) {
      long at = call.at(token, 0);
      Blocks.read(z, 0, width, gradients.z, at, call.rowBytes(), 1, width);
      Blocks.read(dz, 0, width, gradients.dz, at, call.rowBytes(), 1, width);
      for (int h = 0; h < call.heads(); h++) {
        int d = h * headDim;
        deltas[token * call.heads() + h] = Lanes.dot(dz, d, z, d, headDim, sums);
      }
    }
    gradients.dq.asSlice(call.at(from, 0), call.at(to - from, 0)).fill((byte) 0);
  }

  private AttentionBackward(
      AttentionCall call, Gradients gradients, Shared shared, int number, Scratch scratch) {
    this.call = call;
    this.gradients = gradients;
    this.shared = shared;
    this.number = number;
    task = shared.tasks.get(number);
    keys = Math.min(MOST, call.layout().keys(task.row) - task.from);
    int headDim = call.headDim();
    int panels = call.panels();
    query = scratch.floats(QUERY, panels * LANES * COLUMNS);
    queryT = scratch.floats(QUERY_T, headDim * COLUMNS);
    dOut = scratch.floats(D_OUT, panels * LANES * COLUMNS);
    dOutT = scratch.floats(D_OUT_T, headDim * COLUMNS);
    key = scratch.floats(KEY, call.panelFloats(MOST));
    keyT = scratch.floats(KEY_T, call.headRows() * MOST);
    value = scratch.floats(VALUE, call.panelFloats(MOST));
    score = scratch.floats(SCORE, KEYS * COLUMNS);
    dScore = scratch.floats(D_SCORE, KEYS * COLUMNS);
    dKey = scratch.floats(D_KEY, panels * MOST * COLUMNS);
    dValue = scratch.floats(D_VALUE, panels * MOST * COLUMNS);
    dQueryT = scratch.floats(D_QUERY_T, call.headRows() * COLUMNS);
    dQuery = scratch.floats(D_QUERY, LANES * headDim);
    gradient = scratch.floats(GRADIENT, LANES * headDim);
    lse = scratch.floats(LSE, COLUMNS);
    delta = scratch.floats(DELTA, COLUMNS);
  }

  private void run() {
    try {
      load();
      int past = call.layout().past(task.row);
      int end = call.layout().keys(task.row);
      int blocks = TOGETHER / LANES;
      int last = (end - past - 1) / TOGETHER;
      int least = Math.max(0, task.from - past) / TOGETHER;
      for (int together = last; together >= least; together--) {
        for (int h = 0; h < call.group(); h++) {
          int head = task.kvHead * call.group() + h;
          for (int i = 0; i < blocks; i++) {
            int first = past + together * TOGETHER + i * LANES;
            int step = ((last - together) * call.group() + h) * blocks + i;
            boolean some = first < end && first + LANES > task.from;
            if (some && call.attends(task.row, head)) {
              queries(head, first, step);
            }
            shared.turns.done(number, step + 1);
          }
        }
      }
      store(gradients.dk, dKey);
      store(gradients.dv, dValue);
      shared.turns.done(number, Integer.MAX_VALUE);
    } catch (Throwable e) {
      shared.turns.fail();
      throw e;
    }
  }

  private void load() {
    int headDim = call.headDim();
    long at = call.kvAt(task.row, task.from, task.kvHead);
    call.readPanels(key, call.k(), at, keys, MOST);
    call.readPanels(value, call.v(), at, keys, MOST);
    for (int from = 0; from < keys; from += KEYS) {
      int count = Math.min(KEYS, keys - from);
      for (int d = 0; d < headDim; d += KEYS) {
        int width = Math.min(KEYS, headDim - d);
        int to = from * call.headRows() + d * KEYS;
        Panels.transpose(keyT, to, KEYS, key, d * MOST + from * KEYS, KEYS, count, width);
      }
    }
    // Tiles also read what D leaves of their columns. What an earlier use left there may be
    // subnormal by now, and a product with that takes a Cascade Lake some 50 times as long.
    int last = call.panels() - 1;
    if (call.panelWidth(last) < COLUMNS) {
      Arrays.fill(query, last * LANES * COLUMNS, (last + 1) * LANES * COLUMNS, 0f);
      Arrays.fill(dOut, last * LANES * COLUMNS, (last + 1) * LANES * COLUMNS, 0f);
    }
    int sums = Math.min(MOST, keys + ROWS) * COLUMNS;
    for (int p = 0; p < call.panels(); p++) {
      Arrays.fill(dKey, p * MOST * COLUMNS, p * MOST * COLUMNS + sums, 0f);
      Arrays.fill(dValue, p * MOST * COLUMNS, p * MOST * COLUMNS + sums, 0f);
    }
  }

  private void store(MemorySegment to, float[] panels) {
    for (int p = 0; p < call.panels(); p++) {
      long at = call.kvAt(task.row, task.from, task.kvHead) + 4L * p * COLUMNS;
      int from = p * MOST * COLUMNS;
      ShortRows.write(to, at, call.kvRowBytes(), panels, from, COLUMNS, keys, call.panelWidth(p));
    }
  }

  /// Some queries of a head, and all keys of the task.
  ///
  /// @param first position of the first query
  /// @param step of the task, see [Turns]
  private void queries(int head, int first, int step) {
    Visible visible = call.visible(task.row, head);
    if (first >= visible.lastQuery(task.from, task.from + keys)) {
      return;
    }
    int lanes = Math.min(LANES, call.layout().keys(task.row) - first);
    pack(head, first, lanes);
    boolean resume = false;
    for (int from = 0; from < keys; from += KEYS) {
      ScoreBlock block = ScoreBlock.of(visible, first, 1, lanes, task.from + from);
      if (!block.isEmpty()) {
        block(block, from, call.isUniform(task.row, head), resume);
        resume = true;
      }
    }
    if (resume && !call.isUniform(task.row, head)) {
      awaitEarlierKeys(visible, first, step);
      addQueryGradients(head, first, lanes);
    }
  }

  /// A block of keys and the queries at hand.
  ///
  /// @param from first key within the task
  /// @param resume whether dQueryT holds the gradients of an earlier block
  private void block(ScoreBlock block, int from, boolean uniform, boolean resume) {
    if (uniform) {
      equalWeights(block);
      add(block, dValue, from, score, dOut);
      return;
    }
    weights(block, from);
    add(block, dValue, from, score, dOut);
    add(block, dKey, from, dScore, query);
    multiplyByKeys(block, from, resume);
  }

  /// Copies queries and their dz, as rows and transposed.
  private void pack(int head, int first, int lanes) {
    int token = call.token(task.row, first);
    long at = call.at(token, head);
    for (int p = 0; p < call.panels(); p++) {
      int to = p * LANES * COLUMNS;
      int width = call.panelWidth(p);
      long from = at + 4L * p * COLUMNS;
      ShortRows.read(query, to, COLUMNS, call.q(), from, call.rowBytes(), lanes, width);
      scale(query, to, lanes * COLUMNS, call.spec().scale());
      ShortRows.read(dOut, to, COLUMNS, gradients.dz, from, call.rowBytes(), lanes, width);
      int d = p * COLUMNS * COLUMNS;
      Panels.transpose(queryT, d, COLUMNS, query, to, COLUMNS, lanes, width);
      Panels.transpose(dOutT, d, COLUMNS, dOut, to, COLUMNS, lanes, width);
    }
    for (int i = 0; i < lanes; i++) {
      lse[i] = Lanes.get(gradients.lse, call.lseAt(token + i, head));
      delta[i] = shared.deltas[(token + i) * call.heads() + head];
    }
  }

  private static void scale(float[] x, int at, int n, float factor) {
    for (int i = at; i < at + n; i++) {
      x[i] *= factor;
    }
  }

  /// Weights p and gradients of scores ds of a block.
  private void weights(ScoreBlock block, int from) {
    int headDim = call.headDim();
    block.multiply(key, from * KEYS, MOST * KEYS, queryT, 0, score, headDim);
    block.multiply(value, from * KEYS, MOST * KEYS, dOutT, 0, dScore, headDim);
    block.hide(score);
    int at = block.from() * COLUMNS;
    SoftmaxBlock.gradients(score, dScore, at, block.rows(), block.lanes(), lse, delta);
  }

  private void equalWeights(ScoreBlock block) {
    for (int j = block.from(); j < block.from() + block.rows(); j++) {
      Arrays.fill(score, j * COLUMNS, j * COLUMNS + block.lanes(), 0f);
      for (int i = block.low(j); i < block.high(j); i++) {
        score[j * COLUMNS + i] = 1f / block.visible().count(block.first() + i);
      }
    }
  }

  /// `to[j][d] += sum_i weights[j][i] queries[i][d]` over the queries that see key j.
  private void add(ScoreBlock block, float[] to, int from, float[] weights, float[] queries) {
    for (int p = 0; p < call.panels(); p++) {
      int rows = p * LANES * COLUMNS;
      int columns = call.panelWidth(p);
      boolean finite =
          block.isFull() || SoftmaxBlock.isFinite(queries, rows, COLUMNS, block.lanes(), columns);
      for (int j = block.from(); j < block.end(); j += ROWS) {
        int c = (p * MOST + from + j) * COLUMNS;
        int low = block.low(j);
        if (finite) {
          int steps = block.lanes() - low;
          int b = rows + low * COLUMNS;
          AttentionTiles.multiply(
              weights, j * COLUMNS + low, COLUMNS, queries, b, to, c, ROWS, columns, steps, true);
        } else {
          addOnlySeen(block, j, to, c, weights, queries, rows, columns);
        }
      }
    }
  }

  /// Six keys where some query is infinite or NaN: it must not reach keys that it does not see, not
  /// even times zero.
  private void addOnlySeen(
      ScoreBlock block,
      int first,
      float[] to,
      int at,
      float[] weights,
      float[] queries,
      int rows,
      int columns) {
    for (int j = first; j < Math.min(first + ROWS, block.end()); j++) {
      for (int i = block.low(j); i < block.high(j); i++) {
        float weight = weights[j * COLUMNS + i];
        for (int d = 0; d < columns; d++) {
          int c = at + (j - first) * COLUMNS + d;
          to[c] = Math.fma(weight, queries[rows + i * COLUMNS + d], to[c]);
        }
      }
    }
  }

  /// `dQ^T (+)= K^T ds^T`.
  private void multiplyByKeys(ScoreBlock block, int from, boolean resume) {
    int headDim = call.headDim();
    int at = block.from() * COLUMNS;
    if (block.isFull() || areFinite(from, block.end())) {
      int steps = block.end() - block.from();
      AttentionTiles.multiply(
          keyT,
          from * call.headRows() + block.from(),
          KEYS,
          dScore,
          at,
          dQueryT,
          0,
          headDim,
          block.lanes(),
          steps,
          resume);
      return;
    }
    if (!resume) {
      Arrays.fill(dQueryT, 0, headDim * COLUMNS, 0f);
    }
    for (int j = block.from(); j < block.end(); j++) {
      for (int i = block.low(j); i < block.high(j); i++) {
        float ds = dScore[j * COLUMNS + i];
        for (int d = 0; d < headDim; d++) {
          int to = d * COLUMNS + i;
          int of = (d / KEYS * MOST + from + j) * KEYS + d % KEYS;
          dQueryT[to] = Math.fma(ds, key[of], dQueryT[to]);
        }
      }
    }
  }

  /// Whether no element of some keys is infinite or NaN.
  private boolean areFinite(int from, int count) {
    boolean finite = true;
    for (int d = 0; d < call.headDim(); d += KEYS) {
      int width = Math.min(KEYS, call.headDim() - d);
      finite &= SoftmaxBlock.isFinite(key, d * MOST + from * KEYS, KEYS, count, width);
    }
    return finite;
  }

  /// Waits until the tasks of earlier keys that these queries see have added to their dq.
  private void awaitEarlierKeys(Visible visible, int first, int step) {
    for (int earlier = number - 1; earlier >= task.first; earlier--) {
      int from = shared.tasks.get(earlier).from;
      if (visible.lastQuery(from, from + MOST) > first) {
        shared.turns.await(earlier, step + 1); // which waited for those before it
        return;
      }
    }
  }

  /// Adds what the queries at hand have from these keys to dq.
  private void addQueryGradients(int head, int first, int lanes) {
    int headDim = call.headDim();
    long at = call.at(call.token(task.row, first), head);
    Panels.transpose(dQuery, 0, headDim, dQueryT, 0, COLUMNS, headDim, lanes);
    ShortRows.read(gradient, 0, headDim, gradients.dq, at, call.rowBytes(), lanes, headDim);
    float scale = call.spec().scale();
    for (int i = 0; i < lanes * headDim; i++) {
      gradient[i] += scale * dQuery[i];
    }
    ShortRows.write(gradients.dq, at, call.rowBytes(), gradient, 0, headDim, lanes, headDim);
  }
}
