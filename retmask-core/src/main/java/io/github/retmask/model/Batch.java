package io.github.retmask.model;

import io.github.retmask.heads.HeadMask;
import java.util.List;

/// The rows of one forward: sequences of different lengths under different masks.
///
/// @param rows at least one
public record Batch(List<Row> rows) {

  public Batch {
    rows = List.copyOf(rows);
    if (rows.isEmpty()) {
      throw new IllegalArgumentException("batch: no rows");
    }
  }

  /// A batch of these rows.
  public static Batch of(Row... rows) {
    return new Batch(List.of(rows));
  }

  /// Whether a row's tokens are given or generated; decides whether a decode-only mask holds.
  public enum Phase {
    PREFILL,
    DECODE
  }

  /// New tokens of one sequence.
  ///
  /// @param slot cache slot that holds what came before; ignored without a cache
  /// @param ids token ids, at least one
  /// @param mask switched heads
  /// @param phase prefill or decode
  public record Row(int slot, int[] ids, HeadMask mask, Phase phase) {

    /// A whole sequence outside any cache.
    public static Row whole(int[] ids, HeadMask mask) {
      return new Row(0, ids, mask, Phase.PREFILL);
    }
  }
}
