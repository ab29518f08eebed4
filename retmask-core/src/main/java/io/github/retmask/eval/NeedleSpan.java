package io.github.retmask.eval;

import java.util.HashSet;
import java.util.Set;

/// Where a needle lies in a prompt: token positions [start, end).
///
/// @param start first position, or -1 when the needle was not found
/// @param end one past the last position, or -1
public record NeedleSpan(int start, int end) {
  /// No needle.
  public static final NeedleSpan NONE = new NeedleSpan(-1, -1);

  /// Finds a needle as the script of nightdessert/Retrieval_Head does: the first window as long as
  /// the needle that holds more than 90 % of its different token ids, in any order. A needle of more
  /// than ten different ids is found early, by a window that lacks its end. Windows at the end of the
  /// prompt may be shorter, and then the span reaches past it.
  public static NeedleSpan findByIds(int[] promptIds, int[] needleIds) {
    Set<Integer> needle = new HashSet<>();
    for (int id : needleIds) {
      needle.add(id);
    }
    for (int start = 0; start < promptIds.length; start++) {
      Set<Integer> common = new HashSet<>();
      for (int i = start; i < Math.min(start + needleIds.length, promptIds.length); i++) {
        if (needle.contains(promptIds[i])) {
          common.add(promptIds[i]);
        }
      }
      if ((double) common.size() / needle.size() > 0.9) {
        return new NeedleSpan(start, start + needleIds.length);
      }
    }
    return NONE;
  }
}
