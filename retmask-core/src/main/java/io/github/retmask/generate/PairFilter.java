package io.github.retmask.generate;

import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/// What makes a sampled pair unfit for training, beyond two equal texts. Everything is off in
/// [#NONE], as in the published pipeline.
///
/// @param finishedOnly drop a pair when an answer ended at the length limit
/// @param maxTokens drop a pair when an answer is longer; 0 for no limit. The published data flag
///   responses beyond [#PUBLISHED_FLAG] tokens as repetitions and use them all the same
/// @param maxLengthRatio drop a pair when one answer is this many times longer than the other; 0 for
///   no limit
/// @param noLoops drop a pair when an answer ends in one and the same piece four times or more, 16
///   tokens at least
public record PairFilter(
    boolean finishedOnly, int maxTokens, double maxLengthRatio, boolean noLoops) {

  /// Keeps everything.
  public static final PairFilter NONE = new PairFilter(false, 0, 0, false);

  /// Length beyond which the published data call a response a repetition.
  public static final int PUBLISHED_FLAG = 2000;

  private static final int LOOP_TURNS = 4;
  private static final int LOOP_TOKENS = 16;

  public PairFilter {
    if (maxTokens < 0) {
      throw new IllegalArgumentException(
          "pair filter: at most %d tokens, want 0 (no limit) or more".formatted(maxTokens));
    }
    if (!(maxLengthRatio == 0 || maxLengthRatio >= 1)) {
      throw new IllegalArgumentException(
          "pair filter: length ratio %s, want 0 (no limit) or at least 1"
              .formatted(maxLengthRatio));
    }
  }

  /// The first reason to drop a pair, or null.
  @Nullable DropReason reason(Answer chosen, Answer rejected) {
    if (chosen.text().equals(rejected.text())) {
      return DropReason.IDENTICAL;
    }
    if (finishedOnly
        && (chosen.finish() == FinishReason.LENGTH || rejected.finish() == FinishReason.LENGTH)) {
      return DropReason.UNFINISHED;
    }
    int longer = Math.max(chosen.ids().length, rejected.ids().length);
    int shorter = Math.min(chosen.ids().length, rejected.ids().length);
    if (maxTokens > 0 && longer > maxTokens) {
      return DropReason.LONG_RESPONSE;
    }
    if (maxLengthRatio > 0 && longer > maxLengthRatio * shorter) {
      return DropReason.LENGTH_RATIO;
    }
    return noLoops && (endsInLoop(chosen.ids()) || endsInLoop(rejected.ids()))
        ? DropReason.LOOP
        : null;
  }

  /// Whether the last tokens repeat with some period.
  static boolean endsInLoop(int[] ids) {
    int n = ids.length;
    for (int period = 1; period * LOOP_TURNS <= n; period++) {
      int from = n - Math.max(period * LOOP_TURNS, LOOP_TOKENS);
      if (from >= 0 && Arrays.equals(ids, from + period, n, ids, from, n - period)) {
        return true;
      }
    }
    return false;
  }

  /// One side of a pair.
  record Answer(int[] ids, String text, FinishReason finish) {}
}
