package io.github.retmask.examples.cli;

import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Option;

/// Which heads are switched, and how.
final class MaskOptions {
  @Option(
      names = "--mask",
      paramLabel = "HEADS",
      converter = HeadList.Converter.class,
      description = "Heads to switch: 3-1,3-4 or @FILE with a list of heads.")
  private @Nullable HeadList heads;

  @Option(
      names = "--mask-kind",
      paramLabel = "KIND",
      converter = HeadSwitch.Converter.class,
      description =
          "What happens to them: zero (off, the default), uniform (equal attention), scale=FACTOR,"
              + " local=SINK,WINDOW.")
  private @Nullable HeadSwitch kind;

  /// Whether heads were named.
  boolean isGiven() {
    return heads != null;
  }

  HeadSwitch kind() {
    return kind == null ? HeadSwitch.ZERO : kind;
  }

  /// The masked heads, none without the option.
  List<HeadId> heads() throws IOException {
    return heads == null ? List.of() : heads.heads();
  }

  /// The mask for a model of this shape; neutral without the option.
  ///
  /// @throws UsageException on a head that the model lacks, or a kind without heads
  HeadMask on(HeadMask none) throws IOException {
    if (heads == null) {
      if (kind != null) {
        throw new UsageException("--mask-kind without --mask: name the heads with --mask HEADS");
      }
      return none;
    }
    List<HeadId> ids = heads.heads();
    try {
      return kind().on(none, ids);
    } catch (IllegalArgumentException e) {
      throw new UsageException("--mask: " + e.getMessage());
    }
  }

  /// Adds what determines a result to `options`.
  void describe(Map<String, String> options) throws IOException {
    if (heads != null) {
      options.put("mask", String.join(",", heads.heads().stream().map(HeadId::toString).toList()));
      options.put("mask-kind", kind().text());
    }
  }
}
