package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.DType;

/// The device that the tests of this package run on: the emulated one, or with
/// `-Dretmask.test.gpu=real` the machine's own.
final class TestGpu {
  private static final boolean REAL = "real".equals(System.getProperty("retmask.test.gpu"));

  private TestGpu() {}

  /// Whether results are those of a GPU.
  static boolean isReal() {
    return REAL;
  }

  /// Opens the CUDA backend for tests of ops: an access past the end of any tensor is seen, and on the
  /// emulated device every kernel runs in several orders of its threads.
  static Kernels open(int threads) {
    return open(threads, Gpu.Memory.SEPARATE, EmulatedGpu.Order.ALL, DType.BF16);
  }

  /// The same with memory as users have it, for tests of whole models in F32.
  static Kernels openPlain(int threads) {
    return open(threads, Gpu.Memory.POOLED, EmulatedGpu.Order.ASCENDING, DType.F32);
  }

  /// The same as users have it: BF16 activations where weights are BF16.
  static Kernels openBFloat16(int threads) {
    return open(threads, Gpu.Memory.POOLED, EmulatedGpu.Order.ASCENDING, DType.BF16);
  }

  /// The device under the backend, as users have it.
  static Gpu gpu() {
    EmulatedGpu.schedule(EmulatedGpu.Order.ASCENDING, EmulatedGpu.Copies.LATE);
    CudaLibrary.load(REAL ? CudaLibrary.named() : EmulatedGpu.driver());
    return new Gpu(CudaDriver.take(), Gpu.Memory.POOLED, true);
  }

  /// The emulated device is named to nobody else, so that `auto` does not choose it in other tests of
  /// this JVM.
  private static Kernels open(
      int threads, Gpu.Memory memory, EmulatedGpu.Order order, DType withBf16) {
    EmulatedGpu.schedule(order, EmulatedGpu.Copies.LATE);
    return CudaBackend.open(
        REAL ? CudaLibrary.named() : EmulatedGpu.driver(), threads, memory, withBf16, true);
  }
}
