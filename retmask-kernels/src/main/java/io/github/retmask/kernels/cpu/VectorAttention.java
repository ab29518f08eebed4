package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.VIRTUAL;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static io.github.retmask.kernels.cpu.Panels.COLUMNS;

import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.HeadPlan.Mode;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import org.jspecify.annotations.Nullable;

/// Attention with an online softmax over blocks of 64 keys (Dao et al. 2022), for a (row, kv head,
/// chunk of queries) at a time.
///
/// A block of keys is transposed once and shared by the chunk's queries and by the query heads of
/// the group; scores are formed with keys side by side in the lanes, z with elements of v. Blocks
/// start at multiples of 64 positions of the row, so it makes no difference to a query where its
/// chunk began. Blocks that a head does not see are skipped, skipped heads cost nothing.
final class VectorAttention {
  /// Queries per task: a multiple of the six rows of a tile.
  private static final int QUERIES = 48;

  private static final int KEYS = COLUMNS;
  private static final int BLOCK = KEYS * COLUMNS;

  /// Multiply-adds below which a second thread is not worth waking.
  private static final long SMALL = 1 << 17;

  private static final int QUERY = 0;
  private static final int KEY = 1;
  private static final int KEY_T = 2;
  private static final int VALUE = 3;
  private static final int SCORE = 4;
  private static final int OUT = 5;
  private static final int STATE = 6;
  private static final int LANES = 7;
  private static final int D_OUT = 8;
  private static final int D_SCORE = 9;
  private static final int D_QUERY = 10;
  private static final int D_KEY_T = 11;
  private static final int D_VALUE_T = 12;

  private VectorAttention() {}

  /// What all tasks of a call share.
  ///
  /// @param panels panels of 64 that D fills
  private record Call(
      Tensor q,
      Tensor k,
      Tensor v,
      BatchLayout layout,
      HeadPlan plan,
      AttentionSpec spec,
      int heads,
      int kvHeads,
      int headDim,
      int panels) {

    static Call of(
        Tensor q, Tensor k, Tensor v, BatchLayout layout, HeadPlan plan, AttentionSpec spec) {
      int headDim = (int) q.dim(2);
      return new Call(
          q,
          k,
          v,
          layout,
          plan,
          spec,
          (int) q.dim(1),
          (int) k.dim(1),
          headDim,
          (headDim + COLUMNS - 1) / COLUMNS);
    }

    int group() {
      return heads / kvHeads;
    }

    /// Byte of element [token, head, 0] of a `[N,H,D]` tensor.
    long at(long token, int head) {
      return 4 * (token * heads + head) * headDim;
    }

    /// Byte of element [key, kvHead, 0] of a `[keys,Hkv,D]` tensor.
    long kvAt(long key, int kvHead) {
      return 4 * (key * kvHeads + kvHead) * headDim;
    }

    int panelWidth(int panel) {
      return Math.min(COLUMNS, headDim - panel * COLUMNS);
    }

    /// Rows of `[.., D]` as a panel per 64 elements, a panel every `stride` floats.
    void copyRows(
        float[] to, int toAt, int stride, MemorySegment from, long at, long rowBytes, int rows) {
      for (int p = 0; p < panels; p++) {
        Panels.copy(
            to, toAt + p * stride, from, at + 4L * p * COLUMNS, rowBytes, rows, panelWidth(p));
      }
    }

    /// The same, transposed: `to[d][row]`.
    void transposeRows(float[] to, MemorySegment from, long at, long rowBytes, int rows) {
      for (int p = 0; p < panels; p++) {
        Panels.transpose(to, p * BLOCK, from, at + 4L * p * COLUMNS, rowBytes, rows, panelWidth(p));
      }
    }
  }

  // --- forward --------------------------------------------------------------------------------

  static void attention(
      WorkerPool pool,
      Tensor z,
      Tensor lse,
      Tensor q,
      Tensor k,
      Tensor v,
      BatchLayout layout,
      HeadPlan plan,
      AttentionSpec spec,
      @Nullable AttentionReadout readout) {
    Call call = Call.of(q, k, v, layout, plan, spec);
    int chunks = 0;
    long work = 0;
    for (int r = 0; r < layout.rows(); r++) {
      chunks += (layout.length(r) + QUERIES - 1) / QUERIES;
      work += (long) layout.length(r) * layout.keys(r) * call.heads * call.headDim;
    }
    int[] rows = new int[chunks];
    int[] starts = new int[chunks];
    int chunk = 0;
    for (int r = 0; r < layout.rows(); r++) {
      for (int t = 0; t < layout.length(r); t += QUERIES) {
        rows[chunk] = r;
        starts[chunk++] = t;
      }
    }
    int tasks = chunks * call.kvHeads;
    pool.ranges(
        tasks,
        1,
        Math.max(1, SMALL * tasks / Math.max(1, work)),
        (from, to, scratch) -> {
          for (int task = (int) from; task < to; task++) {
            int c = task / call.kvHeads;
            int row = rows[c];
            int end = Math.min(starts[c] + QUERIES, layout.length(row));
            new Forward(call, z, lse, readout, row, task % call.kvHeads, starts[c], end, scratch)
                .run();
          }
        });
  }

  /// One forward task: the queries `[from, to)` of a row for the query heads of one kv head.
  private static final class Forward {
    private final Call call;
    private final MemorySegment z;
    private final MemorySegment lse;
    private final @Nullable AttentionReadout readout;
    private final int row;
    private final int kvHead;
    private final int from;
    private final int count;
    private final int position; // of the first query
    private final int token; // of the first query
    private final float[] query; // [group][panel][QUERIES][64], times scale
    private final float[] keyT; // [panel][64 d][64 keys]
    private final float[] value; // [panel][64 keys][64 d]
    private final float[] score; // [QUERIES][64 keys]; scores, then weights
    private final float[] out; // [group][panel][QUERIES][64]
    private final float[] max; // [group][QUERIES]
    private final float[] lanes; // [group][QUERIES][16], sums of exp(score - max)
    private final int @Nullable [] asked; // [QUERIES], index of the read-out query or -1
    private final int[] low = new int[QUERIES]; // visible part of the block
    private final int[] high = new int[QUERIES];

    Forward(
        Call call,
        Tensor z,
        Tensor lse,
        @Nullable AttentionReadout readout,
        int row,
        int kvHead,
        int from,
        int to,
        Scratch scratch) {
      this.call = call;
      this.z = z.segment();
      this.lse = lse.segment();
      this.readout = readout;
      this.row = row;
      this.kvHead = kvHead;
      this.from = from;
      this.count = to - from;
      this.position = call.layout.past(row) + from;
      this.token = call.layout.tokenStart(row) + from;
      int rows = call.group() * QUERIES;
      query = scratch.floats(QUERY, rows * call.panels * COLUMNS);
      keyT = scratch.floats(KEY_T, call.panels * BLOCK);
      value = scratch.floats(VALUE, call.panels * BLOCK);
      score = scratch.floats(SCORE, QUERIES * KEYS);
      out = scratch.floats(OUT, rows * call.panels * COLUMNS);
      max = scratch.floats(STATE, rows);
      lanes = scratch.floats(LANES, rows * VIRTUAL);
      asked = readout == null ? null : askedQueries(readout);
    }

    private int @Nullable [] askedQueries(AttentionReadout readout) {
      int[] asked = new int[count];
      boolean any = false;
      for (int i = 0; i < count; i++) {
        asked[i] = Arrays.binarySearch(readout.queries(), token + i);
        any |= asked[i] >= 0;
      }
      return any ? asked : null;
    }

    void run() {
      boolean attends = false;
      for (int g = 0; g < call.group(); g++) {
        attends |= begin(g);
      }
      if (!attends) {
        return;
      }
      for (int block = firstKey() / KEYS * KEYS; block < position + count; block += KEYS) {
        boolean loaded = false;
        for (int g = 0; g < call.group(); g++) {
          if (see(g, block)) {
            if (!loaded) {
              load(block);
              loaded = true;
            }
            attend(g, block);
          }
        }
      }
      for (int g = 0; g < call.group(); g++) {
        if (attends(g)) {
          finish(g);
        }
      }
    }

    private int head(int g) {
      return kvHead * call.group() + g;
    }

    private Mode mode(int g) {
      return call.plan.mode(row, head(g));
    }

    private boolean attends(int g) {
      return mode(g) == Mode.ATTEND || mode(g) == Mode.UNIFORM;
    }

    private int outAt(int g, int panel) {
      return (g * call.panels + panel) * QUERIES * COLUMNS;
    }

    /// Prepares a head; false when it does not attend and is done.
    private boolean begin(int g) {
      int head = head(g);
      if (!attends(g)) {
        float @Nullable [] mean = mode(g) == Mode.MEAN ? call.plan.mean(row, head) : null;
        for (int i = 0; i < count; i++) {
          long at = call.at(token + i, head);
          if (mean == null) {
            z.asSlice(at, 4L * call.headDim).fill((byte) 0);
          } else {
            MemorySegment.copy(mean, 0, z, Lanes.F32, at, call.headDim);
          }
          Lanes.set(lse, 4L * ((long) (token + i) * call.heads + head), Float.NEGATIVE_INFINITY);
          if (asked != null && asked[i] >= 0) {
            reportNothing(asked[i], head);
          }
        }
        return false;
      }
      int stride = QUERIES * COLUMNS;
      call.copyRows(
          query, outAt(g, 0), stride, call.q.segment(), call.at(token, head), call.at(1, 0), count);
      int size = call.panels * stride;
      scale(query, g * size, size, call.spec.scale());
      Arrays.fill(out, g * size, (g + 1) * size, 0f);
      Arrays.fill(max, g * QUERIES, (g + 1) * QUERIES, Float.NEGATIVE_INFINITY);
      Arrays.fill(lanes, g * QUERIES * VIRTUAL, (g + 1) * QUERIES * VIRTUAL, 0f);
      if (readout != null) {
        beginReport(readout, g);
      }
      return true;
    }

    private void beginReport(AttentionReadout report, int g) {
      Visible visible = Visible.of(call.plan, call.spec, row, head(g));
      for (int i = 0; i < count; i++) {
        if (asked(i) >= 0) {
          long at = (long) asked(i) * call.heads + head(g);
          report.topPosition().setInt(at, visible.first(position + i, 0, position + i + 1));
          for (int s = 0; s < report.spans()[asked(i)].length; s++) {
            report.spanMass().set(spanAt(report, asked(i), head(g), s), 0f);
          }
        }
      }
    }

    /// First key that any query of any head sees.
    private int firstKey() {
      int first = Integer.MAX_VALUE;
      for (int g = 0; g < call.group(); g++) {
        if (attends(g)) {
          Visible visible = Visible.of(call.plan, call.spec, row, head(g));
          first = Math.min(first, visible.first(position, 0, position + 1));
        }
      }
      return first;
    }

    /// Finds what each query of a head sees of a block; false when nothing.
    private boolean see(int g, int block) {
      if (!attends(g)) {
        return false;
      }
      Visible visible = Visible.of(call.plan, call.spec, row, head(g));
      boolean any = false;
      for (int i = 0; i < count; i++) {
        low[i] = visible.first(position + i, block, block + KEYS) - block;
        high[i] = visible.end(position + i, block, block + KEYS) - block;
        any |= low[i] < high[i];
      }
      return any;
    }

    /// Loads the keys of a block up to the last query's own: those after it may not exist yet.
    private void load(int block) {
      int keys = Math.min(KEYS, position + count - block);
      long at = call.kvAt(call.layout.keyStart(row) + (long) block, kvHead);
      long rowBytes = call.kvAt(1, 0);
      call.transposeRows(keyT, call.k.segment(), at, rowBytes, keys);
      call.copyRows(value, 0, BLOCK, call.v.segment(), at, rowBytes, keys);
    }

    private void attend(int g, int block) {
      Visible visible = Visible.of(call.plan, call.spec, row, head(g));
      boolean uniform = mode(g) == Mode.UNIFORM;
      for (int i = 0; i < count; i += 6) {
        int rows = Math.min(6, count - i);
        int end = 0;
        for (int r = i; r < i + rows; r++) {
          end = Math.max(end, low[r] < high[r] ? high[r] : 0);
        }
        if (end == 0) {
          continue;
        }
        Arrays.fill(score, i * KEYS, (i + rows) * KEYS, 0f);
        for (int p = 0; p < call.panels && !uniform; p++) {
          int a = outAt(g, p) + i * COLUMNS;
          int steps = call.panelWidth(p);
          PanelTiles.multiply(query, a, keyT, p * BLOCK, score, i * KEYS, rows, end, steps);
        }
        for (int r = i; r < i + rows; r++) {
          if (low[r] < high[r]) {
            hide(score, r * KEYS, visible, position + r, block, low[r], high[r]);
            softmax(g, r, block);
          }
        }
        gather(g, visible, block, i, rows);
      }
    }

    /// Takes the visible scores of query i into its running softmax and turns them into weights.
    private void softmax(int g, int i, int block) {
      int at = i * KEYS;
      int from = low[i] & -VIRTUAL;
      int to = high[i] + VIRTUAL - 1 & -VIRTUAL;
      int state = g * QUERIES + i;
      float before = max[state];
      float top = Math.max(before, largest(score, at + from, to - from));
      float keep = before == top ? 1f : Lanes.exp(before - top);
      max[state] = top;
      AttentionReadout report = asked != null && asked[i] >= 0 ? readout : null;
      if (report != null && top > before) {
        int j = low[i];
        while (score[at + j] != top) {
          j++;
        }
        report.topPosition().setInt((long) asked(i) * call.heads + head(g), block + j);
      }
      weights(score, at + from, to - from, top, keep, lanes, state * VIRTUAL);
      if (keep != 1f) {
        for (int p = 0; p < call.panels; p++) {
          scale(out, outAt(g, p) + i * COLUMNS, COLUMNS, keep);
        }
      }
      if (report != null) {
        gatherSpans(report, g, i, block, keep);
      }
    }

    private int asked(int i) {
      return asked == null ? -1 : asked[i];
    }

    /// Adds weights times values to z of some queries, visible keys ascending: together where all
    /// of them see the keys, else one by one, so that no query touches a value that it does not see.
    private void gather(int g, Visible visible, int block, int i, int rows) {
      int common = 0;
      int end = KEYS;
      boolean hole = false;
      for (int r = i; r < i + rows; r++) {
        common = Math.max(common, low[r]);
        end = Math.min(end, high[r]);
        hole |= visible.hasHole(position + r, block + low[r], block + high[r]);
      }
      if (rows < 6 || common >= end || hole) {
        for (int r = i; r < i + rows; r++) {
          gatherAlone(g, visible, block, r);
        }
        return;
      }
      for (int r = i; r < i + rows; r++) {
        gather(g, r, 1, low[r], common);
      }
      gather(g, i, rows, common, end);
      for (int r = i; r < i + rows; r++) {
        gather(g, r, 1, end, high[r]);
      }
    }

    private void gatherAlone(int g, Visible visible, int block, int i) {
      if (visible.hasHole(position + i, block + low[i], block + high[i])) {
        gather(g, i, 1, low[i], visible.sinkTo(position + i) - block);
        gather(g, i, 1, visible.nearFrom(position + i) - block, high[i]);
      } else {
        gather(g, i, 1, low[i], high[i]);
      }
    }

    private void gather(int g, int i, int rows, int keyFrom, int keyTo) {
      if (keyFrom >= keyTo) {
        return;
      }
      for (int p = 0; p < call.panels; p++) {
        PanelTiles.multiply(
            score,
            i * KEYS + keyFrom,
            value,
            p * BLOCK + keyFrom * COLUMNS,
            out,
            outAt(g, p) + i * COLUMNS,
            rows,
            call.panelWidth(p),
            keyTo - keyFrom);
      }
    }

    private void gatherSpans(AttentionReadout report, int g, int i, int block, float keep) {
      int[][] spans = report.spans()[asked(i)];
      for (int s = 0; s < spans.length; s++) {
        long at = spanAt(report, asked(i), head(g), s);
        float mass = report.spanMass().get(at) * keep;
        int end = Math.min(high[i], spans[s][1] - block);
        for (int j = Math.max(low[i], spans[s][0] - block); j < end; j++) {
          mass += score[i * KEYS + j];
        }
        report.spanMass().set(at, mass);
      }
    }

    private long spanAt(AttentionReadout report, int query, int head, int span) {
      return ((long) query * call.heads + head) * report.spans()[query].length + span;
    }

    private void finish(int g) {
      int head = head(g);
      for (int i = 0; i < count; i++) {
        int state = g * QUERIES + i;
        float sum = Lanes.tree(lanes, state * VIRTUAL);
        float share = 1 / sum;
        for (int p = 0; p < call.panels; p++) {
          int at = outAt(g, p) + i * COLUMNS;
          scale(out, at, COLUMNS, share);
          MemorySegment.copy(
              out,
              at,
              z,
              Lanes.F32,
              call.at(token + i, head) + 4L * p * COLUMNS,
              call.panelWidth(p));
        }
        float logSumExp = (float) (max[state] + StrictMath.log(sum));
        Lanes.set(lse, 4L * ((long) (token + i) * call.heads + head), logSumExp);
        if (readout != null && asked(i) >= 0) {
          report(readout, asked(i), head, share, logSumExp);
        }
      }
    }

    private void report(
        AttentionReadout report, int query, int head, float share, float logSumExp) {
      long at = (long) query * call.heads + head;
      report.topWeight().set(at, share); // exp(max - max) / sum
      report.logSumExp().set(at, logSumExp);
      for (int s = 0; s < report.spans()[query].length; s++) {
        long span = spanAt(report, query, head, s);
        report.spanMass().set(span, report.spanMass().get(span) * share);
      }
    }

    private void reportNothing(int query, int head) {
      AttentionReadout report = readout;
      if (report == null) {
        return;
      }
      long at = (long) query * call.heads + head;
      report.topPosition().setInt(at, -1);
      report.topWeight().set(at, 0f);
      report.logSumExp().set(at, Float.NEGATIVE_INFINITY);
      for (int s = 0; s < report.spans()[query].length; s++) {
        report.spanMass().set(spanAt(report, query, head, s), 0f);
      }
    }
  }

  /// Sets what query i does not see between `low` and `high`, widened to whole groups of 16, to
  /// -infinity.
  private static void hide(
      float[] score, int at, Visible visible, int i, int block, int low, int high) {
    Arrays.fill(score, at + (low & -VIRTUAL), at + low, Float.NEGATIVE_INFINITY);
    int holeFrom = Math.max(low, visible.sinkTo(i) - block);
    int holeTo = Math.min(high, visible.nearFrom(i) - block);
    if (holeFrom < holeTo) {
      Arrays.fill(score, at + holeFrom, at + holeTo, Float.NEGATIVE_INFINITY);
    }
    int end = high + VIRTUAL - 1 & -VIRTUAL;
    Arrays.fill(score, at + high, at + end, Float.NEGATIVE_INFINITY);
  }

  /// Largest of n floats, n a multiple of 16.
  private static float largest(float[] x, int at, int n) {
    FloatVector top = FloatVector.fromArray(FLOAT, x, at);
    for (int i = WIDTH; i < n; i += WIDTH) {
      top = top.max(FloatVector.fromArray(FLOAT, x, at + i));
    }
    return top.reduceLanes(VectorOperators.MAX); // exact in any order
  }

  /// `x = exp(x - max)` for n floats, n a multiple of 16; `sum = sum keep + x` per virtual lane.
  private static void weights(
      float[] x, int at, int n, float max, float keep, float[] sum, int sumAt) {
    for (int part = 0; part < VIRTUAL; part += WIDTH) {
      FloatVector total = FloatVector.fromArray(FLOAT, sum, sumAt + part).mul(keep);
      for (int i = 0; i < n; i += VIRTUAL) {
        FloatVector weight = Lanes.exp(FloatVector.fromArray(FLOAT, x, at + part + i).sub(max));
        weight.intoArray(x, at + part + i);
        total = total.add(weight);
      }
      total.intoArray(sum, sumAt + part);
    }
  }

  /// `x *= factor` for n floats, n a multiple of 16.
  private static void scale(float[] x, int at, int n, float factor) {
    for (int i = 0; i < n; i += WIDTH) {
      FloatVector.fromArray(FLOAT, x, at + i).mul(factor).intoArray(x, at + i);
    }
  }

  // --- backward -------------------------------------------------------------------------------

  /// Gradients of [#attention], a (row, kv head) per task: the blocks of keys ascending, for each
  /// the query heads of the group, for each the queries ascending.
  static void backward(
      WorkerPool pool,
      Tensor dq,
      Tensor dk,
      Tensor dv,
      Tensor dz,
      Tensor q,
      Tensor k,
      Tensor v,
      Tensor z,
      Tensor lse,
      BatchLayout layout,
      HeadPlan plan,
      AttentionSpec spec) {
    Call call = Call.of(q, k, v, layout, plan, spec);
    long work = 0;
    for (int r = 0; r < layout.rows(); r++) {
      work += 2L * layout.length(r) * layout.length(r) * call.heads * call.headDim;
    }
    int tasks = layout.rows() * call.kvHeads;
    pool.ranges(
        tasks,
        1,
        Math.max(1, SMALL * tasks / Math.max(1, work)),
        (from, to, scratch) -> {
          for (int task = (int) from; task < to; task++) {
            new Backward(
                    call,
                    dq.segment(),
                    dk.segment(),
                    dv.segment(),
                    dz.segment(),
                    z.segment(),
                    lse.segment(),
                    task / call.kvHeads,
                    task % call.kvHeads,
                    scratch)
                .run();
          }
        });
  }

  /// One backward task: a row and a kv head.
  private static final class Backward {
    private final Call call;
    private final MemorySegment dq;
    private final MemorySegment dk;
    private final MemorySegment dv;
    private final MemorySegment dz;
    private final MemorySegment z;
    private final MemorySegment lse;
    private final int row;
    private final int kvHead;
    private final int length;
    private final int start; // first token
    private final float[] delta; // [group][T]
    private final float[] query; // [panel][QUERIES][64], times scale
    private final float[] dOut; // [panel][QUERIES][64], dz
    private final float[] key; // [panel][64 keys][64 d]
    private final float[] keyT; // [panel][64 d][64 keys]
    private final float[] valueT; // [panel][64 d][64 keys]
    private final float[] score; // [QUERIES][64 keys]; scores, then weights
    private final float[] dScore; // [QUERIES][64 keys]
    private final float[] dQuery; // [panel][QUERIES][64]
    private final float[] dKeyT; // [panel][64 d][64 keys]
    private final float[] dValueT; // [panel][64 d][64 keys]
    private final float[] lanes; // [16]

    Backward(
        Call call,
        MemorySegment dq,
        MemorySegment dk,
        MemorySegment dv,
        MemorySegment dz,
        MemorySegment z,
        MemorySegment lse,
        int row,
        int kvHead,
        Scratch scratch) {
      this.call = call;
      this.dq = dq;
      this.dk = dk;
      this.dv = dv;
      this.dz = dz;
      this.z = z;
      this.lse = lse;
      this.row = row;
      this.kvHead = kvHead;
      this.length = call.layout.length(row);
      this.start = call.layout.tokenStart(row);
      int rows = call.panels * QUERIES * COLUMNS;
      delta = scratch.floats(STATE, call.group() * length);
      query = scratch.floats(QUERY, rows);
      dOut = scratch.floats(D_OUT, rows);
      key = scratch.floats(KEY, call.panels * BLOCK);
      keyT = scratch.floats(KEY_T, call.panels * BLOCK);
      valueT = scratch.floats(VALUE, call.panels * BLOCK);
      score = scratch.floats(SCORE, QUERIES * KEYS);
      dScore = scratch.floats(D_SCORE, QUERIES * KEYS);
      dQuery = scratch.floats(D_QUERY, rows);
      dKeyT = scratch.floats(D_KEY_T, call.panels * BLOCK);
      dValueT = scratch.floats(D_VALUE_T, call.panels * BLOCK);
      lanes = scratch.floats(LANES, VIRTUAL);
    }

    private int head(int g) {
      return kvHead * call.group() + g;
    }

    private Mode mode(int g) {
      return call.plan.mode(row, head(g));
    }

    void run() {
      for (int g = 0; g < call.group(); g++) {
        for (int i = 0; i < length; i++) {
          long at = call.at(start + i, head(g));
          dq.asSlice(at, 4L * call.headDim).fill((byte) 0);
          if (mode(g) == Mode.ATTEND) {
            delta[g * length + i] = Lanes.dot(dz, at, z, at, call.headDim, lanes);
          }
        }
      }
      for (int block = 0; block < length; block += KEYS) {
        int keys = Math.min(KEYS, length - block);
        long at = call.kvAt(start + (long) block, kvHead);
        long rowBytes = call.kvAt(1, 0);
        call.copyRows(key, 0, BLOCK, call.k.segment(), at, rowBytes, keys);
        call.transposeRows(keyT, call.k.segment(), at, rowBytes, keys);
        call.transposeRows(valueT, call.v.segment(), at, rowBytes, keys);
        Arrays.fill(dKeyT, 0, call.panels * BLOCK, 0f);
        Arrays.fill(dValueT, 0, call.panels * BLOCK, 0f);
        for (int g = 0; g < call.group(); g++) {
          if (mode(g) == Mode.ATTEND || mode(g) == Mode.UNIFORM) {
            Visible visible = Visible.of(call.plan, call.spec, row, head(g));
            int end = (int) Math.min(length, visible.lastQuery(block, block + keys));
            for (int from = block; from < end; from += QUERIES) {
              chunk(g, visible, block, from, Math.min(QUERIES, end - from));
            }
          }
        }
        storeTransposed(dk, at, rowBytes, dKeyT, keys);
        storeTransposed(dv, at, rowBytes, dValueT, keys);
      }
    }

    private void storeTransposed(MemorySegment to, long at, long rowBytes, float[] from, int keys) {
      for (int j = 0; j < keys; j++) {
        for (int p = 0; p < call.panels; p++) {
          long row = at + j * rowBytes + 4L * p * COLUMNS;
          int fromAt = p * BLOCK + j;
          for (int d = 0; d < call.panelWidth(p); d++) {
            to.set(Lanes.F32, row + d * 4L, from[fromAt + d * COLUMNS]);
          }
        }
      }
    }

    /// Queries `[from, from + count)` of a head against a block of keys.
    private void chunk(int g, Visible visible, int block, int from, int count) {
      int head = head(g);
      long at = call.at(start + (long) from, head);
      long rowBytes = call.at(1, 0);
      int stride = QUERIES * COLUMNS;
      boolean uniform = mode(g) == Mode.UNIFORM;
      call.copyRows(dOut, 0, stride, dz, at, rowBytes, count);
      if (!uniform) {
        call.copyRows(query, 0, stride, call.q.segment(), at, rowBytes, count);
        scale(query, 0, call.panels * stride, call.spec.scale());
        Arrays.fill(dQuery, 0, call.panels * stride, 0f);
      }
      for (int i = 0; i < count; i += 6) {
        int rows = Math.min(6, count - i);
        int end = Math.min(KEYS, from + i + rows - block); // past the last query's own key
        Arrays.fill(score, i * KEYS, (i + rows) * KEYS, 0f);
        Arrays.fill(dScore, i * KEYS, (i + rows) * KEYS, 0f);
        for (int p = 0; p < call.panels && !uniform; p++) {
          int a = p * stride + i * COLUMNS;
          int steps = call.panelWidth(p);
          PanelTiles.multiply(query, a, keyT, p * BLOCK, score, i * KEYS, rows, end, steps);
          PanelTiles.multiply(dOut, a, valueT, p * BLOCK, dScore, i * KEYS, rows, end, steps);
        }
        for (int r = i; r < i + rows; r++) {
          weigh(g, visible, block, from, r, uniform);
        }
        for (int p = 0; p < call.panels && !uniform; p++) {
          PanelTiles.multiply(
              dScore,
              i * KEYS,
              key,
              p * BLOCK,
              dQuery,
              p * stride + i * COLUMNS,
              rows,
              call.panelWidth(p),
              end);
        }
      }
      for (int j = 0; j < KEYS; j += Tiles.TILE) {
        int first = Math.max(0, block + j - from); // earlier queries see none of these keys
        for (int p = 0; p < call.panels && first < count; p++) {
          int a = p * stride + first * COLUMNS;
          int b = first * KEYS + j;
          int c = p * BLOCK + j;
          int width = call.panelWidth(p);
          int steps = count - first;
          PanelTiles.multiplyTransposed(dOut, a, score, b, dValueT, c, width, steps);
          if (!uniform) {
            PanelTiles.multiplyTransposed(query, a, dScore, b, dKeyT, c, width, steps);
          }
        }
      }
      if (!uniform) {
        addQueryGradients(at, rowBytes, count);
      }
    }

    /// Turns the scores of a query into weights and dp into ds.
    private void weigh(int g, Visible visible, int block, int from, int i, boolean uniform) {
      int position = from + i;
      int low = visible.first(position, block, block + KEYS) - block;
      int high = visible.end(position, block, block + KEYS) - block;
      int at = i * KEYS;
      if (low >= high) {
        Arrays.fill(score, at, at + KEYS, 0f);
        Arrays.fill(dScore, at, at + KEYS, 0f);
        return;
      }
      Arrays.fill(score, at, at + low, Float.NEGATIVE_INFINITY);
      Arrays.fill(score, at + high, at + KEYS, Float.NEGATIVE_INFINITY);
      hide(score, at, visible, position, block, low, high);
      if (uniform) {
        Arrays.fill(dScore, at, at + KEYS, 0f);
        weights(score, at, KEYS, 0f, 0f, lanes, 0); // 1 where visible, else 0
        scale(score, at, KEYS, 1f / visible.count(position));
      } else {
        float total = Lanes.get(lse, 4L * ((start + (long) position) * call.heads + head(g)));
        differences(score, dScore, at, total, delta[g * length + position]);
      }
    }

    private void addQueryGradients(long at, long rowBytes, int count) {
      for (int i = 0; i < count; i++) {
        for (int p = 0; p < call.panels; p++) {
          long to = at + i * rowBytes + 4L * p * COLUMNS;
          int fromAt = (p * QUERIES + i) * COLUMNS;
          int width = call.panelWidth(p);
          int d = 0;
          for (; d + WIDTH <= width; d += WIDTH) {
            Lanes.load(dq, to + d * 4L)
                .add(FloatVector.fromArray(FLOAT, dQuery, fromAt + d).mul(call.spec.scale()))
                .intoMemorySegment(dq, to + d * 4L, Lanes.LE);
          }
          for (; d < width; d++) {
            float sum = Lanes.get(dq, to + d * 4L) + dQuery[fromAt + d] * call.spec.scale();
            Lanes.set(dq, to + d * 4L, sum);
          }
        }
      }
    }
  }

  /// `p = exp(p - lse)`, `ds = p (dp - delta)` for a row of 64; `ds` holds dp before.
  private static void differences(float[] p, float[] ds, int at, float lse, float delta) {
    for (int j = 0; j < KEYS; j += WIDTH) {
      FloatVector weight = Lanes.exp(FloatVector.fromArray(FLOAT, p, at + j).sub(lse));
      weight.intoArray(p, at + j);
      FloatVector.fromArray(FLOAT, ds, at + j).sub(delta).mul(weight).intoArray(ds, at + j);
    }
  }
}
