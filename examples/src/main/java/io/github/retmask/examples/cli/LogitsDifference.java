package io.github.retmask.examples.cli;

import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.model.KvCache;
import io.github.retmask.model.Observer;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.model.Transformer;
import io.github.retmask.tensor.TensorArena;
import java.util.Arrays;
import java.util.stream.IntStream;

/// How far the predictions of two models over one vocabulary lie apart, after every token of a text.
///
/// @param tokens tokens of the text
/// @param meanKl mean of the Kullback-Leibler divergence, in nats
/// @param largestKl largest of it
/// @param sameFirst tokens after which both have the same likeliest next token
record LogitsDifference(int tokens, double meanKl, double largestKl, int sameFirst) {

  /// @param p the model that the divergence is taken under
  /// @param q the model that is compared with it
  /// @param ids tokens, at least one
  static LogitsDifference of(Transformer p, Transformer q, int[] ids) {
    double sum = 0;
    double largest = 0;
    int same = 0;
    try (Reader ofP = new Reader(p, ids);
        Reader ofQ = new Reader(q, ids)) {
      for (int from = 0; from < ids.length; from += ForwardPass.PIECE) {
        float[] logitsP = ofP.next();
        float[] logitsQ = ofQ.next();
        int v = p.config().vocabSize();
        for (int at = 0; at < logitsP.length; at += v) {
          double kl = divergence(logitsP, logitsQ, at, v);
          sum += kl;
          largest = Math.max(largest, kl);
          same += first(logitsP, at, v) == first(logitsQ, at, v) ? 1 : 0;
        }
      }
    }
    return new LogitsDifference(ids.length, sum / ids.length, largest, same);
  }

  /// The logits of a text, piece by piece.
  private static final class Reader implements AutoCloseable {
    private final Transformer model;
    private final int[] ids;
    private final KvCache cache;
    private final TensorArena step;
    private int read;

    Reader(Transformer model, int[] ids) {
      this.model = model;
      this.ids = ids;
      this.cache = new KvCache(model, 1, ids.length);
      this.step = model.ops().arena(TensorArena.Lifetime.STEP);
    }

    /// `[T,V]` of the next piece of T tokens.
    float[] next() {
      int[] part = Arrays.copyOfRange(ids, read, Math.min(read + ForwardPass.PIECE, ids.length));
      read += part.length;
      Batch.Row row = new Batch.Row(0, part, model.noMask(), Batch.Phase.PREFILL, ids.length);
      Activations a =
          model.forward(
              Batch.of(row),
              cache,
              Activations.Keep.RESULT,
              ReadoutRequest.NONE,
              step,
              Observer.NONE);
      float[] logits = model.logits(a, step, IntStream.range(0, part.length).toArray()).toFloats();
      step.reset();
      return logits;
    }

    @Override
    public void close() {
      step.close();
      cache.close();
    }
  }

  /// Sum of p (ln p - ln q) over V logits from `at` on.
  private static double divergence(float[] p, float[] q, int at, int v) {
    double lseP = logSumExp(p, at, v);
    double lseQ = logSumExp(q, at, v);
    double sum = 0;
    for (int i = at; i < at + v; i++) {
      double logP = p[i] - lseP;
      sum += Math.exp(logP) * (logP - (q[i] - lseQ));
    }
    return Math.max(0, sum); // never negative but for rounding
  }

  private static double logSumExp(float[] logits, int at, int v) {
    double largest = logits[first(logits, at, v)];
    double sum = 0;
    for (int i = at; i < at + v; i++) {
      sum += Math.exp(logits[i] - largest);
    }
    return largest + Math.log(sum);
  }

  /// Where the largest of V logits lies; the first of equals.
  private static int first(float[] logits, int at, int v) {
    int best = at;
    for (int i = at + 1; i < at + v; i++) {
      best = logits[i] > logits[best] ? i : best;
    }
    return best;
  }
}
