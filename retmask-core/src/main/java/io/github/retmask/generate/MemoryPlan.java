package io.github.retmask.generate;

import io.github.retmask.model.KvCache;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.RopeSpec;
import io.github.retmask.model.Transformer;
import io.github.retmask.tensor.FreeMemory;
import io.github.retmask.tensor.Storage;
import io.github.retmask.tensor.Tensor;
import java.util.Locale;
import java.util.Set;
import java.util.stream.Collectors;

/// Memory that generating takes, computed beforehand: bytes. The Java machine and the tokenizer come
/// on top; they do not depend on the context.
///
/// @param weights weights that are mapped from files, which the system loads as they are read;
///   those in memory of this process are taken already
/// @param keysValues keys and values of all rows
/// @param activations activations and logits of a step, and rope tables
public record MemoryPlan(long weights, long keysValues, long activations) {

  /// What a model needs.
  ///
  /// @param rows sequences at a time
  /// @param positions prompt and continuation of the longest
  /// @param prefillTokens prompt tokens that one step reads, at most
  public static MemoryPlan of(Transformer model, int rows, int positions, int prefillTokens) {
    ModelConfig config = model.config();
    int read = (int) Math.min(prefillTokens, (long) rows * positions);
    int step = read + rows; // other rows decode meanwhile
    return new MemoryPlan(
        weightBytes(model, true),
        KvCache.bytes(model, rows, capacity(positions)),
        stepBytes(config, step, rows) + ropeBytes(config, positions));
  }

  /// Cache positions of a sequence: its last token is never read.
  static int capacity(int positions) {
    return Math.max(1, positions - 1);
  }

  /// Weights that lie in memory of the backend already, and count in no plan: bytes of their stored form
  /// (the vector backend holds 36 for 34 of Q8_0, 40 for 36 of Q4_0).
  public static long heldWeights(Transformer model) {
    return weightBytes(model, false);
  }

  private static long weightBytes(Transformer model, boolean mapped) {
    long bytes = 0;
    for (Tensor tensor : model.weights().tensors()) {
      boolean isMapped = tensor.storage() instanceof Storage.Host host && host.segment().isMapped();
      if (isMapped == mapped) {
        bytes += tensor.storage().bytes();
      }
    }
    return bytes;
  }

  /// What a forward over `tokens` tokens keeps at a time, see `LayerActivations`, and the logits of
  /// `rows` of them. The arena of a step holds up to a sixteenth more than it gave out.
  private static long stepBytes(ModelConfig c, int tokens, int rows) {
    long perToken =
        11L * c.hiddenSize()
            + 3L * c.intermediateSize()
            + (4L * c.heads() + 3L * c.kvHeads()) * c.headDim();
    long logits = (long) rows * (c.vocabSize() + c.hiddenSize());
    return (perToken * tokens + logits) * Float.BYTES / 16 * 17;
  }

  /// Cos and sin, each `[P, R/2]`, of every kind of layer. The tables grow by doubling.
  private static long ropeBytes(ModelConfig config, int positions) {
    Set<RopeSpec> kinds = config.layers().stream().map(LayerSpec::rope).collect(Collectors.toSet());
    long grown = Math.max(positions, Math.min(2L * positions, config.maxPositions()));
    return kinds.stream().mapToLong(rope -> grown * rope.rotaryDim() * Float.BYTES).sum();
  }

  /// All of it.
  public long total() {
    return weights + keysValues + activations;
  }

  /// The longest context of one row that `bytes` hold, 0 when they hold none.
  public static int positionsWithin(long bytes, Transformer model, int prefillTokens) {
    int fits = 0;
    int tooMany = model.config().maxPositions() + 1;
    while (tooMany - fits > 1) {
      int middle = fits + (tooMany - fits) / 2;
      if (of(model, 1, middle, prefillTokens).total() <= bytes) {
        fits = middle;
      } else {
        tooMany = middle;
      }
    }
    return fits;
  }

  /// `33.0 GiB (weights 15.0 GiB, keys and values 16.0 GiB, activations 2.0 GiB)`.
  @Override
  public String toString() {
    return String.format(
        Locale.ROOT,
        "%s (weights %s, keys and values %s, activations %s)",
        FreeMemory.text(total()),
        FreeMemory.text(weights),
        FreeMemory.text(keysValues),
        FreeMemory.text(activations));
  }
}
