package io.github.retmask.generate;

import java.util.BitSet;

/// The tokens that a sequence holds so far, prompt and continuation, each once however often it occurs.
final class SeenTokens {
  private final BitSet seen = new BitSet();

  SeenTokens(int[] prompt) {
    for (int id : prompt) {
      seen.set(id);
    }
  }

  /// Notes a token of the continuation.
  void saw(int id) {
    seen.set(id);
  }

  int[] ids() {
    return seen.stream().toArray();
  }
}
