package io.github.retmask.generate;

import io.github.retmask.heads.HeadMask;

/// One continuation to generate.
///
/// @param prompt token ids, at least one; kept, not copied
/// @param mask heads that are switched for this request
/// @param sampling how tokens are chosen
/// @param record what the noise belongs to; twins with one record face the same noise
/// @param maxNewTokens length limit, at least 1
/// @param stop what else ends it
/// @param readAttention whether the completion reports each step's attention
public record GenerationRequest(
    int[] prompt,
    HeadMask mask,
    Sampling sampling,
    long record,
    int maxNewTokens,
    StopRule stop,
    boolean readAttention) {

  public GenerationRequest {
    if (prompt.length == 0) {
      throw new IllegalArgumentException("request: the prompt has no tokens, want at least one");
    }
    if (maxNewTokens < 1) {
      throw new IllegalArgumentException(
          "request: %d new tokens, want at least 1".formatted(maxNewTokens));
    }
  }

  /// The likeliest token at every step, up to the length limit.
  public static GenerationRequest greedy(int[] prompt, HeadMask mask, int maxNewTokens) {
    return new GenerationRequest(
        prompt, mask, Sampling.GREEDY, 0, maxNewTokens, StopRule.NEVER, false);
  }

  /// This request under another mask.
  public GenerationRequest withMask(HeadMask newMask) {
    return new GenerationRequest(
        prompt, newMask, sampling, record, maxNewTokens, stop, readAttention);
  }

  /// This request with tokens drawn under the noise of `newRecord`.
  public GenerationRequest withSampling(Sampling newSampling, long newRecord) {
    return new GenerationRequest(
        prompt, mask, newSampling, newRecord, maxNewTokens, stop, readAttention);
  }

  /// This request with another rule for its end.
  public GenerationRequest withStop(StopRule newStop) {
    return new GenerationRequest(
        prompt, mask, sampling, record, maxNewTokens, newStop, readAttention);
  }

  /// This request with attention reported.
  public GenerationRequest withAttention() {
    return new GenerationRequest(prompt, mask, sampling, record, maxNewTokens, stop, true);
  }

  /// Positions of the model that it needs at most: prompt and continuation.
  public long positions() {
    return (long) prompt.length + maxNewTokens;
  }
}
