package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Storage;
import io.github.retmask.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// Log-probability of one target per token, from hidden states: `logps = logit[target] - lse`.
///
/// Chunks of tokens, one after the other: a product writes a chunk's logits into scratch memory, every
/// row is reduced there; in the backward it turns into its gradient and two more products follow.
/// Limited by the products.
final class CudaTokenLogProbs {
  private static final String STEM = "token_log_probs";

  /// Logits that exist at once, 512 MiB. Every chunk reads the whole lm_head, and in the backward reads
  /// and writes its gradient in F32, which at 1024 tokens takes about as long as one of the products.
  private static final long LOGITS = 1 << 27;

  /// Tokens of a chunk however large the vocabulary; more are a multiple of this, which fills the tiles
  /// of the products.
  private static final long MIN_TOKENS = 128;

  private static final int THREADS = 512;
  private static final int WARPS_BYTES = THREADS / 32 * 2 * Float.BYTES;

  private CudaTokenLogProbs() {}

  static void tokenLogProbs(
      Gpu gpu, Tensor logps, Tensor lse, Tensor hidden, Tensor lmHead, Tensor targets) {
    chunks(gpu, LOGITS, logps, lse, null, null, null, hidden, lmHead, targets);
  }

  /// `dHidden = dLogits lmHead`, `dLmHead += dLogits^T hidden`, tokens ascending.
  static void backward(
      Gpu gpu,
      Tensor dHidden,
      Tensor dLmHead,
      Tensor dLogps,
      Tensor hidden,
      Tensor lmHead,
      Tensor targets,
      Tensor lse) {
    chunks(gpu, LOGITS, null, lse, dHidden, dLmHead, dLogps, hidden, lmHead, targets);
  }

  /// Both of the above from one product for the logits.
  static void logProbsAndGradients(
      Gpu gpu,
      Tensor logps,
      Tensor lse,
      Tensor dHidden,
      Tensor dLmHead,
      Tensor dLogps,
      Tensor hidden,
      Tensor lmHead,
      Tensor targets) {
    chunks(gpu, LOGITS, logps, lse, dHidden, dLmHead, dLogps, hidden, lmHead, targets);
  }

  /// @param most logits that exist at once, unless fewer than [#MIN_TOKENS] tokens have that many
  /// @param logps filled together with lse, or null when lse is given
  /// @param dHidden filled from dLogps together with dLmHead, or all three null
  static void chunks(
      Gpu gpu,
      long most,
      @Nullable Tensor logps,
      Tensor lse,
      @Nullable Tensor dHidden,
      @Nullable Tensor dLmHead,
      @Nullable Tensor dLogps,
      Tensor hidden,
      Tensor weight,
      Tensor targets) {
    Tensor lmHead = hidden.dtype() == DType.BF16 ? CudaMatmul.inBf16(gpu, weight) : weight;
    long vocab = lmHead.dim(0);
    long tokens = hidden.dim(0);
    long size = Math.max(MIN_TOKENS, most / vocab / MIN_TOKENS * MIN_TOKENS);
    size = Math.max(1, Math.min(tokens, size));
    Tensor room = scratch(gpu, "logits", DType.F32, size, vocab);
    Tensor gradientRoom =
        dLogps == null || hidden.dtype() == DType.F32
            ? room
            : scratch(gpu, "dLogits", hidden.dtype(), size, vocab);
    long targetsAt = gpu.onDevice(targets);
    for (long m = 0; m < tokens; m += size) {
      long count = Math.min(size, tokens - m);
      long targetsOfChunk = targetsAt + Integer.BYTES * m;
      Tensor states = hidden.slice(m, m + count);
      Tensor logits = room.slice(0, count);
      Tensor lseOfChunk = lse.slice(m, m + count);
      CudaMatmul.matmul(gpu, logits, states, lmHead, null);
      if (logps != null) {
        gpu.launch(STEM, "token_log_probs")
            .tensor(logps.slice(m, m + count))
            .tensor(lseOfChunk)
            .tensor(logits)
            .address(targetsOfChunk)
            .integer(vocab)
            .run(count, 1, 1, THREADS, WARPS_BYTES);
      }
      if (dHidden != null && dLmHead != null && dLogps != null) {
        Tensor dLogits = gradientRoom.slice(0, count);
        gpu.launch(STEM, "token_log_probs_gradient" + Gpu.suffix(dLogits))
            .tensor(dLogits)
            .tensor(logits)
            .tensor(lseOfChunk)
            .tensor(dLogps.slice(m, m + count))
            .address(targetsOfChunk)
            .integer(vocab)
            .run(count, Math.ceilDiv(vocab, 4 * THREADS), 1, THREADS, 0);
        CudaMatmul.backwardInput(gpu, dHidden.slice(m, m + count), dLogits, lmHead, Accumulate.SET);
        CudaMatmul.backwardWeight(gpu, dLmHead, null, dLogits, states);
      }
    }
  }

  private static Tensor scratch(Gpu gpu, String name, DType type, long rows, long columns) {
    long bytes = type.bytes(rows * columns);
    return new Tensor(
        name,
        type,
        Shape.of(rows, columns),
        new Storage.Device(gpu.scratch(bytes), bytes, gpu, null));
  }
}
