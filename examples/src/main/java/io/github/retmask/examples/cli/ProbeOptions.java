package io.github.retmask.examples.cli;

import java.util.List;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Option;

/// Which probes of a synthetic language are made, and at which lengths needles are tried.
final class ProbeOptions {
  @Option(
      names = "--lengths",
      paramLabel = "LENGTHS",
      converter = NumberList.Converter.class,
      description = "Prompt lengths in tokens: 64,96,128 or FROM:TO:COUNT.")
  private @Nullable NumberList lengths;

  @Option(
      names = "--per-length",
      paramLabel = "N",
      description =
          "Probes of each length, for models of a synthetic language (default: 200; eval: 400).")
  private @Nullable Integer perLength;

  @Option(
      names = "--seed",
      paramLabel = "N",
      description = "Seed of these probes (default: 1; eval: 2).")
  private @Nullable Long seed;

  List<Integer> lengths(List<Integer> otherwise) {
    return lengths == null ? otherwise : lengths.numbers();
  }

  int perLength(int otherwise) {
    int count = perLength == null ? otherwise : perLength;
    if (count < 1) {
      throw new UsageException("--per-length " + count + ": want at least 1");
    }
    return count;
  }

  long seed(long otherwise) {
    return seed == null ? otherwise : seed;
  }

  boolean hasLengths() {
    return lengths != null;
  }

  /// Fails when an option is given that needle files have no use for.
  void requireNoProbes() {
    if (perLength != null || seed != null) {
      throw new UsageException(
          "--per-length and --seed belong to probes of a synthetic language, not to --needles or"
              + " --trials");
    }
  }
}
