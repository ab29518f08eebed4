package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.LE;
import static io.github.retmask.kernels.cpu.Lanes.VIRTUAL;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;

/// Log-probability of one target per token, from hidden states: `logps = logit[target] - lse`.
///
/// Chunks of tokens, one after the other: [VectorMatmul] writes a chunk's logits into scratch, every
/// row is reduced where it lies; in the backward the row turns into its gradient there and two more
/// products follow. Limited by the products.
final class VectorTokenLogProbs {
  /// Logits that exist at once, 16 MiB.
  private static final long LOGITS = 1 << 22;

  /// Elements of a partial sum of exponentials, which are then added in double.
  private static final int PART = 512;

  /// Logits per thread below which another one is not worth waking.
  private static final long SMALL = 1 << 13;

  private static final int LANES = 0;
  private static final int CHUNK = 3;

  private VectorTokenLogProbs() {}

  static void tokenLogProbs(
      WorkerPool pool, Tensor logps, Tensor lse, Tensor hidden, Tensor lmHead, Tensor targets) {
    int vocab = (int) lmHead.dim(0);
    long tokens = hidden.dim(0);
    long size = chunk(tokens, vocab);
    for (long m0 = 0; m0 < tokens; m0 += size) {
      long from = m0;
      long count = Math.min(size, tokens - m0);
      Tensor logits = logits(pool, hidden.slice(m0, m0 + count), lmHead);
      MemorySegment rows = logits.segment();
      pool.ranges(
          count,
          1,
          Math.max(1, SMALL / vocab),
          (r0, r1, scratch) -> {
            float[] lanes = scratch.floats(LANES, VIRTUAL);
            for (long r = r0; r < r1; r++) {
              long at = 4 * r * vocab;
              double logSumExp = logSumExp(rows, at, vocab, lanes);
              float logit = Lanes.get(rows, at + 4L * targets.getInt(from + r));
              lse.set(from + r, (float) logSumExp);
              logps.set(from + r, (float) (logit - logSumExp));
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
          (r0, r1, _) -> {
            for (long r = r0; r < r1; r++) {
              float d = dLogps.get(from + r);
              long at = 4 * r * vocab;
              gradient(rows, at, vocab, lse.get(from + r), d);
              long target = at + 4L * targets.getInt(from + r);
              Lanes.set(rows, target, Lanes.get(rows, target) + d);
            }
          });
      VectorMatmul.backwardInput(
          pool, dHidden.slice(m0, m0 + count), logits, lmHead, Accumulate.SET);
      VectorMatmul.backwardWeight(pool, dLmHead, null, logits, part);
    }
  }

  private static long chunk(long tokens, int vocab) {
    return Math.max(1, Math.min(tokens, Math.max(16, LOGITS / vocab)));
  }

  /// The logits of a chunk, in scratch.
  private static Tensor logits(WorkerPool pool, Tensor hidden, Tensor lmHead) {
    Shape shape = Shape.of(hidden.dim(0), lmHead.dim(0));
    MemorySegment memory =
        pool.callerScratch().segment(CHUNK, shape.size()).asSlice(0, 4 * shape.size());
    Tensor logits = Tensor.host("logits", DType.F32, shape, memory);
    VectorMatmul.matmul(pool, logits, hidden, lmHead, null);
    return logits;
  }

  private static double logSumExp(MemorySegment x, long at, int count, float[] lanes) {
    float max = largest(x, at, count);
    double sum = 0;
    for (int i = 0; i < count; i += PART) {
      sum += sumOfExponentials(x, at + i * 4L, Math.min(PART, count - i), max, lanes);
    }
    return max + StrictMath.log(sum);
  }

  private static float largest(MemorySegment x, long at, int count) {
    int i = 0;
    float largest = Float.NEGATIVE_INFINITY;
    if (count >= WIDTH) {
      FloatVector top = Lanes.load(x, at);
      for (i = WIDTH; i <= count - WIDTH; i += WIDTH) {
        top = top.max(Lanes.load(x, at + i * 4L));
      }
      largest = top.reduceLanes(VectorOperators.MAX); // exact in any order
    }
    for (; i < count; i++) {
      largest = Math.max(largest, Lanes.get(x, at + i * 4L));
    }
    return largest;
  }

  private static float sumOfExponentials(
      MemorySegment x, long at, int count, float max, float[] lanes) {
    int full = count & -VIRTUAL;
    for (int part = 0; part < VIRTUAL; part += WIDTH) {
      FloatVector sum = FloatVector.zero(Lanes.FLOAT);
      long from = at + part * 4L;
      for (int i = 0; i < full; i += VIRTUAL) {
        sum = sum.add(Lanes.exp(Lanes.load(x, from + i * 4L).sub(max)));
      }
      sum.intoArray(lanes, part);
    }
    for (int i = full; i < count; i++) {
      lanes[i - full] += Lanes.exp(Lanes.get(x, at + i * 4L) - max);
    }
    return Lanes.tree(lanes, 0);
  }

  /// `x = -d exp(x - lse)`.
  private static void gradient(MemorySegment x, long at, int count, float lse, float d) {
    int i = 0;
    for (; i <= count - WIDTH; i += WIDTH) {
      Lanes.exp(Lanes.load(x, at + i * 4L).sub(lse)).mul(-d).intoMemorySegment(x, at + i * 4L, LE);
    }
    for (; i < count; i++) {
      Lanes.set(x, at + i * 4L, Lanes.exp(Lanes.get(x, at + i * 4L) - lse) * -d);
    }
  }
}
