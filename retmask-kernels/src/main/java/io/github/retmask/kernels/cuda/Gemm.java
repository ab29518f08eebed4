package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.tensor.Tensor;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/// The three products of a linear layer on tensor cores: operands in BF16, sums in F32, rounded once.
/// The same call gives the same bits on every run.
interface Gemm extends AutoCloseable {

  /// cuBLAS where there is one, else our own kernels.
  static Gemm open(Gpu gpu) {
    if (CublasLibrary.load() == null) {
      Logger log = LoggerFactory.getLogger(Gemm.class);
      try {
        Gemm gemm = new CublasGemm(gpu);
        log.info("cuda: products by {}", gemm.name());
        return gemm;
      } catch (IllegalStateException e) {
        log.warn("{}; products by our own kernels", e.getMessage());
      }
    }
    return new TensorCoreGemm(gpu);
  }

  /// `out = x W^T + bias`.
  ///
  /// @param out BF16 or F32 `[N,O]`
  /// @param x BF16 `[N,I]`
  /// @param weight BF16 `[O,I]`
  /// @param bias `[O]` or null
  void forward(Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias);

  /// `dx (+)= dOut W`.
  ///
  /// @param dx BF16 `[N,I]`
  /// @param dOut BF16 `[N,O]`
  /// @param weight BF16 `[O,I]`
  void backwardInput(Tensor dx, Tensor dOut, Tensor weight, Accumulate intoDx);

  /// `dWeight += dOut^T x`.
  ///
  /// @param dWeight F32 `[O,I]`
  /// @param dOut BF16 `[N,O]`
  /// @param x BF16 `[N,I]`
  void backwardWeight(Tensor dWeight, Tensor dOut, Tensor x);

  /// What multiplies, for reports.
  String name();

  @Override
  void close();
}
