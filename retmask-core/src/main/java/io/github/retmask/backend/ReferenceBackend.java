package io.github.retmask.backend;

import org.jspecify.annotations.Nullable;

/// Scalar Java on one thread: the formulas of [Kernels] as written there, with sums in double where
/// the contract leaves the order open. It runs everywhere and is the oracle for all other backends.
public final class ReferenceBackend implements Backend {

  public ReferenceBackend() {}

  @Override
  public String name() {
    return "reference";
  }

  @Override
  public int rank() {
    return 0;
  }

  @Override
  public @Nullable String whyUnavailable() {
    return null;
  }

  /// Starts the backend.
  ///
  /// @param threads accepted as every backend does; one thread computes
  @Override
  public Kernels open(int threads) {
    return new ReferenceKernels();
  }
}
