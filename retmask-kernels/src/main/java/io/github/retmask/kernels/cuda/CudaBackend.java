package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Backend;
import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.DType;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/// Hand-written CUDA kernels on an NVIDIA GPU, through JCuda.
public final class CudaBackend implements Backend {
  /// System property: the type of activations where weights are BF16, `bf16` (on tensor cores, the
  /// default) or `f32` (with the bits that weights widened to F32 give, and slower).
  static final String ACTIVATIONS_PROPERTY = "retmask.cuda.activations";

  /// System property: `false` queues every kernel of a step by itself, also where it comes again.
  static final String GRAPHS_PROPERTY = "retmask.cuda.graphs";

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
    String asked = System.getProperty(ACTIVATIONS_PROPERTY, "bf16");
    DType withBf16 =
        switch (asked) {
          case "bf16" -> DType.BF16;
          case "f32" -> DType.F32;
          default ->
              throw new IllegalArgumentException(
                  "-D%s=%s: want bf16 or f32".formatted(ACTIVATIONS_PROPERTY, asked));
        };
    boolean graphs =
        switch (System.getProperty(GRAPHS_PROPERTY, "true")) {
          case "true" -> true;
          case "false" -> false;
          default ->
              throw new IllegalArgumentException(
                  "-D%s=%s: want true or false"
                      .formatted(GRAPHS_PROPERTY, System.getProperty(GRAPHS_PROPERTY)));
        };
    return open(CudaLibrary.named(), threads, Gpu.Memory.asked(), withBf16, graphs);
  }

  /// Opens the backend on another driver than the system's.
  static Kernels open(
      @Nullable Path driver, int threads, Gpu.Memory memory, DType withBf16, boolean graphs) {
    CudaLibrary.load(driver);
    return new CudaKernels(new Gpu(CudaDriver.take(), memory, graphs), threads, withBf16);
  }
}
