package io.github.retmask.backend;

import io.github.retmask.random.SplitMix64;

/// How the next token of one sequence is drawn from its logits. The steps and their order are those of
/// [io.github.retmask.generate.Sampling].
///
/// @param key what the noise of the token ids is a function of, see [#key(long, long, int)]
/// @param temperature divisor of the logits; 0 takes the likeliest token
/// @param topK tokens that stay, 0 for all
/// @param topP probability that must stay, 1 for all
/// @param minP lowest probability relative to the likeliest token, 0 for none
/// @param repetitionPenalty penalty of the tokens `seen`, 1 for none
/// @param seen different token ids that the sequence holds already; empty where there is no penalty
public record TokenDraw(
    long key,
    double temperature,
    int topK,
    double topP,
    double minP,
    float repetitionPenalty,
    int[] seen) {

  /// Key of the noise for one position of one record: the same everywhere.
  public static long key(long seed, long record, int position) {
    return SplitMix64.at(SplitMix64.at(seed, record), position);
  }

  /// Lowest scaled logit, relative to the likeliest token's 0, that min-p keeps.
  public double lowest() {
    return minP == 0 ? Double.NEGATIVE_INFINITY : StrictMath.log(minP);
  }

  /// This draw from logits that bear the penalty already.
  public TokenDraw withoutPenalty() {
    return new TokenDraw(key, temperature, topK, topP, minP, 1, new int[0]);
  }
}
