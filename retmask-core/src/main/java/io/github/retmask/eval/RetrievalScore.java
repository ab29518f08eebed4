package io.github.retmask.eval;

import java.util.HashSet;
import java.util.Set;

/// Three readings of the retrieval score of Wu et al., "Retrieval head mechanistically explains
/// long-context factuality" (2024): the part of the needle that a head copies while the model
/// answers.
public enum RetrievalScore {
  /// As nightdessert/Retrieval_Head and YoumiMa/RetMask compute it: every hit adds 1 / needle length.
  /// A repeated answer counts again, so scores can exceed 1.
  SCRIPT("script") {
    @Override
    double score(RetrievalTrace trace, int head) {
      double each = 1.0 / (trace.needleEnd() - trace.needleStart());
      double score = 0;
      for (int step = 0; step < trace.tokens().length; step++) {
        score += trace.hits(step, head) ? each : 0;
      }
      return score;
    }
  },
  /// The paper's formula |g ∩ k| / |k| over sets of token ids: a needle that repeats a token has it
  /// once.
  SET_TOKENS("set_tokens") {
    @Override
    double score(RetrievalTrace trace, int head) {
      Set<Integer> needle = new HashSet<>();
      for (int i = trace.needleStart();
          i < Math.min(trace.needleEnd(), trace.promptIds().length);
          i++) {
        needle.add(trace.promptIds()[i]);
      }
      Set<Integer> copied = new HashSet<>();
      for (int step = 0; step < trace.tokens().length; step++) {
        if (trace.hits(step, head)) {
          copied.add(trace.tokens()[step]);
        }
      }
      return (double) copied.size() / needle.size();
    }
  },
  /// Distinct needle positions hit over the needle's length: the strict score, never above 1.
  SET_POSITIONS("set_positions") {
    @Override
    double score(RetrievalTrace trace, int head) {
      Set<Integer> positions = new HashSet<>();
      for (int step = 0; step < trace.tokens().length; step++) {
        if (trace.hits(step, head)) {
          positions.add(trace.top1()[step][head]);
        }
      }
      return (double) positions.size() / (trace.needleEnd() - trace.needleStart());
    }
  };

  private static final double REQUIRED_RECALL = 50;

  private final String label;

  RetrievalScore(String label) {
    this.label = label;
  }

  /// The name in files.
  public String label() {
    return label;
  }

  /// The score of every head, at `layer * heads + head`; all 0 when the needle was not found.
  ///
  /// @param headCount layers x heads
  public double[] scores(RetrievalTrace trace, int headCount) {
    double[] scores = new double[headCount];
    if (trace.needleStart() < trace.needleEnd()) {
      for (int head = 0; head < headCount; head++) {
        scores[head] = score(trace, head);
      }
    }
    return scores;
  }

  abstract double score(RetrievalTrace trace, int head);

  /// Whether a response repeats the answer well enough for its trial to count: ROUGE-1 recall of more
  /// than 50 %.
  public static boolean isSuccess(String answer, String response) {
    return Rouge.rouge1(answer, response).recall() * 100 > REQUIRED_RECALL;
  }
}
