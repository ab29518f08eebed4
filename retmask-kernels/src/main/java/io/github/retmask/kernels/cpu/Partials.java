package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Panels.COLUMNS;

import java.util.Arrays;

/// Softmax statistics of some (query, head) pairs over a part of their keys, in groups of 64 lanes.
/// Weighted sums of values, which their owner keeps, are relative to the same largest scores.
///
/// @param top `[group][64]`, largest score
/// @param sum `[group][64]`, sum of exp(score - top); 0 where nothing was seen
/// @param topKey `[group][64]`, position of the largest score, exact below 2^24; empty when nobody
///     asks
/// @param mass `[group][masses][64]`, sum of exp(score - top) within ranges of keys
/// @param masses ranges per lane
record Partials(float[] top, float[] sum, float[] topKey, float[] mass, int masses) {
  /// Slots of a thread's memory that they take.
  static final int SLOTS = 3;

  /// Room for `groups`, in a thread's memory from `slot` on.
  static Partials of(Scratch scratch, int slot, int groups, boolean asked, int masses) {
    int lanes = groups * COLUMNS;
    return new Partials(
        scratch.floats(slot, lanes),
        scratch.floats(slot + 1, lanes),
        new float[asked ? lanes : 0],
        scratch.floats(slot + 2, lanes * masses),
        masses);
  }

  /// Where a lane's sum over range `s` is.
  ///
  /// @param lane `group * 64 + lane of the group`
  int massAt(int lane, int s) {
    return (lane / COLUMNS * masses + s) * COLUMNS + lane % COLUMNS;
  }

  /// A group has seen nothing.
  void clear(int group) {
    int from = group * COLUMNS;
    Arrays.fill(top, from, from + COLUMNS, SoftmaxBlock.LOWEST);
    Arrays.fill(sum, from, from + COLUMNS, 0f);
    Arrays.fill(mass, from * masses, (from + COLUMNS) * masses, 0f);
  }

  /// Makes sums relative to larger scores.
  ///
  /// @param factor `[lanes]`
  /// @return whether that changes any lane which has seen something
  boolean scale(int group, int lanes, float[] factor) {
    boolean any = false;
    for (int i = 0; i < lanes; i++) {
      any |= factor[i] != 1f && sum[group * COLUMNS + i] != 0;
      sum[group * COLUMNS + i] *= factor[i];
    }
    for (int s = 0; s < masses && any; s++) {
      int at = massAt(group * COLUMNS, s);
      for (int i = 0; i < lanes; i++) {
        mass[at + i] *= factor[i];
      }
    }
    return any;
  }

  /// Adds what the group `from` saw to what the group `to` saw of earlier keys. Weighted sums of
  /// values become `keep` times those of `to` plus `take` times those of `from`.
  ///
  /// @param keep `[lanes]`, an output, with room for whole vectors
  /// @param take the same
  void merge(int to, int from, int lanes, float[] keep, float[] take) {
    for (int i = 0; i < lanes; i++) {
      float highest = Math.max(top[to * COLUMNS + i], top[from * COLUMNS + i]);
      keep[i] = top[to * COLUMNS + i] - highest;
      take[i] = top[from * COLUMNS + i] - highest;
    }
    Exp.exp(keep, 0, keep, 0, lanes, 1f, 0f);
    Exp.exp(take, 0, take, 0, lanes, 1f, 0f);
    for (int i = 0; i < lanes; i++) {
      int t = to * COLUMNS + i;
      int f = from * COLUMNS + i;
      keep[i] = sum[t] == 0 ? 0f : keep[i];
      take[i] = sum[f] == 0 ? 0f : take[i];
      if (topKey.length > 0 && sum[f] != 0 && (sum[t] == 0 || top[f] > top[t])) {
        topKey[t] = topKey[f];
      }
      top[t] = Math.max(top[t], top[f]);
      sum[t] = sum[t] * keep[i] + sum[f] * take[i];
    }
    for (int s = 0; s < masses; s++) {
      int t = massAt(to * COLUMNS, s);
      int f = massAt(from * COLUMNS, s);
      for (int i = 0; i < lanes; i++) {
        mass[t + i] = mass[t + i] * keep[i] + mass[f + i] * take[i];
      }
    }
  }

  /// Log-sum-exps of a group's lanes and the factors, 1 / sum, of their weighted sums.
  ///
  /// @param logSumExp `[lanes]`, an output, with room for whole vectors; -infinity where nothing was
  ///   seen, or only scores of -infinity
  /// @param share the same
  void finish(int group, int lanes, float[] logSumExp, float[] share) {
    int from = group * COLUMNS;
    Log.log(logSumExp, 0, sum, from, lanes);
    for (int i = 0; i < lanes; i++) {
      boolean none = sum[from + i] == 0;
      logSumExp[i] = none ? Float.NEGATIVE_INFINITY : top[from + i] + logSumExp[i];
      share[i] = 1 / sum[from + i];
    }
  }
}
