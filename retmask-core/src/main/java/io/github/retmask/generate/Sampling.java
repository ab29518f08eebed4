package io.github.retmask.generate;

import io.github.retmask.backend.TokenDraw;

/// How the next token is chosen from logits. Steps act in the order of Hugging Face transformers
/// (`GenerationMixin._get_logits_processor`); vLLM differs in taking min-p before top-k:
///
/// 1. repetition penalty: the logit of every token that the prompt or the continuation holds so far
///    is divided by it when positive, else multiplied;
/// 2. temperature, which with 0 ends here: the likeliest token is taken;
/// 3. top-k: the `topK` likeliest tokens stay;
/// 4. top-p: of these, renormalised, the fewest likeliest ones whose probabilities reach `topP`;
/// 5. min-p: of these, the ones with at least `minP` times the probability of the likeliest.
///
/// Equal logits rank by token id, lowest first. The likeliest token always stays.
///
/// @param temperature divisor of the logits; 0 takes the likeliest token
/// @param topK tokens that stay, 0 for all
/// @param topP probability that must stay, 1 for all (Holtzman et al. 2020, nucleus sampling)
/// @param minP lowest probability relative to the likeliest token, 0 for none (Nguyen et al. 2024)
/// @param repetitionPenalty penalty of what was said before, 1 for none (Keskar et al. 2019, CTRL;
///   the sign rule is that of transformers); below 1 rewards repetition
/// @param seed seed of the noise; the same seed and record give the same noise
public record Sampling(
    double temperature, int topK, double topP, double minP, double repetitionPenalty, long seed) {

  /// The likeliest token, the lowest id among equals.
  public static final Sampling GREEDY = new Sampling(0, 0, 1, 0, 1, 0);

  public Sampling {
    if (!(temperature >= 0 && temperature < Double.POSITIVE_INFINITY)) {
      throw new IllegalArgumentException(
          "temperature %s: want a finite number >= 0; 0 is greedy".formatted(temperature));
    }
    if (topK < 0) {
      throw new IllegalArgumentException("top-k %d: want >= 0; 0 keeps all".formatted(topK));
    }
    if (!(topP > 0 && topP <= 1)) {
      throw new IllegalArgumentException("top-p %s: want 0 < p <= 1; 1 keeps all".formatted(topP));
    }
    if (!(minP >= 0 && minP <= 1)) {
      throw new IllegalArgumentException("min-p %s: want 0 <= p <= 1; 0 keeps all".formatted(minP));
    }
    if (!(repetitionPenalty > 0 && repetitionPenalty < Double.POSITIVE_INFINITY)) {
      throw new IllegalArgumentException(
          "repetition-penalty %s: want a finite number > 0; 1 is none"
              .formatted(repetitionPenalty));
    }
  }

  /// Unfiltered sampling; temperature 0 is greedy.
  public static Sampling of(double temperature, long seed) {
    return new Sampling(temperature, 0, 1, 0, 1, seed);
  }

  /// Whether no noise is involved.
  public boolean isGreedy() {
    return temperature == 0;
  }

  /// This sampling with another repetition penalty.
  public Sampling withRepetitionPenalty(double penalty) {
    return new Sampling(temperature, topK, topP, minP, penalty, seed);
  }

  /// How the token of one position is drawn.
  ///
  /// @param record what the noise belongs to, such as the hash of a record's id
  /// @param position number of the token within the continuation, from 0
  /// @param seen different ids of prompt and continuation so far; needed with a repetition penalty
  public TokenDraw draw(long record, int position, int... seen) {
    return new TokenDraw(
        TokenDraw.key(seed, record, position),
        temperature,
        topK,
        topP,
        minP,
        (float) repetitionPenalty,
        seen);
  }
}
