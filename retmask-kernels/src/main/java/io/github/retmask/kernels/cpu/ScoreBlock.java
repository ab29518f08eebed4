package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.AttentionCall.KEYS;
import static io.github.retmask.kernels.cpu.AttentionTiles.ROWS;
import static io.github.retmask.kernels.cpu.Panels.COLUMNS;

import java.util.Arrays;

/// What some consecutive queries, the lanes, see of a block of keys: one head's, or for every position
/// those of some heads that see the same keys.
///
/// @param first position of the first query
/// @param heads lanes of a position
/// @param lanes number of queries
/// @param block position of the first key
/// @param from first key that any of them sees, rounded down to sixes, from `block`
/// @param end end of the keys that any of them sees, from `block`
/// @param isFull whether all of them see all keys
record ScoreBlock(
    Visible visible,
    int first,
    int heads,
    int lanes,
    int block,
    int from,
    int end,
    boolean isFull) {

  static ScoreBlock of(Visible visible, int first, int heads, int lanes, int block) {
    int past = first + lanes / heads;
    int end = Math.min(KEYS, past - block);
    if (end == KEYS && visible.isAll(first, past, block, block + KEYS)) {
      return new ScoreBlock(visible, first, heads, lanes, block, 0, KEYS, true);
    }
    int from = 0;
    while (from < end && visible.queryEnd(block + from) <= first) {
      from++;
    }
    from = from < end ? from / ROWS * ROWS : Math.max(0, end);
    return new ScoreBlock(visible, first, heads, lanes, block, from, end, false);
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
    return lane((long) block + j);
  }

  /// End of the lanes that see key j.
  int high(int j) {
    return Math.max(low(j), lane(visible.queryEnd(block + j)));
  }

  /// First lane of a position, within those that there are.
  private int lane(long position) {
    return Math.clamp((position - first) * heads, 0, lanes);
  }

  /// `scores[j][i] = sum_d keys[j][d] queries[d][i]`, without the tiles above the diagonal.
  ///
  /// @param keys panels of rows from `keysAt` on, see [AttentionCall#readPanels]
  /// @param panelSize distance of panels
  /// @param queriesT `[D][64]`
  /// @param scores `[96][64]`
  void multiply(
      float[] keys,
      int keysAt,
      int panelSize,
      float[] queriesT,
      int queriesAt,
      float[] scores,
      int headDim) {
    for (int d = 0; d < headDim; d += KEYS) {
      int a = keysAt + d / KEYS * panelSize;
      int b = queriesAt + d * COLUMNS;
      int steps = Math.min(KEYS, headDim - d);
      boolean resume = d > 0;
      if (isFull) {
        AttentionTiles.multiply(keys, a, KEYS, queriesT, b, scores, 0, KEYS, lanes, steps, resume);
        continue;
      }
      for (int j = from; j < end; j += ROWS) {
        int i = low(j) & -AttentionTiles.TILE;
        int c = j * COLUMNS + i;
        AttentionTiles.multiply(
            keys, a + j * KEYS, KEYS, queriesT, b + i, scores, c, ROWS, lanes - i, steps, resume);
      }
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
