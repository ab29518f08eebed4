package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.KernelsContract;

class VectorKernelsTest extends KernelsContract {

  @Override
  protected Kernels open(int threads) {
    return new VectorBackend().open(threads);
  }
}
