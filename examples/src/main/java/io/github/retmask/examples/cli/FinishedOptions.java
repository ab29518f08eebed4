package io.github.retmask.examples.cli;

import io.github.retmask.io.FormatException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;

/// A result that lies there already must come from the options at hand, or nobody would notice that
/// it does not.
final class FinishedOptions {
  private FinishedOptions() {}

  /// @param before options that the file was made with
  /// @throws FormatException naming the options that differ
  static void requireEqual(Path file, Map<String, String> before, Map<String, String> now) {
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
