package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.AttentionCall.KEYS;
import static io.github.retmask.kernels.cpu.AttentionCall.SPAN;
import static io.github.retmask.kernels.cpu.Panels.COLUMNS;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/// Attention of the few new tokens of rows with a cache, limited by memory: keys and values are read
/// where they lie, once for all query heads of a kv head.
///
/// The lanes are the (query head, token) pairs of a kv head. A task takes a span of keys and some kv
/// heads; what the tasks of a row have summed up is merged by ascending span.
final class DecodeAttention {
  /// Lanes up to which reading keys and values costs more than computing.
  private static final int MOST = 32;

  /// Bytes of keys from which rows stream by themselves (kv heads of a task times D).
  private static final int STREAM = 2048;

  private static final int QUERY = 0;
  private static final int QUERY_T = 1;
  private static final int SCORE = 2;
  private static final int KEEP = 3;
  private static final int TAKE = 4;
  private static final int LAST = 5;

  // Of the calling thread, shared by all tasks.
  private static final int OUT = 12;
  private static final int PARTIALS = 13;

  private final AttentionCall call;
  private final AttentionOutputs outputs;
  private final Row row;
  private final Sums sums;
  private final Partials partials;
  private final float[] out;
  private final int span;
  private final int kvFrom;
  private final int kvTo;
  private final int lanes;
  private final int vectors; // that hold the lanes
  private final float[] query; // [lanes][D]
  private final float[] queryT; // [kv head][vector][D][DecodeTiles.LANES], times scale
  private final float[] score; // [kv head][97 keys][64 lanes]; one key more to make them even
  private final float[] keep; // [64]
  private final float[] take; // [64]
  private final float[] lastVectors; // what DecodeTiles.values works in
  private final boolean[] attends; // [kv head][lane]
  private final Visible[] visible; // [kv head][lane]
  private final int[] from; // [kv head], first key of the block that is seen
  private final int[] end; // [kv head]
  private int touched; // keeps the compiler from leaving out the reads

  /// @param spans that some head sees, the first one's index
  /// @param group first of `[spans][kv heads]` groups of partial sums
  private record Row(int row, int firstSpan, int spans, int group, int[] asked) {}

  private record Task(Row row, int span, int kvFrom, int kvTo) {}

  /// @param out `[group][room][D]`, weighted sums of values
  /// @param room lanes of a group, at least
  /// @param seen `[group]`, whether its lanes see any of its keys
  private record Sums(Partials partials, float[] out, int room, boolean[] seen) {}

  /// Whether a row of `length` new tokens is better read than copied.
  static boolean takes(AttentionCall call, int length) {
    return length * call.group() <= MOST && OffHeap.holds(call.k()) && OffHeap.holds(call.v());
  }

  /// Attention of the rows in `take`.
  static void run(WorkerPool pool, AttentionCall call, AttentionOutputs outputs, boolean[] take) {
    List<Row> rows = new ArrayList<>();
    int groups = 0;
    long keys = 0;
    int room = 0;
    for (int r = 0; r < take.length; r++) {
      if (take[r]) {
        Row row = row(call, outputs, r, groups);
        rows.add(row);
        groups += row.spans * call.kvHeads();
        keys += call.layout().keys(r) - row.firstSpan * SPAN;
        room = Math.max(room, call.group() * call.layout().length(r));
      }
    }
    room = (room + DecodeTiles.VALUES - 1) / DecodeTiles.VALUES * DecodeTiles.VALUES;
    Scratch scratch = pool.callerScratch();
    boolean reads = outputs.reads() != null;
    Sums sums =
        new Sums(
            Partials.of(scratch, PARTIALS, groups, reads, outputs.masses()),
            scratch.floats(OUT, groups * room * call.headDim()),
            room,
            new boolean[groups]);
    // A task of some kv heads reads pieces of rows, which takes a third longer: only where threads
    // would idle for more than a quarter of the time.
    long busy = (long) pool.threads() * SPAN; // keys
    long wanted = 4 * keys >= 3 * busy ? 1 : Math.ceilDiv(busy, Math.max(1, keys));
    int cuts = (int) Math.min(Math.min(wanted, pool.threads()), call.kvHeads());
    List<Task> tasks = new ArrayList<>();
    for (Row row : rows) {
      for (int span = 0; span < row.spans; span++) {
        for (int cut = 0; cut < cuts; cut++) {
          int kvFrom = call.kvHeads() * cut / cuts;
          int kvTo = call.kvHeads() * (cut + 1) / cuts;
          if (see(call, sums, row, span, kvFrom, kvTo)) {
            tasks.add(new Task(row, span, kvFrom, kvTo));
          }
        }
      }
    }
    AttentionCall.run(
        pool,
        tasks.size(),
        call.work(),
        (task, own) -> new DecodeAttention(call, outputs, tasks.get(task), sums, own).run());
    for (Row row : rows) {
      finish(call, outputs, row, sums, scratch);
    }
  }

  /// Finds which kv heads see a span at all; false when none.
  private static boolean see(
      AttentionCall call, Sums sums, Row row, int span, int kvFrom, int kvTo) {
    int from = (row.firstSpan + span) * SPAN;
    int past = call.layout().past(row.row);
    boolean any = false;
    for (int h = kvFrom * call.group(); h < kvTo * call.group(); h++) {
      if (call.attends(row.row, h)
          && call.visible(row.row, h).lastQuery(from, from + SPAN) > past) {
        sums.seen[row.group + span * call.kvHeads() + h / call.group()] = true;
        any = true;
      }
    }
    return any;
  }

  private static Row row(AttentionCall call, AttentionOutputs outputs, int r, int group) {
    int past = call.layout().past(r);
    int firstKey = past;
    for (int h = 0; h < call.heads(); h++) {
      if (call.attends(r, h)) {
        firstKey = Math.min(firstKey, call.visible(r, h).first(past, 0, past + 1));
      }
    }
    int firstSpan = firstKey / SPAN;
    int spans = (call.layout().keys(r) - 1) / SPAN + 1 - firstSpan;
    int length = call.layout().length(r);
    int[] asked = AttentionReads.asked(outputs.reads(), call.layout().tokenStart(r), length, 1);
    return new Row(r, firstSpan, spans, group, asked);
  }

  private DecodeAttention(
      AttentionCall call, AttentionOutputs outputs, Task task, Sums sums, Scratch scratch) {
    this.call = call;
    this.outputs = outputs;
    this.sums = sums;
    partials = sums.partials;
    out = sums.out;
    row = task.row;
    span = task.span;
    kvFrom = task.kvFrom;
    kvTo = task.kvTo;
    lanes = call.group() * call.layout().length(row.row);
    vectors = (lanes + DecodeTiles.LANES - 1) / DecodeTiles.LANES;
    int kvCount = kvTo - kvFrom;
    query = scratch.floats(QUERY, lanes * call.headDim());
    queryT = scratch.floats(QUERY_T, kvCount * vectors * call.headDim() * DecodeTiles.LANES);
    score = scratch.floats(SCORE, kvCount * (KEYS + 1) * COLUMNS);
    keep = scratch.floats(KEEP, COLUMNS);
    take = scratch.floats(TAKE, COLUMNS);
    lastVectors = scratch.floats(LAST, DecodeTiles.VALUES * Lanes.WIDTH);
    attends = new boolean[kvCount * lanes];
    visible = new Visible[kvCount * lanes];
    for (int i = 0; i < visible.length; i++) {
      int head = head(kvFrom + i / lanes, i % lanes);
      attends[i] = call.attends(row.row, head);
      visible[i] = call.visible(row.row, head);
    }
    from = new int[kvCount];
    end = new int[kvCount];
  }

  private int length() {
    return call.layout().length(row.row);
  }

  private int head(int kvHead, int lane) {
    return kvHead * call.group() + lane / length();
  }

  /// Position of a lane's query.
  private int position(int lane) {
    return call.layout().past(row.row) + lane % length();
  }

  private boolean attends(int kvHead, int lane) {
    return attends[(kvHead - kvFrom) * lanes + lane];
  }

  private Visible visible(int kvHead, int lane) {
    return visible[(kvHead - kvFrom) * lanes + lane];
  }

  /// Group of partial sums of a kv head.
  private int group(int kvHead) {
    return row.group + span * call.kvHeads() + kvHead;
  }

  /// Where a lane's sums of values begin.
  private int outAt(int group, int lane) {
    return (group * sums.room + lane) * call.headDim();
  }

  private void run() {
    int first = (row.firstSpan + span) * SPAN;
    int last = Math.min(call.layout().keys(row.row), first + SPAN);
    for (int g = kvFrom; g < kvTo; g++) {
      if (sums.seen[group(g)]) {
        begin(g, group(g), first, last);
      }
    }
    for (int block = first; block < last; block += KEYS) {
      if (see(block, Math.min(KEYS, last - block))) {
        scores(block);
        for (int g = kvFrom; g < kvTo; g++) {
          softmax(g, group(g), block);
        }
        values(block);
      }
    }
  }

  private void begin(int kvHead, int group, int firstKey, int lastKey) {
    int headDim = call.headDim();
    int g = kvHead - kvFrom;
    for (int t = 0; t < length(); t++) {
      long at = call.at(call.layout().tokenStart(row.row) + t, kvHead * call.group());
      for (int h = 0; h < call.group(); h++) {
        int to = (h * length() + t) * headDim;
        Blocks.read(query, to, headDim, call.q(), at + 4L * h * headDim, 4L * headDim, 1, headDim);
      }
    }
    for (int lane = 0; lane < lanes; lane++) {
      int to =
          (g * vectors + lane / DecodeTiles.LANES) * headDim * DecodeTiles.LANES
              + lane % DecodeTiles.LANES;
      for (int d = 0; d < headDim; d++) {
        queryT[to + d * DecodeTiles.LANES] = query[lane * headDim + d] * call.spec().scale();
      }
    }
    partials.clear(group);
    Arrays.fill(out, outAt(group, 0), outAt(group, lanes), 0f);
    for (int lane = 0; lane < lanes && row.asked.length > 0; lane++) {
      int firstSeen = visible(kvHead, lane).first(position(lane), firstKey, lastKey);
      partials.topKey()[group * COLUMNS + lane] = firstSeen;
    }
  }

  /// Finds what each kv head's queries see of a block; false when nothing.
  private boolean see(int block, int keys) {
    boolean any = false;
    for (int kvHead = kvFrom; kvHead < kvTo; kvHead++) {
      int low = keys;
      int high = 0;
      for (int lane = 0; lane < lanes; lane++) {
        if (attends(kvHead, lane)) {
          Visible visible = visible(kvHead, lane);
          low = Math.min(low, visible.first(position(lane), block, block + keys) - block);
          high = Math.max(high, visible.end(position(lane), block, block + keys) - block);
        }
      }
      from[kvHead - kvFrom] = low;
      end[kvHead - kvFrom] = high;
      any |= low < high;
    }
    return any;
  }

  /// Scores of all kv heads, eight keys after the other: memory is read as it lies.
  private void scores(int block) {
    long rowBytes = call.kvRowBytes();
    int headDim = call.headDim();
    if (4 * (kvTo - kvFrom) * headDim < STREAM) {
      touch(call.k(), block);
    }
    for (int eight = 0; eight < KEYS; eight += DecodeTiles.KEYS) {
      for (int g = 0; g < kvTo - kvFrom; g++) {
        int low = Math.max(eight, from[g]);
        int high = Math.min(eight + DecodeTiles.KEYS, end[g]);
        if (low >= high) {
          continue;
        }
        long at = call.kvAt(row.row, block + low, kvFrom + g);
        for (int vector = 0; vector < vectors; vector++) {
          int q = (g * vectors + vector) * headDim * DecodeTiles.LANES;
          int to = (g * (KEYS + 1) + low) * COLUMNS + vector * DecodeTiles.LANES;
          if (high - low == DecodeTiles.KEYS) {
            DecodeTiles.scores8(call.k(), at, rowBytes, queryT, q, headDim, score, to);
          } else {
            for (int j = 0; j < high - low; j++) {
              DecodeTiles.scores1(
                  call.k(), at + j * rowBytes, queryT, q, headDim, score, to + j * COLUMNS);
            }
          }
        }
      }
    }
  }

  /// Takes the scores of a kv head into the running softmax and turns them into weights.
  private void softmax(int kvHead, int group, int block) {
    int g = kvHead - kvFrom;
    if (from[g] >= end[g]) {
      return;
    }
    int base = g * (KEYS + 1) * COLUMNS;
    int at = base + from[g] * COLUMNS;
    int keys = end[g] - from[g];
    Arrays.fill(
        score, base + end[g] * COLUMNS, base + (end[g] + 1) * COLUMNS, Float.NEGATIVE_INFINITY);
    for (int lane = 0; lane < lanes; lane++) {
      hide(kvHead, lane, block, base);
    }
    int state = group * COLUMNS;
    float[] top = partials.top();
    float[] before = take;
    System.arraycopy(top, state, before, 0, lanes);
    for (int lane = 0; lane < lanes; lane += DecodeTiles.LANES) {
      DecodeTiles.top(score, at + lane, keys + 1 & -2, top, state + lane);
    }
    for (int lane = 0; lane < lanes && row.asked.length > 0; lane++) {
      if (top[state + lane] > before[lane] && asked(kvHead, lane) >= 0) {
        AttentionReads.top(partials, state + lane, score, at + lane, block + from[g]);
      }
    }
    for (int lane = 0; lane < lanes; lane++) {
      before[lane] -= top[state + lane];
    }
    Exp.exp(keep, 0, before, 0, lanes, 1f, 0f);
    if (partials.scale(group, lanes, keep)) {
      for (int lane = 0; lane < lanes; lane++) {
        scale(out, outAt(group, lane), call.headDim(), keep[lane]);
      }
    }
    float[] sum = partials.sum();
    for (int lane = 0; lane < lanes; lane += DecodeTiles.LANES) {
      DecodeTiles.weights(score, at + lane, keys + 1 & -2, top, state + lane, sum, state + lane);
    }
    for (int lane = 0; lane < lanes && partials.masses() > 0 && row.asked.length > 0; lane++) {
      int asked = asked(kvHead, lane);
      if (asked >= 0 && outputs.reads() != null) {
        outputs.reads().add(partials, state + lane, asked, score, at + lane, block + from[g], keys);
      }
    }
  }

  /// Index in the read-out, negative where nothing is asked or nothing attends.
  private int asked(int kvHead, int lane) {
    return attends(kvHead, lane) ? row.asked[lane % length()] : -1;
  }

  /// Sets the scores of keys that a lane does not see to -infinity, and a uniform head's others to 0.
  private void hide(int kvHead, int lane, int block, int base) {
    int g = kvHead - kvFrom;
    boolean uniform = call.isUniform(row.row, head(kvHead, lane));
    Visible visible = visible(kvHead, lane);
    int position = position(lane);
    if (!uniform && visible.isAll(position, position + 1, block + from[g], block + end[g])) {
      return;
    }
    for (int j = from[g]; j < end[g]; j++) {
      boolean seen = visible.sees(position, block + j);
      if (!seen || uniform) {
        score[base + j * COLUMNS + lane] = seen ? 0f : Float.NEGATIVE_INFINITY;
      }
    }
  }

  /// Adds weights times values of all kv heads.
  private void values(int block) {
    touch(call.v(), block);
    for (int kvHead = kvFrom; kvHead < kvTo; kvHead++) {
      int low = from[kvHead - kvFrom];
      int high = end[kvHead - kvFrom];
      boolean all = low < high && allSee(kvHead, block + low, block + high);
      // Where heads of one kv head see different keys, most eights are still seen by all or none.
      for (int key = low, next; key < high; key = next) {
        int eight = key / DecodeTiles.KEYS * DecodeTiles.KEYS + DecodeTiles.KEYS;
        next = all ? high : Math.min(high, eight);
        if (all || allSee(kvHead, block + key, block + next)) {
          allValues(kvHead, block, key, next);
        } else {
          someValues(kvHead, block, key, next);
        }
      }
    }
  }

  /// Whether the lanes that attend see all keys in `[from, to)`.
  private boolean allSee(int kvHead, int from, int to) {
    for (int lane = 0; lane < lanes; lane++) {
      int position = position(lane);
      if (attends(kvHead, lane) && !visible(kvHead, lane).isAll(position, position + 1, from, to)) {
        return false;
      }
    }
    return true;
  }

  /// The values `[low, high)` of a block for all lanes; what becomes of lanes that do not attend is
  /// not used.
  private void allValues(int kvHead, int block, int low, int high) {
    int headDim = call.headDim();
    long at = call.kvAt(row.row, block + low, kvHead);
    for (int lane = 0; lane < lanes; lane += DecodeTiles.VALUES) {
      int weights = ((kvHead - kvFrom) * (KEYS + 1) + low) * COLUMNS + lane;
      DecodeTiles.values(
          call.v(),
          at,
          call.kvRowBytes(),
          score,
          weights,
          high - low,
          out,
          outAt(group(kvHead), lane),
          headDim,
          lastVectors);
    }
  }

  /// The values `[low, high)` of a block for the lanes that see them.
  private void someValues(int kvHead, int block, int low, int high) {
    int headDim = call.headDim();
    for (int j = low; j < high; j++) {
      long at = call.kvAt(row.row, block + j, kvHead);
      for (int lane = 0; lane < lanes; lane++) {
        if (attends(kvHead, lane) && visible(kvHead, lane).sees(position(lane), block + j)) {
          float weight = score[((kvHead - kvFrom) * (KEYS + 1) + j) * COLUMNS + lane];
          DecodeTiles.value(call.v(), at, weight, out, outAt(group(kvHead), lane), headDim);
        }
      }
    }
  }

  /// Lets a block's keys or values stream into the cache, in the order of memory.
  private void touch(MemorySegment kv, int block) {
    int low = KEYS;
    int high = 0;
    for (int g = 0; g < kvTo - kvFrom; g++) {
      low = Math.min(low, from[g]);
      high = Math.max(high, end[g]);
    }
    int bytes = 4 * (kvTo - kvFrom) * call.headDim();
    for (int j = low; j < high; j++) {
      touched += DecodeTiles.touch(kv, call.kvAt(row.row, block + j, kvFrom), bytes);
    }
  }

  private static void scale(float[] x, int at, int n, float factor) {
    for (int i = at; i < at + n; i++) {
      x[i] *= factor;
    }
  }

  /// Merges the spans of a row and writes its outputs.
  private static void finish(
      AttentionCall call, AttentionOutputs outputs, Row row, Sums sums, Scratch scratch) {
    int headDim = call.headDim();
    int length = call.layout().length(row.row);
    int lanes = call.group() * length;
    int token = call.layout().tokenStart(row.row);
    int size = sums.room * headDim;
    float[] keep = scratch.floats(KEEP, COLUMNS);
    float[] take = scratch.floats(TAKE, COLUMNS);
    float[] constant = scratch.floats(QUERY, headDim);
    for (int kvHead = 0; kvHead < call.kvHeads(); kvHead++) {
      int total = -1; // the first group that has seen anything
      for (int span = 0; span < row.spans; span++) {
        int group = row.group + span * call.kvHeads() + kvHead;
        if (sums.seen[group] && total < 0) {
          total = group;
        } else if (sums.seen[group]) {
          sums.partials.merge(total, group, lanes, keep, take);
          for (int lane = 0; lane < lanes; lane++) {
            int d = lane * headDim;
            merge(sums.out, total * size + d, group * size + d, headDim, keep[lane], take[lane]);
          }
        }
      }
      if (total >= 0) {
        sums.partials.finish(total, lanes, keep, take);
      }
      for (int h = 0; h < call.group(); h++) {
        int head = kvHead * call.group() + h;
        int lane = h * length;
        if (call.attends(row.row, head)) {
          int at = total * size + lane * headDim;
          for (int i = 0; i < length; i++) {
            mean(sums.out, at + i * headDim, headDim, take[lane + i]);
          }
          int statistics = total * COLUMNS + lane;
          outputs.write(
              head,
              1,
              token,
              length,
              row.asked,
              0,
              sums.partials,
              statistics,
              keep,
              lane,
              sums.out,
              at);
        } else {
          outputs.writeConstant(row.row, head, token, length, row.asked, 0, 1, constant);
        }
      }
    }
  }

  /// Divides sums as [SoftmaxBlock#means] does.
  private static void mean(float[] out, int at, int n, float share) {
    for (int i = at; i < at + n; i++) {
      out[i] = out[i] * share + 0f;
    }
  }

  private static void merge(float[] out, int to, int from, int n, float keep, float take) {
    for (int i = 0; i < n; i++) {
      out[to + i] = out[to + i] * keep + out[from + i] * take;
    }
  }
}
