package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Kernels;
import io.github.retmask.model.SharedForwardContract;

class CudaSharedForwardTest extends SharedForwardContract {

  @Override
  protected Kernels open(int threads) {
    return TestGpu.openPlain(threads);
  }
}
