package io.github.retmask.heads;

/// One query head. Text form `"12-7"` is layer 12, head 7, as in published head-score files.
///
/// @param layer decoder layer, from 0
/// @param head query head within the layer, from 0
public record HeadId(int layer, int head) implements Comparable<HeadId> {

  public HeadId {
    if (layer < 0 || head < 0) {
      throw new IllegalArgumentException("head " + layer + "-" + head + ": numbers start at 0");
    }
  }

  /// Reads `"12-7"`.
  ///
  /// @throws IllegalArgumentException when the text has another form
  public static HeadId parse(String text) {
    String trimmed = text.strip();
    int dash = trimmed.indexOf('-');
    try {
      if (dash > 0) {
        return new HeadId(
            Integer.parseInt(trimmed.substring(0, dash)),
            Integer.parseInt(trimmed.substring(dash + 1)));
      }
    } catch (NumberFormatException e) {
      // falls through to the one message below
    }
    throw new IllegalArgumentException("head \"" + text + "\": want LAYER-HEAD, such as 12-7");
  }

  /// By layer, then by head.
  @Override
  public int compareTo(HeadId other) {
    int byLayer = Integer.compare(layer, other.layer);
    return byLayer != 0 ? byLayer : Integer.compare(head, other.head);
  }

  @Override
  public String toString() {
    return layer + "-" + head;
  }
}
