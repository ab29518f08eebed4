package io.github.retmask.kernels.cuda;

import static io.github.retmask.kernels.cuda.CudaElementwise.THREADS;
import static io.github.retmask.kernels.cuda.CudaElementwise.blocks;

import io.github.retmask.backend.AdamWStep;
import io.github.retmask.tensor.Tensor;

/// Launchers of `adamw.cu`.
final class CudaAdamW {
  private static final String STEM = "adamw";

  private CudaAdamW() {}

  static void adamW(Gpu gpu, Tensor param, Tensor grad, Tensor m, Tensor v, AdamWStep step) {
    run(gpu, gpu.launch(STEM, "adamw_f32"), param, grad, m, v, step);
  }

  /// The same step on F32 masters, whose rounded values go to a BF16 weight.
  static void adamW(
      Gpu gpu, Tensor rounded, Tensor master, Tensor grad, Tensor m, Tensor v, AdamWStep step) {
    run(gpu, gpu.launch(STEM, "adamw_bf16").tensor(rounded), master, grad, m, v, step);
  }

  /// Scalars are combined in double and rounded once.
  private static void run(
      Gpu gpu, Launch launch, Tensor param, Tensor grad, Tensor m, Tensor v, AdamWStep s) {
    launch
        .tensor(param)
        .tensor(grad)
        .tensor(m)
        .tensor(v)
        .longs(param.size())
        .real((float) s.gradScale())
        .real((float) s.beta1())
        .real((float) (1 - s.beta1()))
        .real((float) s.beta2())
        .real((float) (1 - s.beta2()))
        .real((float) (1 - s.learningRate() * s.weightDecay()))
        .real((float) (s.learningRate() / (1 - StrictMath.pow(s.beta1(), s.step()))))
        .real((float) (1 - StrictMath.pow(s.beta2(), s.step())))
        .real((float) s.eps())
        .run(blocks(Math.ceilDiv(param.size(), 4)), THREADS);
  }
}
