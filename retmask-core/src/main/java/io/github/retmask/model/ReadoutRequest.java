package io.github.retmask.model;

/// For which tokens of a forward every head's attention is reported, see
/// [io.github.retmask.backend.AttentionReadout].
///
/// @param tokens packed token indices, ascending, `[Q]`
/// @param spans `[Q][P][2]` position ranges whose attention mass is wanted; P may be 0
public record ReadoutRequest(int[] tokens, int[][][] spans) {

  /// Nothing is reported.
  public static final ReadoutRequest NONE = new ReadoutRequest(new int[0], new int[0][][]);

  /// Read-outs without spans.
  public static ReadoutRequest of(int... tokens) {
    return new ReadoutRequest(tokens, new int[tokens.length][0][2]);
  }
}
