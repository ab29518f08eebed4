package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.VIRTUAL;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import org.jspecify.annotations.Nullable;

/// Log-probability of one target per token, from hidden states: `logps = logit[target] - lse`.
///
/// Chunks of tokens, one after the other: [VectorMatmul] writes a chunk's logits into scratch, every
/// row is reduced there; in the backward it turns into its gradient and two more products follow.
/// Limited by the products.
final class VectorTokenLogProbs {
  /// Logits that exist at once, 32 MiB. Every chunk reads and packs the whole lm_head: with half of
  /// this, 131 tokens at a vocabulary of 32000, both directions together took a tenth longer.
  private static final long LOGITS = 1 << 23;

  /// Tokens of a chunk however large the vocabulary: at 128256, chunks of 32 took 1.7 times as long.
  private static final long MIN_TOKENS = 128;

  /// Elements of a partial sum of exponentials, which are then added in double.
  private static final int PART = 512;

  /// Logits per thread below which another one is not worth waking.
  private static final long SMALL = 1 << 13;

  private static final int LANES = 0;
  private static final int ROW = 1;

  private VectorTokenLogProbs() {}

  static void tokenLogProbs(
      WorkerPool pool, Tensor logps, Tensor lse, Tensor hidden, Tensor lmHead, Tensor targets) {
    int vocab = (int) lmHead.dim(0);
    long tokens = hidden.dim(0);
    long size = chunk(tokens, vocab);
    for (long m0 = 0; m0 < tokens; m0 += size) {
      long from = m0;
      long count = Math.min(size, tokens - m0);
      MemorySegment rows = logits(pool, hidden.slice(m0, m0 + count), lmHead).segment();
      pool.ranges(
          count,
          1,
          Math.max(1, SMALL / vocab),
          (r0, r1, scratch) -> {
            float[] lanes = scratch.floats(LANES, VIRTUAL);
            float[] row = scratch.floats(ROW, vocab + WIDTH);
            for (long r = r0; r < r1; r++) {
              MemorySegment.copy(rows, Lanes.F32, 4 * r * vocab, row, 0, vocab);
              logProb(logps, lse, from + r, row, vocab, targets.getInt(from + r), lanes);
            }
          });
    }
  }

  /// `dLogits = dLogps (1{v = target} - exp(logit - lse))`, `dHidden = dLogits lmHead`, `dLmHead +=
  /// dLogits^T hidden`, tokens ascending.
  static void backward(
      WorkerPool pool,
      Tensor dHidden,
      Tensor dLmHead,
      Tensor dLogps,
      Tensor hidden,
      Tensor lmHead,
      Tensor targets,
      Tensor lse) {
    gradients(pool, null, lse, dHidden, dLmHead, dLogps, hidden, lmHead, targets);
  }

  /// Both of the above from one product for the logits.
  static void logProbsAndGradients(
      WorkerPool pool,
      Tensor logps,
      Tensor lse,
      Tensor dHidden,
      Tensor dLmHead,
      Tensor dLogps,
      Tensor hidden,
      Tensor lmHead,
      Tensor targets) {
    gradients(pool, logps, lse, dHidden, dLmHead, dLogps, hidden, lmHead, targets);
  }

  /// @param logps filled together with lse, or null when lse is given
  private static void gradients(
      WorkerPool pool,
      @Nullable Tensor logps,
      Tensor lse,
      Tensor dHidden,
      Tensor dLmHead,
      Tensor dLogps,
      Tensor hidden,
      Tensor lmHead,
      Tensor targets) {
    int vocab = (int) lmHead.dim(0);
    long tokens = hidden.dim(0);
    long size = chunk(tokens, vocab);
    for (long m0 = 0; m0 < tokens; m0 += size) {
      long from = m0;
      long count = Math.min(size, tokens - m0);
      Tensor part = hidden.slice(m0, m0 + count);
      Tensor logits = logits(pool, part, lmHead);
      MemorySegment rows = logits.segment();
      pool.ranges(
          count,
          1,
          Math.max(1, SMALL / vocab),
          (r0, r1, scratch) -> {
            float[] lanes = scratch.floats(LANES, VIRTUAL);
            float[] row = scratch.floats(ROW, vocab + WIDTH);
            for (long r = r0; r < r1; r++) {
              int target = targets.getInt(from + r);
              if (logps != null) {
                MemorySegment.copy(rows, Lanes.F32, 4 * r * vocab, row, 0, vocab);
                logProb(logps, lse, from + r, row, vocab, target, lanes);
              }
              MemorySegment.copy(rows, Lanes.F32, 4 * r * vocab, row, 0, vocab);
              float d = dLogps.get(from + r);
              gradient(row, vocab, lse.get(from + r), -d);
              row[target] += d;
              MemorySegment.copy(row, 0, rows, Lanes.F32, 4 * r * vocab, vocab);
            }
          });
      VectorMatmul.backwardInput(
          pool, dHidden.slice(m0, m0 + count), logits, lmHead, Accumulate.SET);
      VectorMatmul.backwardWeight(pool, dLmHead, null, logits, part);
    }
  }

  private static long chunk(long tokens, int vocab) {
    return Math.max(1, Math.min(tokens, Math.max(MIN_TOKENS, LOGITS / vocab)));
  }

  /// The logits of a chunk, in scratch.
  private static Tensor logits(WorkerPool pool, Tensor hidden, Tensor lmHead) {
    Shape shape = Shape.of(hidden.dim(0), lmHead.dim(0));
    MemorySegment memory = pool.callerScratch().segment(shape.size());
    Tensor logits = Tensor.host("logits", DType.F32, shape, memory);
    VectorMatmul.matmul(pool, logits, hidden, lmHead, null);
    return logits;
  }

  /// Overwrites `row`, the logits of token m.
  private static void logProb(
      Tensor logps, Tensor lse, long m, float[] row, int vocab, int target, float[] lanes) {
    float logit = row[target];
    double logSumExp = logSumExp(row, vocab, lanes);
    lse.set(m, (float) logSumExp);
    logps.set(m, (float) (logit - logSumExp));
  }

  /// Leaves the exponentials in `x`.
  private static double logSumExp(float[] x, int count, float[] lanes) {
    float max = largest(x, count);
    double sum = 0;
    for (int i = 0; i < count; i += PART) {
      sum += sumOfExponentials(x, i, Math.min(PART, count - i), max, lanes);
    }
    return max + StrictMath.log(sum);
  }

  private static float largest(float[] x, int count) {
    int full = count & -WIDTH;
    float largest = Float.NEGATIVE_INFINITY;
    if (full > 0) {
      FloatVector top = FloatVector.fromArray(FLOAT, x, 0);
      for (int i = WIDTH; i < full; i += WIDTH) {
        top = top.max(FloatVector.fromArray(FLOAT, x, i));
      }
      largest = top.reduceLanes(VectorOperators.MAX); // exact in any order
    }
    for (int i = full; i < count; i++) {
      largest = Math.max(largest, x[i]);
    }
    return largest;
  }

  /// The exponentials replace `x`.
  private static float sumOfExponentials(float[] x, int at, int count, float max, float[] lanes) {
    int full = count & -VIRTUAL;
    Exp.exp(x, at, x, at, full, 1f, max);
    for (int part = 0; part < VIRTUAL; part += WIDTH) {
      FloatVector sum = FloatVector.zero(FLOAT);
      for (int i = part; i < full; i += VIRTUAL) {
        sum = sum.add(FloatVector.fromArray(FLOAT, x, at + i));
      }
      sum.intoArray(lanes, part);
    }
    for (int i = full; i < count; i++) {
      lanes[i - full] += Exp.exp(x[at + i] - max);
    }
    return Lanes.tree(lanes, 0);
  }

  /// `x = factor exp(x - lse)` for `count` floats and the rest of the last vector.
  private static void gradient(float[] x, int count, float lse, float factor) {
    Exp.exp(x, 0, x, 0, count, 1f, lse);
    for (int i = 0; i < count; i += WIDTH) {
      FloatVector.fromArray(FLOAT, x, i).mul(factor).intoArray(x, i);
    }
  }
}
