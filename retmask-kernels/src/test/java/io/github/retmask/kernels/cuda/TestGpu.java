package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Kernels;

/// The device that the tests of this package run on: the emulated one, or with
/// `-Dretmask.test.gpu=real` the machine's own.
final class TestGpu {
  private static final boolean REAL = "real".equals(System.getProperty("retmask.test.gpu"));

  private TestGpu() {}

  /// Whether results are those of a GPU.
  static boolean isReal() {
    return REAL;
  }

  /// Opens the CUDA backend. The emulated device is named to nobody else, so that `auto` does not
  /// choose it in other tests of this JVM.
  static Kernels open(int threads, Gpu.Memory memory) {
    return CudaBackend.open(REAL ? CudaLibrary.named() : EmulatedGpu.driver(), threads, memory);
  }

  /// The same, where accesses past the end of any tensor are seen.
  static Kernels open(int threads) {
    return open(threads, Gpu.Memory.SEPARATE);
  }
}
