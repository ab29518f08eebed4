package io.github.retmask.examples.cli;

import io.github.retmask.generate.Sampling;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Option;

/// How tokens are chosen.
final class SamplingOptions {
  @Option(
      names = "--temperature",
      paramLabel = "T",
      description = "Divisor of the logits; 0 takes the likeliest token (greedy).")
  private @Nullable Double temperature;

  @Option(
      names = "--top-p",
      paramLabel = "P",
      description = "Keep the likeliest tokens that reach this probability; 1 keeps all.")
  private @Nullable Double topP;

  @Option(
      names = "--top-k",
      paramLabel = "K",
      description = "Keep the K likeliest tokens; 0 keeps all.")
  private @Nullable Integer topK;

  @Option(
      names = "--min-p",
      paramLabel = "P",
      description = "Drop tokens below this share of the likeliest one's probability.")
  private @Nullable Double minP;

  @Option(
      names = "--repetition-penalty",
      paramLabel = "R",
      description =
          "Divide positive logits of tokens that occurred, prompt included, by R, multiply negative"
              + " ones; 1 is none.")
  private @Nullable Double repetitionPenalty;

  @Option(
      names = "--seed",
      paramLabel = "N",
      defaultValue = "42",
      description = "Seed of the noise (default: ${DEFAULT-VALUE}).")
  private long seed;

  /// The sampling asked for; what is not given comes from `otherwise`.
  ///
  /// @throws UsageException on a value out of range, or one without effect
  Sampling sampling(Sampling otherwise) {
    Sampling chosen;
    try {
      chosen =
          new Sampling(
              temperature == null ? otherwise.temperature() : temperature,
              topK == null ? otherwise.topK() : topK,
              topP == null ? otherwise.topP() : topP,
              minP == null ? otherwise.minP() : minP,
              repetitionPenalty == null ? otherwise.repetitionPenalty() : repetitionPenalty,
              seed);
    } catch (IllegalArgumentException e) {
      throw new UsageException("--" + e.getMessage());
    }
    if (chosen.isGreedy() && (topP != null || topK != null || minP != null)) {
      throw new UsageException(
          "--top-p, --top-k and --min-p have no effect at temperature 0; give --temperature");
    }
    return chosen;
  }

  long seed() {
    return seed;
  }
}
