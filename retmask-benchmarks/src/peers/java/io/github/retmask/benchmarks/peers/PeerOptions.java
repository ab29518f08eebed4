package io.github.retmask.benchmarks.peers;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// Options `--name value` of a program, over its defaults.
final class PeerOptions {
  private final Map<String, String> values;

  private PeerOptions(Map<String, String> values) {
    this.values = values;
  }

  /// @throws IllegalArgumentException on an option without a default, or without a value
  static PeerOptions parse(String[] args, int from, Map<String, String> defaults) {
    Map<String, String> values = new LinkedHashMap<>(defaults);
    for (int i = from; i < args.length; i += 2) {
      String name = args[i].replaceFirst("^--", "");
      if (!args[i].startsWith("--") || !values.containsKey(name) || i + 1 == args.length) {
        throw new IllegalArgumentException(
            "%s: options are --NAME VALUE, with names and defaults %s".formatted(args[i], values));
      }
      values.put(name, args[i + 1]);
    }
    return new PeerOptions(values);
  }

  String text(String name) {
    return values.get(name);
  }

  int number(String name) {
    return Integer.parseInt(values.get(name));
  }

  /// What commas separate.
  List<String> list(String name) {
    return List.of(values.get(name).split(","));
  }

  /// `--threads`, where 0 stands for one per core.
  int threads() {
    int threads = number("threads");
    return threads == 0 ? Runtime.getRuntime().availableProcessors() : threads;
  }

  /// Numbers such as `512x4096x4096`.
  static int[] numbers(String text) {
    return Arrays.stream(text.split("x")).mapToInt(Integer::parseInt).toArray();
  }
}
