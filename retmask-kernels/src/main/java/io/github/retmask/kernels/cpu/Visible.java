package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.HeadPlan;

/// Which keys the queries of one (row, head) see: `[max(0, i - window + 1), sink)`, if any, and
/// `[max(0, i - near + 1), i]`.
///
/// @param window keys seen at all, the query's own included
/// @param sink keys at the start that stay visible within the window
/// @param near keys seen without regard to the sink
record Visible(int window, int sink, int near) {

  static Visible of(HeadPlan plan, AttentionSpec spec, int row, int head) {
    int near = Math.min(spec.window(), plan.window(row, head));
    return new Visible(spec.window(), plan.sink(row, head), near);
  }

  /// First key of the near range of the query at position i.
  int nearFrom(int i) {
    return Math.max(0, i - near + 1); // no overflow: i >= 0 and near >= 1
  }

  /// First key of the sink range.
  int sinkFrom(int i) {
    return Math.max(0, i - window + 1);
  }

  /// End of the sink range; empty when not above [#sinkFrom].
  int sinkTo(int i) {
    return Math.min(sink, i + 1);
  }

  /// Whether the query at position i sees a key.
  boolean sees(int i, int key) {
    return key <= i && queryEnd(key) > i;
  }

  /// First visible key in `[from, to)`, or `to` when there is none.
  int first(int i, int from, int to) {
    int inSink = Math.max(from, sinkFrom(i));
    if (inSink < Math.min(to, sinkTo(i))) {
      return Math.min(inSink, to);
    }
    return Math.min(to, Math.max(from, nearFrom(i)));
  }

  /// End of the visible keys in `[from, to)`; `from` when there is none.
  int end(int i, int from, int to) {
    if (first(i, from, to) >= Math.min(to, i + 1)) {
      return from;
    }
    int inNear = Math.min(to, i + 1);
    if (inNear > Math.max(from, nearFrom(i))) {
      return inNear;
    }
    return Math.min(to, sinkTo(i));
  }

  /// First query past those that see a key; they are consecutive, from the key on.
  long queryEnd(int key) {
    return key + (long) (key < sink ? window : near);
  }

  /// Whether the queries `[first, end)` all see all keys in `[from, to)`.
  boolean isAll(int first, int end, int from, int to) {
    return to - 1 <= first
        && queryEnd(from) >= end
        && (from >= sink || to <= sink || queryEnd(sink) >= end);
  }

  /// Number of visible keys.
  int count(int i) {
    int nearFrom = nearFrom(i);
    return i + 1 - nearFrom + Math.max(0, Math.min(nearFrom, sinkTo(i)) - sinkFrom(i));
  }

  /// First query past the last one that sees any key in `[from, to)`.
  long lastQuery(int from, int to) {
    long end = (long) to - 1 + near;
    return from < sink ? Math.max(end, (long) Math.min(to, sink) - 1 + window) : end;
  }
}
