package io.github.retmask.eval;

/// What the heads looked at while a model answered one needle prompt.
///
/// A head **hits** at a step when its top-1 position lies in the needle and the prompt holds there
/// the token that the step generated.
///
/// @param promptIds token ids of the prompt
/// @param needleStart first needle position in the prompt, or -1 when the needle was not found
/// @param needleEnd one past the last needle position
/// @param tokens the generated token of each step
/// @param top1 `[steps][L*H]`: the position with the largest attention weight of the query that
///     produced the token, absolute, at `layer * heads + head`
public record RetrievalTrace(
    int[] promptIds, int needleStart, int needleEnd, int[] tokens, int[][] top1) {
  public RetrievalTrace {
    if (tokens.length != top1.length) {
      throw new IllegalArgumentException(
          "trace of %d tokens with read-outs of %d steps".formatted(tokens.length, top1.length));
    }
  }

  boolean hits(int step, int headIndex) {
    int position = top1[step][headIndex];
    return needleStart <= position
        && position < needleEnd
        && position < promptIds.length
        && promptIds[position] == tokens[step];
  }
}
