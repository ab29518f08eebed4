package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Backend;
import io.github.retmask.backend.Kernels;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/// Hand-written CUDA kernels on an NVIDIA GPU, through JCuda.
public final class CudaBackend implements Backend {
  public CudaBackend() {}

  @Override
  public String name() {
    return "cuda";
  }

  @Override
  public int rank() {
    return 20;
  }

  /// Asks the driver without JCuda, which would complain aloud where there is none.
  @Override
  public @Nullable String whyUnavailable() {
    return CudaLibrary.whyUnavailable();
  }

  @Override
  public Kernels open(int threads) {
    return open(CudaLibrary.named(), threads, Gpu.Memory.asked());
  }

  /// Opens the backend on another driver than the system's.
  static Kernels open(@Nullable Path driver, int threads, Gpu.Memory memory) {
    CudaLibrary.load(driver);
    return new CudaKernels(new Gpu(CudaDriver.take(), memory), threads);
  }
}
