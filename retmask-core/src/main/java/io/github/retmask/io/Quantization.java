package io.github.retmask.io;

import io.github.retmask.tensor.DType;
import java.util.Locale;

/// What matrices of weights are rounded to when a model is opened, for inference. The bits of each
/// are those of llama.cpp's reference quantisation.
public enum Quantization {
  /// Every matrix to [DType#Q8_0].
  Q8_0(DType.Q8_0),
  /// Every matrix to [DType#Q4_0], but the one that gives the logits to [DType#Q8_0]: llama.cpp keeps
  /// it finer than the others too (Q6_K).
  Q4_0(DType.Q4_0);

  private final DType inner;

  Quantization(DType inner) {
    this.inner = inner;
  }

  /// The type of a matrix.
  ///
  /// @param isOutput whether it gives the logits: lm_head, or the table of embeddings where the two are
  ///   tied
  DType of(boolean isOutput) {
    return isOutput ? DType.Q8_0 : inner;
  }

  /// `q8_0` or `q4_0`.
  public String label() {
    return name().toLowerCase(Locale.ROOT);
  }
}
