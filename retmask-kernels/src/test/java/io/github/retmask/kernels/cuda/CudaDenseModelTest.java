package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Kernels;
import io.github.retmask.model.DenseModelContract;

class CudaDenseModelTest extends DenseModelContract {

  @Override
  protected Kernels open(int threads) {
    return TestGpu.openPlain(threads);
  }
}
