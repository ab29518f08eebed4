package io.github.retmask.heads;

import java.util.Arrays;
import java.util.stream.Collectors;

/// Which heads stand in for the retrieval heads in a control experiment. Always as many as there are
/// retrieval heads.
public enum Control {
  /// From all heads; may hit retrieval heads.
  RANDOM("random", 1),
  /// From the heads outside the retrieval set.
  NON_RETRIEVAL("non-retrieval", 2),
  /// From the heads outside the retrieval set, as many in each layer as the set has there.
  LAYER_MATCHED("layer-matched", 3),
  /// The lowest means; among heads tied at the cut, drawn.
  BOTTOM("bottom", 4);

  private final String label;
  private final int stream;

  Control(String label, int stream) {
    this.label = label;
    this.stream = stream;
  }

  /// The name on the command line and in files.
  public String label() {
    return label;
  }

  /// Number of the random stream, so that two controls with one seed do not share their draws.
  int stream() {
    return stream;
  }

  /// Reads [#label].
  ///
  /// @throws IllegalArgumentException listing the labels
  public static Control parse(String label) {
    for (Control control : values()) {
      if (control.label.equals(label)) {
        return control;
      }
    }
    throw new IllegalArgumentException(
        "control \"%s\": want one of %s"
            .formatted(
                label,
                Arrays.stream(values()).map(Control::label).collect(Collectors.joining(", "))));
  }
}
