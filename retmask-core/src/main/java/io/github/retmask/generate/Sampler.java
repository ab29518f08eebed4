package io.github.retmask.generate;

import io.github.retmask.backend.TokenDraw;
import io.github.retmask.random.SplitMix64;

/// Draws tokens by the Gumbel-max trick: `argmax_i (logit_i / T + g_i)` with standard Gumbel noise
/// g is a draw from softmax(logits / T) (Gumbel 1954; Maddison et al. 2014, "A* sampling").
///
/// The noise is a function of (seed, record, position, token id), so two models that read the same
/// record face the same noise: where their logits agree they draw the same token, and where logits
/// are near each other they mostly do (common random numbers). All arithmetic is IEEE double and
/// [StrictMath], the same bits on every JVM.
///
/// Holds scratch memory: one per thread.
public final class Sampler {
  private static final double LN2 = 0.6931471805599453;

  /// More than the rounding of two logarithms and a division can add to a noise bound.
  private static final double SLACK = 1e-6;

  /// Noise of a token is at most this: the smallest uniform number is 2^-53.
  private static final double MAX_NOISE = 53 * LN2 + SLACK;

  private final Ranking ranking = new Ranking();

  public Sampler() {}

  /// The token for one position.
  ///
  /// @param logits `[V]`
  /// @param record what the noise belongs to, such as the hash of a record's id
  /// @param position number of the token within the continuation, from 0
  /// @throws IllegalStateException when a logit is NaN or positive infinity
  public int sample(float[] logits, Sampling sampling, long record, int position) {
    return sample(logits, sampling.draw(record, position));
  }

  /// The token of a draw.
  ///
  /// @param logits `[V]`; a repetition penalty changes them
  /// @throws IllegalStateException when a logit is NaN or positive infinity
  public int sample(float[] logits, TokenDraw draw) {
    penalise(logits, draw);
    int top = argmax(logits);
    if (draw.temperature() == 0) {
      return top;
    }
    long key = draw.key();
    double max = logits[top];
    double temperature = draw.temperature();
    int best = top;
    double bestScore = noise(key, top);
    if (draw.topK() == 0 && draw.topP() == 1) {
      double lowest = draw.lowest();
      for (int id = 0; id < logits.length; id++) {
        double scaled = (logits[id] - max) / temperature;
        if (scaled >= lowest && canReach(bestScore, scaled, key, id)) {
          double score = scaled + noise(key, id);
          if (score > bestScore || (score == bestScore && id < best)) {
            best = id;
            bestScore = score;
          }
        }
      }
      return best;
    }
    int kept = filter(logits, max, draw);
    for (int i = 0; i < kept; i++) {
      int id = ranking.id(i);
      double score = (logits[id] - max) / temperature + noise(key, id);
      if (score > bestScore || (score == bestScore && id < best)) {
        best = id;
        bestScore = score;
      }
    }
    return best;
  }

  /// Penalises tokens that the sequence holds already (Keskar et al. 2019, section 4.1), as
  /// `RepetitionPenaltyLogitsProcessor` of Hugging Face transformers does: in F32; a negative logit is
  /// multiplied, so that the penalty lowers it too.
  private static void penalise(float[] logits, TokenDraw draw) {
    float penalty = draw.repetitionPenalty();
    for (int id : draw.seen()) {
      logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
    }
  }

  /// The highest logit, the lowest id among equals.
  ///
  /// @throws IllegalStateException when a logit is NaN or positive infinity
  public static int argmax(float[] logits) {
    int top = 0;
    float max = Float.NEGATIVE_INFINITY;
    boolean nan = false;
    for (int id = 0; id < logits.length; id++) {
      nan |= Float.isNaN(logits[id]);
      if (logits[id] > max) {
        max = logits[id];
        top = id;
      }
    }
    if (nan || !Float.isFinite(max)) {
      throw new IllegalStateException(
          "sampler: logits hold NaN or no finite maximum; check the weights with `retmask info`");
    }
    return top;
  }

  /// Whether a token may still win. With u in [2^-(n+1), 2^-n), its noise -ln(-ln(1-u)) is at most
  /// -ln u <= (n+1) ln 2, and the leading zeros of the random bits tell n: nearly every logarithm
  /// of a large vocabulary is saved.
  private static boolean canReach(double bestScore, double scaled, long key, int id) {
    double needed = bestScore - scaled;
    if (needed <= 0) {
      return true;
    }
    if (needed > MAX_NOISE) {
      return false;
    }
    int zeros = Long.numberOfLeadingZeros(SplitMix64.at(key, id));
    return needed <= (Math.min(zeros, 52) + 1) * LN2 + SLACK;
  }

  /// Standard Gumbel noise of a token: -ln(-ln(1 - u)).
  private static double noise(long key, int id) {
    double u = SplitMix64.toOpenDouble(SplitMix64.at(key, id));
    return -StrictMath.log(-StrictMath.log1p(-u));
  }

  /// Number of tokens that stay: every filter keeps a prefix of the ranking, which is made only as
  /// far as needed.
  private int filter(float[] logits, double max, TokenDraw draw) {
    double temperature = draw.temperature();
    double lowest = draw.lowest();
    ranking.start(logits);
    int atMost = draw.topK() == 0 ? logits.length : Math.min(draw.topK(), logits.length);
    double total = 0; // unnormalised probability of what top-k left
    if (draw.topP() < 1) {
      for (int i = 0; i < atMost; i++) {
        int id = atMost == logits.length ? i : ranking.id(i);
        total += StrictMath.exp((logits[id] - max) / temperature);
      }
    }
    int kept = 0;
    double reached = 0;
    while (kept < atMost && (draw.topP() == 1 || reached < draw.topP() * total)) {
      double scaled = (logits[ranking.id(kept)] - max) / temperature;
      if (scaled < lowest) {
        break;
      }
      reached += StrictMath.exp(scaled);
      kept++;
    }
    return kept;
  }
}
