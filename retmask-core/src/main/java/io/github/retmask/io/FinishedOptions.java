package io.github.retmask.io;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;

/// A result that lies there already must come from the options at hand, or nobody would notice that
/// it does not.
public final class FinishedOptions {
  private FinishedOptions() {}

  /// @param file the result
  /// @param before options that it was made with
  /// @param now options at hand
  /// @throws FormatException naming the options that differ
  public static void requireEqual(Path file, Map<String, String> before, Map<String, String> now) {
    SortedMap<String, String> names = new TreeMap<>(before);
    names.putAll(now);
    List<String> differences = new ArrayList<>();
    for (String name : names.keySet()) {
      String then = before.getOrDefault(name, "nothing");
      String here = now.getOrDefault(name, "nothing");
      if (!then.equals(here)) {
        differences.add("%s was %s, now %s".formatted(name, then, here));
      }
    }
    if (!differences.isEmpty()) {
      throw new FormatException(
          "%s: holds the result of other options: %s; choose another --out, or begin anew with --restart"
              .formatted(file, String.join("; ", differences)));
    }
  }
}
