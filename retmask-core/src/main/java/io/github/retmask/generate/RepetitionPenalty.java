package io.github.retmask.generate;

import java.util.BitSet;

/// Penalises the logits of tokens that a sequence holds already (Keskar et al. 2019, section 4.1), as
/// `RepetitionPenaltyLogitsProcessor` of Hugging Face transformers does: over prompt and continuation,
/// once per token however often it occurs, in F32; a negative logit is multiplied, so that the penalty
/// lowers it too.
final class RepetitionPenalty {
  private final float penalty;
  private final BitSet seen = new BitSet();

  RepetitionPenalty(double penalty, int[] prompt) {
    this.penalty = (float) penalty;
    for (int id : prompt) {
      seen.set(id);
    }
  }

  /// Notes a token of the continuation.
  void saw(int id) {
    seen.set(id);
  }

  /// @param logits `[V]`, changed in place
  void apply(float[] logits) {
    for (int id = seen.nextSetBit(0); id >= 0; id = seen.nextSetBit(id + 1)) {
      logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
    }
  }
}
