package io.github.retmask.examples.cli;

import io.github.retmask.heads.MaskPhase;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Option;

/// When a mask holds, for commands that generate.
final class MaskPhaseOption {
  static final String EVERYWHERE = "everywhere";
  private static final String DECODE = "decode";

  @Option(
      names = "--mask-phase",
      paramLabel = "PHASE",
      description =
          "When the mask holds: everywhere (the default), or decode: the prompt but its last token"
              + " is read without it.")
  private @Nullable String phase;

  /// The phase for these masked heads.
  ///
  /// @throws UsageException on another word, or a phase without a mask
  MaskPhase phase(MaskOptions mask) {
    if (phase == null) {
      return MaskPhase.EVERYWHERE;
    }
    if (!mask.isGiven()) {
      throw new UsageException("--mask-phase without --mask: name the heads with --mask HEADS");
    }
    return parse(phase);
  }

  /// Reads `everywhere` or `decode`.
  ///
  /// @throws UsageException on another word
  static MaskPhase parse(String phase) {
    return switch (phase) {
      case EVERYWHERE -> MaskPhase.EVERYWHERE;
      case DECODE -> MaskPhase.DECODE_ONLY;
      default ->
          throw new UsageException(
              "--mask-phase \"%s\": want everywhere or decode".formatted(phase));
    };
  }

  /// Adds what determines a result to `options`.
  void describe(MaskOptions mask, Map<String, String> options) {
    if (mask.isGiven()) {
      options.put("mask-phase", phase == null ? EVERYWHERE : phase);
    }
  }
}
