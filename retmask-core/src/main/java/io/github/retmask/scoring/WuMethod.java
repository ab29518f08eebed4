package io.github.retmask.scoring;

import java.util.Arrays;
import java.util.stream.Collectors;

/// Two readings of the retrieval score of Wu et al., "Retrieval head mechanistically explains
/// long-context factuality" (2024).
public enum WuMethod {
  /// As the paper defines it: the response ends at an end-of-sequence token, and a head scores the
  /// share of the needle's positions that it copied. A trial whose needle was not found does not
  /// count.
  STRICT("wu"),
  /// As the script of nightdessert/Retrieval_Head and YoumiMa/RetMask computes it: 50 tokens that
  /// end at the token `<0x0A>` or the id 144 (a line break in Llama 2, and Yi) but not at the end of
  /// the sequence, every hit counts again, and a needle that was not found scores 0 for every head.
  COMPAT("wu-compat");

  /// Tokens that the script generates.
  public static final int SCRIPT_TOKENS = 50;

  private final String label;

  WuMethod(String label) {
    this.label = label;
  }

  /// The name on the command line and in files.
  public String label() {
    return label;
  }

  /// Reads [#label].
  ///
  /// @throws IllegalArgumentException listing the labels
  public static WuMethod parse(String label) {
    for (WuMethod method : values()) {
      if (method.label.equals(label)) {
        return method;
      }
    }
    throw new IllegalArgumentException(
        "method \"%s\": want one of %s"
            .formatted(
                label,
                Arrays.stream(values()).map(WuMethod::label).collect(Collectors.joining(", "))));
  }
}
