package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.AttentionCall.KEYS;
import static io.github.retmask.kernels.cpu.AttentionTiles.ROWS;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static io.github.retmask.kernels.cpu.Panels.COLUMNS;

import java.util.Arrays;

/// What some consecutive queries of a head, the lanes, see of a block of keys.
///
/// @param first position of the first query
/// @param lanes number of queries
/// @param block position of the first key
/// @param from first key that any of them sees, rounded down to sixes, from `block`
/// @param end end of the keys that any of them sees, from `block`
/// @param isFull whether all of them see all keys
record ScoreBlock(
    Visible visible, int first, int lanes, int block, int from, int end, boolean isFull) {

  static ScoreBlock of(Visible visible, int first, int lanes, int block) {
    int end = Math.min(KEYS, first + lanes - block);
    if (end == KEYS && visible.isAll(first, first + lanes, block, block + KEYS)) {
      return new ScoreBlock(visible, first, lanes, block, 0, KEYS, true);
    }
    int from = 0;
    while (from < end && visible.queryEnd(block + from) <= first) {
      from++;
    }
    from = from < end ? from / ROWS * ROWS : Math.max(0, end);
    return new ScoreBlock(visible, first, lanes, block, from, end, false);
  }

  boolean isEmpty() {
    return from >= end;
  }

  /// Rows of scores, in sixes.
  int rows() {
    return (end - from + ROWS - 1) / ROWS * ROWS;
  }

  /// First lane that sees key j of the block; lanes before it come before the key.
  int low(int j) {
    return Math.clamp((long) block + j - first, 0, lanes);
  }

  /// End of the lanes that see key j.
  int high(int j) {
    return Math.max(low(j), Math.clamp(visible.queryEnd(block + j) - first, 0, lanes));
  }

  /// `scores[j][i] = sum_d keys[j][d] queries[d][i]`, without the tiles above the diagonal.
  ///
  /// @param keys `[96][D]` from `keysAt` on
  /// @param queriesT `[D][64]`
  /// @param scores `[96][64]`
  void multiply(
      float[] keys, int keysAt, float[] queriesT, int queriesAt, float[] scores, int headDim) {
    if (isFull) {
      AttentionTiles.multiply(
          keys, keysAt, headDim, queriesT, queriesAt, scores, 0, KEYS, lanes, headDim, false);
      return;
    }
    for (int j = from; j < end; j += ROWS) {
      int i = low(j) & -WIDTH;
      AttentionTiles.multiply(
          keys,
          keysAt + j * headDim,
          headDim,
          queriesT,
          queriesAt + i,
          scores,
          j * COLUMNS + i,
          ROWS,
          lanes - i,
          headDim,
          false);
    }
  }

  /// Sets the scores of keys that a query does not see to -infinity.
  void hide(float[] scores) {
    for (int j = from; j < from + rows() && !isFull; j++) {
      int at = j * COLUMNS;
      Arrays.fill(scores, at, at + low(j), Float.NEGATIVE_INFINITY);
      Arrays.fill(scores, at + high(j), at + lanes, Float.NEGATIVE_INFINITY);
    }
  }
}
