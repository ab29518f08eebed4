package io.github.retmask.backend;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.Arrays;

/// What one layer's attention reports about chosen query tokens, for all heads, from the online
/// softmax itself: memory O(Q H), never O(S).
///
/// Positions are absolute within the row, also in sliding-window layers; ties go to the lowest. A
/// head that does not attend (modes MEAN and SKIP) reports position -1, weight 0, mass 0 and
/// log-sum-exp -infinity.
///
/// @param queries packed token indices, strictly ascending, `[Q]`
/// @param spans `[Q][P][2]`: per query the same number P of position ranges `[start, end)`; P may
///   be 0
/// @param topPosition position of the largest attention weight, I32 `[Q,H]`
/// @param topWeight that weight, F32 `[Q,H]`
/// @param spanMass attention weight summed over each range, F32 `[Q,H,P]`
/// @param logSumExp log of the sum of exp(scale q . k) over the visible keys, F32 `[Q,H]`
public record AttentionReadout(
    int[] queries,
    int[][][] spans,
    Tensor topPosition,
    Tensor topWeight,
    Tensor spanMass,
    Tensor logSumExp) {

  /// Room for a read-out without spans.
  public static AttentionReadout of(TensorArena arena, int heads, int[] queries) {
    return of(arena, heads, queries, new int[queries.length][0][2]);
  }

  /// Room for a read-out with spans.
  ///
  /// @throws IllegalArgumentException when the spans are not `[Q][P][2]`
  public static AttentionReadout of(TensorArena arena, int heads, int[] queries, int[][][] spans) {
    if (spans.length != queries.length) {
      throw new IllegalArgumentException(
          "read-out: spans for " + spans.length + " queries, want " + queries.length);
    }
    int perQuery = queries.length == 0 ? 0 : spans[0].length;
    for (int[][] ofQuery : spans) {
      if (ofQuery.length != perQuery) {
        throw new IllegalArgumentException(
            "read-out: " + ofQuery.length + " spans for one query, want " + perQuery + " for all");
      }
      for (int[] span : ofQuery) {
        if (span.length != 2) {
          throw new IllegalArgumentException(
              "read-out: span " + Arrays.toString(span) + ", want [start, end)");
        }
      }
    }
    return new AttentionReadout(
        queries.clone(),
        spans,
        arena.allocate("readout.top_position", DType.I32, queries.length, heads),
        arena.floats("readout.top_weight", queries.length, heads),
        arena.floats("readout.span_mass", queries.length, heads, perQuery),
        arena.floats("readout.log_sum_exp", queries.length, heads));
  }
}
