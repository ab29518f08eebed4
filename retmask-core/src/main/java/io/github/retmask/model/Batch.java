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
  /// @param promptLength tokens of the prompt that the sequence begins with, for rotary embeddings
  ///   that depend on the context, see [RopeSpec]; 0 for what the slot knows or, at the begin of a
  ///   sequence, for as many as `ids`
  /// @param prefix what comes before `ids` without a cache
  public record Row(
      int slot, int[] ids, HeadMask mask, Phase phase, int promptLength, Prefix prefix) {
    public Row {
      if (promptLength < 0) {
        throw new IllegalArgumentException("batch: a prompt of " + promptLength + " tokens");
      }
    }

    /// A row that says nothing of its prompt.
    public Row(int slot, int[] ids, HeadMask mask, Phase phase) {
      this(slot, ids, mask, phase, 0);
    }

    /// A row that begins with nothing of another.
    public Row(int slot, int[] ids, HeadMask mask, Phase phase, int promptLength) {
      this(slot, ids, mask, phase, promptLength, Prefix.NONE);
    }

    /// A whole sequence outside any cache, all of it prompt.
    public static Row whole(int[] ids, HeadMask mask) {
      return new Row(0, ids, mask, Phase.PREFILL);
    }

    /// This row as part of a sequence that begins with a prompt of so many tokens.
    public Row ofPrompt(int length) {
      return new Row(slot, ids, mask, phase, length, prefix);
    }

    /// These ids behind the first tokens of an earlier row.
    public Row after(int row, int tokens) {
      return new Row(slot, ids, mask, phase, promptLength, new Prefix(row, tokens));
    }
  }

  /// The first tokens of an earlier row of the same mask that has no prefix itself. They are computed
  /// there, once; the row behind them gives what it gives as a whole, with F32 activations to the bit.
  ///
  /// @param row number of that row, or -1
  /// @param tokens how many, at most those of that row
  public record Prefix(int row, int tokens) {
    /// Nothing.
    public static final Prefix NONE = new Prefix(-1, 0);
  }
}
