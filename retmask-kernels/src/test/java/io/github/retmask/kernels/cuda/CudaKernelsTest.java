package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.KernelsContract;

class CudaKernelsTest extends KernelsContract {

  @Override
  protected Kernels open(int threads) {
    return TestGpu.open(threads);
  }
}
