package io.github.retmask.train;

import java.util.ArrayList;
import java.util.List;
import java.util.function.ToIntFunction;

/// Cuts a step into micro-batches that fit the memory.
final class RowPacker {
  private RowPacker() {}

  /// Consecutive items in as few groups as the order allows, none above `maxTokens` unless it is
  /// one item that is longer by itself.
  static <T> List<List<T>> pack(List<T> items, ToIntFunction<T> tokens, int maxTokens) {
    List<List<T>> groups = new ArrayList<>();
    long used = 0;
    for (T item : items) {
      int length = tokens.applyAsInt(item);
      if (groups.isEmpty() || used + length > maxTokens) {
        groups.add(new ArrayList<>());
        used = 0;
      }
      groups.getLast().add(item);
      used += length;
    }
    return groups;
  }
}
