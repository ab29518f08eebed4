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

/// Attention with an online softmax over blocks of 64 keys (Dao et al. 2022), for a (row, chunk of
/// queries, some kv heads) at a time.
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

  /// Floats of q per token that one task takes: neighbouring heads are copied in one piece.
  private static final int HEADS = 256;

  /// Multiply-adds below which a second thread is not worth waking.
  private static final long SMALL = 1 << 17;

  private static final int QUERY = 0;
  private static final int KEY = 1;
  private static final int VALUE = 2;
  private static final int KEY_T = 3;
  private static final int PANEL = 4;
  private static final int SCORE = 5;
  private static final int OUT = 6;
  private static final int MAX = 7;
  private static final int LANES = 8;
  private static final int LSE = 9;
  private static final int Z = 10;
  private static final int D_OUT = 11;
  private static final int D_OUT_PANEL = 12;
  private static final int QUERY_PANEL = 13;
  private static final int D_SCORE = 14;
  private static final int D_QUERY = 15;
  private static final int D_KEY_T = 16;
  private static final int D_VALUE_T = 17;
  private static final int VALUE_T = 18;
  private static final int DELTA = 19;
  private static final int TOPS = 20;

  private VectorAttention() {}

  /// What all tasks of a call share.
  ///
  /// @param panels panels of 64 that D fills
  private record Call(
      MemorySegment q,
      MemorySegment k,
      MemorySegment v,
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
          q.segment(),
          k.segment(),
          v.segment(),
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

    /// Kv heads per task, so that there are `wanted` tasks or as many as there can be.
    int headsPerTask(int items, int wanted) {
      int most = Math.clamp(HEADS / Math.max(1, group() * headDim), 1, kvHeads);
      while (most > 1 && items * ((kvHeads + most - 1) / most) < wanted) {
        most--;
      }
      return most;
    }

    /// Rows of a head as panels: `to[panel][row][d]`.
    void panels(float[] to, int stride, float[] from, int at, int row, int rows) {
      for (int p = 0; p < panels; p++) {
        int columns = panelWidth(p);
        for (int r = 0; r < rows; r++) {
          Blocks.copyWide(to, p * stride + r * COLUMNS, from, at + r * row + p * COLUMNS, columns);
        }
      }
    }

    /// Rows of a head transposed, as panels: `to[panel][d][row]`.
    void transposed(float[] to, float[] from, int at, int row, int rows) {
      for (int p = 0; p < panels; p++) {
        Panels.transpose(to, p * BLOCK, from, at + p * COLUMNS, row, rows, panelWidth(p));
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
    Chunks chunks = Chunks.of(layout, QUERIES);
    long work = 0;
    for (int r = 0; r < layout.rows(); r++) {
      work += (long) layout.length(r) * layout.keys(r) * call.heads * call.headDim;
    }
    int wanted = pool.threads() == 1 ? 1 : (int) Math.min(3L * pool.threads(), work / SMALL);
    int kvPerTask = call.headsPerTask(chunks.count(), wanted);
    int cuts = (call.kvHeads + kvPerTask - 1) / kvPerTask;
    int tasks = chunks.count() * cuts;
    pool.ranges(
        tasks,
        1,
        Math.max(1, tasks / Math.max(1, wanted)),
        (from, to, scratch) -> {
          for (int task = (int) from; task < to; task++) {
            int kvHead = task % cuts * kvPerTask;
            int kvCount = Math.min(kvPerTask, call.kvHeads - kvHead);
            new Forward(call, z, lse, readout, chunks, task / cuts, kvHead, kvCount, scratch).run();
          }
        });
  }

  /// One forward task: a chunk of queries for the query heads of some kv heads.
  private static final class Forward {
    private final Call call;
    private final MemorySegment z;
    private final MemorySegment lse;
    private final @Nullable AttentionReadout readout;
    private final int row;
    private final int kvHead; // the first
    private final int kvCount;
    private final int heads; // query heads
    private final int width; // of their part of q
    private final int kvWidth; // of their part of k
    private final int count;
    private final int position; // of the first query
    private final int token; // of the first query
    private final int outRow; // D in whole vectors
    private final float[] query; // [count][heads][D], times scale
    private final float[] key; // [64 keys][kvCount][D]
    private final float[] value; // [64 keys][kvCount][D]
    private final float[] keyT; // [panel][64 d][64 keys] of one kv head
    private final float[] panel; // [panel][64 keys][64 d], values of one kv head
    private final float[] score; // [QUERIES][64 keys]; scores, then weights
    private final float[] out; // [heads][QUERIES][outRow]
    private final float[] max; // [heads][QUERIES]
    private final float[] lanes; // [heads][QUERIES][16], sums of exp(score - max)
    private final float[] tops; // [16]
    private final float[] lses; // [count][heads]
    private final float[] zs; // [count][heads][D]
    private final int @Nullable [] asked; // [count], index of the read-out query or negative
    private final int[] low = new int[QUERIES]; // visible part of the block
    private final int[] high = new int[QUERIES];

    Forward(
        Call call,
        Tensor z,
        Tensor lse,
        @Nullable AttentionReadout readout,
        Chunks chunks,
        int chunk,
        int kvHead,
        int kvCount,
        Scratch scratch) {
      this.call = call;
      this.z = z.segment();
      this.lse = lse.segment();
      this.readout = readout;
      this.row = chunks.rows()[chunk];
      this.kvHead = kvHead;
      this.kvCount = kvCount;
      this.heads = kvCount * call.group();
      this.width = heads * call.headDim;
      this.kvWidth = kvCount * call.headDim;
      this.count = chunks.length(chunk);
      this.position = call.layout.past(row) + chunks.starts()[chunk];
      this.token = chunks.token(chunk);
      this.outRow = (call.headDim + WIDTH - 1) / WIDTH * WIDTH;
      query = scratch.floats(QUERY, count * width + WIDTH);
      key = scratch.floats(KEY, KEYS * kvWidth + WIDTH);
      value = scratch.floats(VALUE, KEYS * kvWidth + WIDTH);
      keyT = scratch.floats(KEY_T, call.panels * BLOCK);
      panel = scratch.floats(PANEL, call.panels * BLOCK);
      score = scratch.floats(SCORE, QUERIES * KEYS);
      out = scratch.floats(OUT, heads * QUERIES * outRow);
      max = scratch.floats(MAX, heads * QUERIES);
      lanes = scratch.floats(LANES, heads * QUERIES * VIRTUAL);
      tops = scratch.floats(TOPS, VIRTUAL);
      lses = scratch.floats(LSE, count * heads);
      zs = scratch.floats(Z, count * width + WIDTH);
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
      for (int h = 0; h < heads; h++) {
        attends |= attends(h);
      }
      if (attends) {
        begin();
        for (int block = firstKey() / KEYS * KEYS; block < position + count; block += KEYS) {
          block(block);
        }
      }
      finish();
    }

    private int head(int h) {
      return kvHead * call.group() + h;
    }

    private Mode mode(int h) {
      return call.plan.mode(row, head(h));
    }

    private boolean attends(int h) {
      return mode(h) == Mode.ATTEND || mode(h) == Mode.UNIFORM;
    }

    private Visible visible(int h) {
      return Visible.of(call.plan, call.spec, row, head(h));
    }

    private void begin() {
      long at = call.at(token, head(0));
      Blocks.read(query, 0, width, call.q, at, call.at(1, 0), count, width);
      scale(query, 0, count * width, call.spec.scale());
      for (int h = 0; h < heads; h++) {
        if (attends(h)) {
          int size = QUERIES * outRow;
          Arrays.fill(out, h * size, h * size + count * outRow, 0f);
          int state = h * QUERIES;
          Arrays.fill(max, state, state + count, Float.NEGATIVE_INFINITY);
          Arrays.fill(lanes, state * VIRTUAL, (state + count) * VIRTUAL, 0f);
          beginReport(h);
        }
      }
    }

    /// First key that any query of any head sees.
    private int firstKey() {
      int first = Integer.MAX_VALUE;
      for (int h = 0; h < heads; h++) {
        if (attends(h)) {
          first = Math.min(first, visible(h).first(position, 0, position + 1));
        }
      }
      return first;
    }

    private void block(int block) {
      boolean loaded = false;
      for (int g = 0; g < kvCount; g++) {
        boolean packed = false;
        for (int h = g * call.group(); h < (g + 1) * call.group(); h++) {
          if (!attends(h) || !see(visible(h), block)) {
            continue;
          }
          // The keys up to the last query's own: those after it may not exist yet.
          int keys = Math.min(KEYS, position + count - block);
          if (!loaded) {
            long at = call.kvAt(call.layout.keyStart(row) + (long) block, kvHead);
            Blocks.read(key, 0, kvWidth, call.k, at, call.kvAt(1, 0), keys, kvWidth);
            Blocks.read(value, 0, kvWidth, call.v, at, call.kvAt(1, 0), keys, kvWidth);
            loaded = true;
          }
          if (!packed) {
            call.transposed(keyT, key, g * call.headDim, kvWidth, keys);
            call.panels(panel, BLOCK, value, g * call.headDim, kvWidth, keys);
            packed = true;
          }
          attend(h, visible(h), block);
        }
      }
    }

    /// Finds what each query sees of a block; false when nothing.
    private boolean see(Visible visible, int block) {
      boolean any = false;
      for (int i = 0; i < count; i++) {
        low[i] = visible.first(position + i, block, block + KEYS) - block;
        high[i] = visible.end(position + i, block, block + KEYS) - block;
        any |= low[i] < high[i];
      }
      return any;
    }

    private void attend(int h, Visible visible, int block) {
      boolean uniform = mode(h) == Mode.UNIFORM;
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
          PanelTiles.multiply(
              query,
              i * width + h * call.headDim + p * COLUMNS,
              width,
              keyT,
              p * BLOCK,
              score,
              i * KEYS,
              KEYS,
              rows,
              end,
              call.panelWidth(p));
        }
        for (int r = i; r < i + rows; r++) {
          if (low[r] < high[r]) {
            softmax(h, visible, r, block);
          }
        }
        gather(h, visible, block, i, rows);
      }
    }

    /// Takes the visible scores of query i into its running softmax and turns them into weights.
    private void softmax(int h, Visible visible, int i, int block) {
      int at = i * KEYS;
      int from = low[i] & -VIRTUAL;
      int to = high[i] + VIRTUAL - 1 & -VIRTUAL;
      hide(
          score,
          at,
          from,
          to,
          Float.NEGATIVE_INFINITY,
          visible,
          position + i,
          block,
          low[i],
          high[i]);
      int state = h * QUERIES + i;
      float before = max[state];
      float top = Math.max(before, largest(score, at + from, to - from, tops));
      float keep = before == top ? 1f : Exp.exp(before - top);
      max[state] = top;
      if (asked(i) >= 0 && top > before) {
        reportTop(h, i, block, top);
      }
      weights(score, at + from, to - from, top, keep, lanes, state * VIRTUAL);
      if (keep != 1f) {
        scale(out, state * outRow, outRow, keep);
      }
      if (asked(i) >= 0) {
        reportSpans(h, i, block, keep);
      }
    }

    /// Adds weights times values to z of some queries, visible keys ascending: together where all
    /// of them see the keys, else one by one, so that no query touches a value that it does not see.
    private void gather(int h, Visible visible, int block, int i, int rows) {
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
          gatherAlone(h, visible, block, r);
        }
        return;
      }
      for (int r = i; r < i + rows; r++) {
        gather(h, r, 1, low[r], common);
      }
      gather(h, i, rows, common, end);
      for (int r = i; r < i + rows; r++) {
        gather(h, r, 1, end, high[r]);
      }
    }

    private void gatherAlone(int h, Visible visible, int block, int i) {
      if (visible.hasHole(position + i, block + low[i], block + high[i])) {
        gather(h, i, 1, low[i], visible.sinkTo(position + i) - block);
        gather(h, i, 1, visible.nearFrom(position + i) - block, high[i]);
      } else {
        gather(h, i, 1, low[i], high[i]);
      }
    }

    private void gather(int h, int i, int rows, int keyFrom, int keyTo) {
      if (keyFrom >= keyTo) {
        return;
      }
      for (int p = 0; p < call.panels; p++) {
        PanelTiles.multiply(
            score,
            i * KEYS + keyFrom,
            KEYS,
            panel,
            p * BLOCK + keyFrom * COLUMNS,
            out,
            (h * QUERIES + i) * outRow + p * COLUMNS,
            outRow,
            rows,
            call.panelWidth(p),
            keyTo - keyFrom);
      }
    }

    /// Writes z and lse of all heads.
    private void finish() {
      int headDim = call.headDim;
      for (int i = 0; i < count; i++) {
        for (int h = 0; h < heads; h++) {
          int at = i * width + h * headDim;
          float logSumExp = Float.NEGATIVE_INFINITY;
          float share = 0;
          if (attends(h)) {
            int state = h * QUERIES + i;
            float sum = Lanes.tree(lanes, state * VIRTUAL);
            share = 1 / sum;
            logSumExp = (float) (max[state] + StrictMath.log(sum));
            // Whole vectors: what this writes past the head's end is overwritten by the next head.
            scaleInto(zs, at, out, state * outRow, outRow, share);
          } else if (mode(h) == Mode.MEAN) {
            System.arraycopy(call.plan.mean(row, head(h)), 0, zs, at, headDim);
          } else {
            Arrays.fill(zs, at, at + headDim, 0f);
          }
          lses[i * heads + h] = logSumExp;
          report(h, i, share, logSumExp);
        }
      }
      Blocks.write(z, call.at(token, head(0)), call.at(1, 0), zs, 0, width, count, width);
      long lseAt = 4L * ((long) token * call.heads + head(0));
      Blocks.write(lse, lseAt, 4L * call.heads, lses, 0, heads, count, heads);
    }

    // Read-outs: accumulated where they are delivered.

    private int asked(int i) {
      return asked == null ? -1 : asked[i];
    }

    private long reportAt(int h, int i) {
      return (long) asked(i) * call.heads + head(h);
    }

    private void beginReport(int h) {
      for (int i = 0; i < count && readout != null; i++) {
        if (asked(i) >= 0) {
          int first = visible(h).first(position + i, 0, position + i + 1);
          readout.topPosition().setInt(reportAt(h, i), first);
          int spans = readout.spans()[asked(i)].length;
          for (int s = 0; s < spans; s++) {
            readout.spanMass().set(reportAt(h, i) * spans + s, 0f);
          }
        }
      }
    }

    private void reportTop(int h, int i, int block, float top) {
      if (readout != null) {
        int j = low[i];
        while (score[i * KEYS + j] != top) {
          j++;
        }
        readout.topPosition().setInt(reportAt(h, i), block + j);
      }
    }

    private void reportSpans(int h, int i, int block, float keep) {
      if (readout == null) {
        return;
      }
      int[][] spans = readout.spans()[asked(i)];
      for (int s = 0; s < spans.length; s++) {
        long at = reportAt(h, i) * spans.length + s;
        float mass = readout.spanMass().get(at) * keep;
        int end = Math.min(high[i], spans[s][1] - block);
        for (int j = Math.max(low[i], spans[s][0] - block); j < end; j++) {
          mass += score[i * KEYS + j];
        }
        readout.spanMass().set(at, mass);
      }
    }

    /// The largest weight is exp(max - max) / sum: `share`; 0 when nothing attends.
    private void report(int h, int i, float share, float logSumExp) {
      if (readout == null || asked(i) < 0) {
        return;
      }
      long at = reportAt(h, i);
      readout.topWeight().set(at, share);
      readout.logSumExp().set(at, logSumExp);
      if (!attends(h)) {
        readout.topPosition().setInt(at, -1);
      }
      int spans = readout.spans()[asked(i)].length;
      for (int s = 0; s < spans; s++) {
        float mass = attends(h) ? readout.spanMass().get(at * spans + s) * share : 0f;
        readout.spanMass().set(at * spans + s, mass);
      }
    }
  }

  /// Sets what query i does not see within `[from, to)` of a block to `value`.
  ///
  /// @param low first visible key, relative to the block
  /// @param high end of the visible keys, relative to the block
  private static void hide(
      float[] x,
      int at,
      int from,
      int to,
      float value,
      Visible visible,
      int i,
      int block,
      int low,
      int high) {
    fill(x, at + from, at + low, value);
    fill(
        x,
        at + Math.max(low, visible.sinkTo(i) - block),
        at + Math.min(high, visible.nearFrom(i) - block),
        value);
    fill(x, at + high, at + to, value);
  }

  private static void fill(float[] x, int from, int to, float value) {
    for (int i = from; i < to; i++) {
      x[i] = value;
    }
  }

  /// Largest of n floats, n a multiple of 16. Vectors by comparison, then 16 lanes one by one: a
  /// reduction across the lanes of a vector took three times as long (42 against 13 ns for 64 floats).
  ///
  /// @param lanes room for 16 floats
  private static float largest(float[] x, int at, int n, float[] lanes) {
    for (int part = 0; part < VIRTUAL; part += WIDTH) {
      FloatVector top = FloatVector.fromArray(FLOAT, x, at + part);
      for (int i = part + VIRTUAL; i < n; i += VIRTUAL) {
        FloatVector next = FloatVector.fromArray(FLOAT, x, at + i);
        top = top.blend(next, next.compare(VectorOperators.GT, top)); // NaN shows in the weights
      }
      top.intoArray(lanes, part);
    }
    float m0 = Math.max(Math.max(lanes[0], lanes[4]), Math.max(lanes[8], lanes[12]));
    float m1 = Math.max(Math.max(lanes[1], lanes[5]), Math.max(lanes[9], lanes[13]));
    float m2 = Math.max(Math.max(lanes[2], lanes[6]), Math.max(lanes[10], lanes[14]));
    float m3 = Math.max(Math.max(lanes[3], lanes[7]), Math.max(lanes[11], lanes[15]));
    return Math.max(Math.max(m0, m1), Math.max(m2, m3));
  }

  /// `x = exp(x - max)` for n floats, n a multiple of 16; `sum = sum keep + x` per virtual lane.
  private static void weights(
      float[] x, int at, int n, float max, float keep, float[] sum, int sumAt) {
    Exp.exp(x, at, x, at, n, 1f, max);
    for (int part = 0; part < VIRTUAL; part += WIDTH) {
      FloatVector total = FloatVector.fromArray(FLOAT, sum, sumAt + part).mul(keep);
      for (int i = part; i < n; i += VIRTUAL) {
        total = total.add(FloatVector.fromArray(FLOAT, x, at + i));
      }
      total.intoArray(sum, sumAt + part);
    }
  }

  /// `x *= factor` for n floats and the rest of the last vector.
  private static void scale(float[] x, int at, int n, float factor) {
    scaleInto(x, at, x, at, n, factor);
  }

  private static void scaleInto(float[] to, int toAt, float[] x, int at, int n, float factor) {
    for (int i = 0; i < n; i += WIDTH) {
      FloatVector.fromArray(FLOAT, x, at + i).mul(factor).intoArray(to, toAt + i);
    }
  }

  // --- backward -------------------------------------------------------------------------------

  /// Gradients of [#attention], a (row, some kv heads) per task: the blocks of keys ascending, for
  /// each the query heads, for each the queries ascending.
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
    int wanted = pool.threads() == 1 ? 1 : (int) Math.min(3L * pool.threads(), work / SMALL);
    int kvPerTask = call.headsPerTask(layout.rows(), wanted);
    int cuts = (call.kvHeads + kvPerTask - 1) / kvPerTask;
    int tasks = layout.rows() * cuts;
    Gradients gradients =
        new Gradients(
            dq.segment(), dk.segment(), dv.segment(), dz.segment(), z.segment(), lse.segment());
    pool.ranges(
        tasks,
        1,
        Math.max(1, tasks / Math.max(1, wanted)),
        (from, to, scratch) -> {
          for (int task = (int) from; task < to; task++) {
            int kvHead = task % cuts * kvPerTask;
            int kvCount = Math.min(kvPerTask, call.kvHeads - kvHead);
            new Backward(call, gradients, task / cuts, kvHead, kvCount, scratch).run();
          }
        });
  }

  private record Gradients(
      MemorySegment dq,
      MemorySegment dk,
      MemorySegment dv,
      MemorySegment dz,
      MemorySegment z,
      MemorySegment lse) {}

  /// One backward task: a row and some kv heads.
  private static final class Backward {
    private final Call call;
    private final Gradients gradients;
    private final int row;
    private final int kvHead; // the first
    private final int kvCount;
    private final int heads; // query heads
    private final int width; // of their part of q
    private final int kvWidth; // of their part of k
    private final int length; // T
    private final int start; // first token
    private final float[] query; // [T][heads][D], times scale
    private final float[] dOut; // [T][heads][D], dz
    private final float[] dQuery; // [T][heads][D]
    private final float[] lses; // [T][heads]
    private final float[] delta; // [T][heads]
    private final float[] key; // [64 keys][kvCount][D]; dk at last
    private final float[] value; // [64 keys][kvCount][D]; dv at last
    private final float[] panel; // [panel][64 keys][64 d], keys of one kv head
    private final float[] keyT; // [panel][64 d][64 keys]
    private final float[] valueT; // [panel][64 d][64 keys]
    private final float[] queries; // [panel][QUERIES][64]
    private final float[] dOuts; // [panel][QUERIES][64]
    private final float[] score; // [QUERIES][64 keys]; scores, then weights
    private final float[] dScore; // [QUERIES][64 keys]
    private final float[] dQueries; // [QUERIES][D in whole vectors]
    private final float[] dKeyT; // [panel][64 d][64 keys]
    private final float[] dValueT; // [panel][64 d][64 keys]
    private final float[] lanes; // [16]

    Backward(Call call, Gradients gradients, int row, int kvHead, int kvCount, Scratch scratch) {
      this.call = call;
      this.gradients = gradients;
      this.row = row;
      this.kvHead = kvHead;
      this.kvCount = kvCount;
      this.heads = kvCount * call.group();
      this.width = heads * call.headDim;
      this.kvWidth = kvCount * call.headDim;
      this.length = call.layout.length(row);
      this.start = call.layout.tokenStart(row);
      int rows = call.panels * QUERIES * COLUMNS;
      query = scratch.floats(QUERY, length * width + WIDTH);
      dOut = scratch.floats(D_OUT, length * width + WIDTH);
      dQuery = scratch.floats(D_QUERY, length * width + WIDTH);
      lses = scratch.floats(LSE, length * heads);
      delta = scratch.floats(DELTA, length * heads);
      key = scratch.floats(KEY, KEYS * kvWidth + WIDTH);
      value = scratch.floats(VALUE, KEYS * kvWidth + WIDTH);
      panel = scratch.floats(PANEL, call.panels * BLOCK);
      keyT = scratch.floats(KEY_T, call.panels * BLOCK);
      valueT = scratch.floats(VALUE_T, call.panels * BLOCK);
      queries = scratch.floats(QUERY_PANEL, rows);
      dOuts = scratch.floats(D_OUT_PANEL, rows);
      score = scratch.floats(SCORE, QUERIES * KEYS);
      dScore = scratch.floats(D_SCORE, QUERIES * KEYS);
      dQueries = scratch.floats(OUT, rows);
      dKeyT = scratch.floats(D_KEY_T, call.panels * BLOCK);
      dValueT = scratch.floats(D_VALUE_T, call.panels * BLOCK);
      lanes = scratch.floats(LANES, VIRTUAL);
    }

    private int head(int h) {
      return kvHead * call.group() + h;
    }

    private Mode mode(int h) {
      return call.plan.mode(row, head(h));
    }

    private boolean attends(int h) {
      return mode(h) == Mode.ATTEND || mode(h) == Mode.UNIFORM;
    }

    void run() {
      begin();
      for (int block = 0; block < length; block += KEYS) {
        int keys = Math.min(KEYS, length - block);
        long at = call.kvAt(start + (long) block, kvHead);
        Blocks.read(key, 0, kvWidth, call.k, at, call.kvAt(1, 0), keys, kvWidth);
        Blocks.read(value, 0, kvWidth, call.v, at, call.kvAt(1, 0), keys, kvWidth);
        for (int g = 0; g < kvCount; g++) {
          block(g, block, keys);
        }
        Blocks.write(gradients.dk, at, call.kvAt(1, 0), key, 0, kvWidth, keys, kvWidth);
        Blocks.write(gradients.dv, at, call.kvAt(1, 0), value, 0, kvWidth, keys, kvWidth);
      }
      long at = call.at(start, head(0));
      Blocks.write(gradients.dq, at, call.at(1, 0), dQuery, 0, width, length, width);
    }

    private void begin() {
      long at = call.at(start, head(0));
      long rowBytes = call.at(1, 0);
      // z passes through the array of q
      Blocks.read(query, 0, width, gradients.z, at, rowBytes, length, width);
      Blocks.read(dOut, 0, width, gradients.dz, at, rowBytes, length, width);
      for (int i = 0; i < length; i++) {
        for (int h = 0; h < heads; h++) {
          int from = i * width + h * call.headDim;
          delta[i * heads + h] = Lanes.dot(dOut, from, query, from, call.headDim, lanes);
        }
      }
      Blocks.read(query, 0, width, call.q, at, rowBytes, length, width);
      scale(query, 0, length * width, call.spec.scale());
      long lseAt = 4L * ((long) start * call.heads + head(0));
      Blocks.read(lses, 0, heads, gradients.lse, lseAt, 4L * call.heads, length, heads);
      Arrays.fill(dQuery, 0, length * width, 0f);
    }

    /// The gradients of a block of keys and values of one kv head, which they replace.
    private void block(int g, int block, int keys) {
      int at = g * call.headDim;
      call.panels(panel, BLOCK, key, at, kvWidth, keys);
      call.transposed(keyT, key, at, kvWidth, keys);
      call.transposed(valueT, value, at, kvWidth, keys);
      for (int p = 0; p < call.panels; p++) {
        int size = call.panelWidth(p) * KEYS;
        Arrays.fill(dKeyT, p * BLOCK, p * BLOCK + size, 0f);
        Arrays.fill(dValueT, p * BLOCK, p * BLOCK + size, 0f);
      }
      for (int h = g * call.group(); h < (g + 1) * call.group(); h++) {
        if (attends(h)) {
          Visible visible = Visible.of(call.plan, call.spec, row, head(h));
          int end = (int) Math.min(length, visible.lastQuery(block, block + keys));
          for (int from = block; from < end; from += QUERIES) {
            chunk(h, visible, block, from, Math.min(QUERIES, end - from));
          }
        }
      }
      for (int p = 0; p < call.panels; p++) {
        int to = at + p * COLUMNS;
        int columns = call.panelWidth(p);
        Panels.transpose(key, to, kvWidth, dKeyT, p * BLOCK, KEYS, columns, keys);
        Panels.transpose(value, to, kvWidth, dValueT, p * BLOCK, KEYS, columns, keys);
      }
    }

    /// Queries `[from, from + count)` of a head against a block of keys.
    private void chunk(int h, Visible visible, int block, int from, int count) {
      int stride = QUERIES * COLUMNS;
      int at = from * width + h * call.headDim;
      boolean uniform = mode(h) == Mode.UNIFORM;
      call.panels(dOuts, stride, dOut, at, width, count);
      call.panels(queries, stride, query, at, width, count);
      int dRow = (call.headDim + WIDTH - 1) / WIDTH * WIDTH;
      Arrays.fill(dQueries, 0, count * dRow, 0f);
      for (int i = 0; i < count; i += 6) {
        int rows = Math.min(6, count - i);
        int end = Math.min(KEYS, from + i + rows - block); // past the last query's own key
        Arrays.fill(score, i * KEYS, (i + rows) * KEYS, 0f);
        Arrays.fill(dScore, i * KEYS, (i + rows) * KEYS, 0f);
        for (int p = 0; p < call.panels && !uniform; p++) {
          int a = p * stride + i * COLUMNS;
          int b = p * BLOCK;
          int c = i * KEYS;
          int steps = call.panelWidth(p);
          PanelTiles.multiply(queries, a, COLUMNS, keyT, b, score, c, KEYS, rows, end, steps);
          PanelTiles.multiply(dOuts, a, COLUMNS, valueT, b, dScore, c, KEYS, rows, end, steps);
        }
        for (int r = i; r < i + rows; r++) {
          weigh(h, visible, block, from, r, uniform);
        }
        for (int p = 0; p < call.panels && !uniform; p++) {
          int c = i * dRow + p * COLUMNS;
          int columns = call.panelWidth(p);
          PanelTiles.multiply(
              dScore, i * KEYS, KEYS, panel, p * BLOCK, dQueries, c, dRow, rows, columns, end);
        }
      }
      for (int j = 0; j < KEYS; j += 2 * Lanes.WIDTH) {
        int first = Math.max(0, block + j - from); // earlier queries see none of these keys
        for (int p = 0; p < call.panels && first < count; p++) {
          int a = p * stride + first * COLUMNS;
          int b = first * KEYS + j;
          int c = p * BLOCK + j;
          int rows = call.panelWidth(p);
          int steps = count - first;
          PanelTiles.multiplyTransposed(dOuts, a, score, b, dValueT, c, KEYS, rows, steps);
          if (!uniform) {
            PanelTiles.multiplyTransposed(queries, a, dScore, b, dKeyT, c, KEYS, rows, steps);
          }
        }
      }
      if (!uniform) {
        addQueryGradients(at, dRow, count);
      }
    }

    /// Turns the scores of a query into weights and dp into ds.
    private void weigh(int h, Visible visible, int block, int from, int i, boolean uniform) {
      int position = from + i;
      int low = visible.first(position, block, block + KEYS) - block;
      int high = visible.end(position, block, block + KEYS) - block;
      int at = i * KEYS;
      if (low >= high) {
        Arrays.fill(score, at, at + KEYS, 0f);
        Arrays.fill(dScore, at, at + KEYS, 0f);
        return;
      }
      hide(score, at, 0, KEYS, Float.NEGATIVE_INFINITY, visible, position, block, low, high);
      if (uniform) {
        weights(score, at, KEYS, 0f, 0f, lanes, 0); // 1 where visible, else 0
        scale(score, at, KEYS, 1f / visible.count(position));
      } else {
        int state = position * heads + h;
        differences(score, dScore, at, lses[state], delta[state]);
        hide(dScore, at, 0, KEYS, 0f, visible, position, block, low, high); // even where dp is NaN
      }
    }

    private void addQueryGradients(int at, int dRow, int count) {
      float scale = call.spec.scale();
      for (int i = 0; i < count; i++) {
        int to = at + i * width;
        int from = i * dRow;
        int d = 0;
        for (; d <= call.headDim - WIDTH; d += WIDTH) {
          FloatVector.fromArray(FLOAT, dQuery, to + d)
              .add(FloatVector.fromArray(FLOAT, dQueries, from + d).mul(scale))
              .intoArray(dQuery, to + d);
        }
        for (; d < call.headDim; d++) {
          dQuery[to + d] += dQueries[from + d] * scale;
        }
      }
    }
  }

  /// `p = exp(p - lse)`, `ds = p (dp - delta)` for a row of 64; `ds` holds dp before.
  private static void differences(float[] p, float[] ds, int at, float lse, float delta) {
    Exp.exp(p, at, p, at, KEYS, 1f, lse);
    for (int j = at; j < at + KEYS; j += WIDTH) {
      FloatVector.fromArray(FLOAT, ds, j)
          .sub(delta)
          .mul(FloatVector.fromArray(FLOAT, p, j))
          .intoArray(ds, j);
    }
  }
}
