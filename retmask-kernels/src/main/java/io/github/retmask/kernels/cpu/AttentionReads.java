package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Panels.COLUMNS;

import io.github.retmask.backend.AttentionReadout;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/// Fills an [AttentionReadout] from blocks of scores and weights as they pass by.
///
/// @param heads H
/// @param masses ranges of keys per query
record AttentionReads(AttentionReadout readout, int heads, int masses) {
  private static final int[] NONE = {};

  static @Nullable AttentionReads of(@Nullable AttentionReadout readout, int heads) {
    if (readout == null || readout.queries().length == 0) {
      return null;
    }
    return new AttentionReads(readout, heads, readout.spans()[0].length);
  }

  /// Index in the read-out of each of `count` tokens, for so many heads of each: `[count][heads]`,
  /// negative where it is not asked for; empty when none is.
  static int[] asked(@Nullable AttentionReads reads, int token, int count, int heads) {
    if (reads == null) {
      return NONE;
    }
    int[] asked = new int[count * heads];
    boolean any = false;
    for (int i = 0; i < count; i++) {
      int query = Arrays.binarySearch(reads.readout.queries(), token + i);
      Arrays.fill(asked, i * heads, (i + 1) * heads, query);
      any |= query >= 0;
    }
    return any ? asked : NONE;
  }

  /// Where all ranges of keys of some queries lie, `[from, end)`.
  int[] hull(int[] asked) {
    int[] hull = {Integer.MAX_VALUE, 0};
    for (int query : asked) {
      for (int s = 0; query >= 0 && s < masses; s++) {
        hull[0] = Math.min(hull[0], readout.spans()[query][s][0]);
        hull[1] = Math.max(hull[1], readout.spans()[query][s][1]);
      }
    }
    return hull;
  }

  /// Takes note of the first key with the largest score, which has risen.
  ///
  /// @param scores of the lane, 64 apart
  /// @param key position of the first
  static void top(Partials partials, int lane, float[] scores, int at, int key) {
    int j = 0;
    while (scores[at + j * COLUMNS] != partials.top()[lane]) {
      j++;
    }
    partials.topKey()[lane] = key + j;
  }

  /// Adds the weights of some keys to the ranges that they are in.
  ///
  /// @param weights of the lane, 64 apart; zero where unseen
  void add(Partials partials, int lane, int query, float[] weights, int at, int key, int keys) {
    int[][] spans = readout.spans()[query];
    for (int s = 0; s < masses; s++) {
      int sum = partials.massAt(lane, s);
      float mass = partials.mass()[sum];
      int end = Math.min(keys, spans[s][1] - key);
      for (int j = Math.max(0, spans[s][0] - key); j < end; j++) {
        mass += weights[at + j * COLUMNS];
      }
      partials.mass()[sum] = mass;
    }
  }

  /// The same for all lanes of a group that are asked for, in vectors of lanes.
  ///
  /// @param asked of the lanes, from `from` on
  /// @param hull of their ranges, which has some of these keys
  /// @param low room for the lanes, as `high`
  void addAll(
      Partials partials,
      int group,
      int[] asked,
      int from,
      int lanes,
      int[] hull,
      float[] weights,
      int at,
      int key,
      int keys,
      float[] low,
      float[] high) {
    int first = Math.max(0, hull[0] - key);
    int end = Math.min(keys, hull[1] - key);
    for (int s = 0; s < masses; s++) {
      for (int i = 0; i < lanes; i++) {
        int query = asked[from + i];
        low[i] = query < 0 ? 0 : readout.spans()[query][s][0] - key - first;
        high[i] = query < 0 ? 0 : readout.spans()[query][s][1] - key - first;
      }
      int sum = partials.massAt(group * COLUMNS, s);
      SoftmaxBlock.masses(
          weights, at + first * COLUMNS, end - first, lanes, low, high, partials.mass(), sum);
    }
  }

  /// Reports a lane. Its largest weight is exp(top - top) / sum.
  void report(Partials partials, int lane, float logSumExp, int query, int head) {
    float share = 1 / partials.sum()[lane];
    long at = (long) query * heads + head;
    store(at, (int) partials.topKey()[lane], share, logSumExp);
    for (int s = 0; s < masses; s++) {
      float mass = partials.mass()[partials.massAt(lane, s)] * share;
      Lanes.set(readout.spanMass().segment(), Float.BYTES * (at * masses + s), mass);
    }
  }

  private void store(long at, int topPosition, float topWeight, float logSumExp) {
    readout.topPosition().segment().set(Lanes.I32, Integer.BYTES * at, topPosition);
    Lanes.set(readout.topWeight().segment(), Float.BYTES * at, topWeight);
    Lanes.set(readout.logSumExp().segment(), Float.BYTES * at, logSumExp);
  }

  /// Reports that a head does not attend.
  void reportNothing(int query, int head) {
    long at = (long) query * heads + head;
    store(at, -1, 0f, Float.NEGATIVE_INFINITY);
    for (int s = 0; s < masses; s++) {
      Lanes.set(readout.spanMass().segment(), Float.BYTES * (at * masses + s), 0f);
    }
  }
}
