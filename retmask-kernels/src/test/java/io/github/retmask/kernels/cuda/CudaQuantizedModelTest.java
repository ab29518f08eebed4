package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Kernels;
import io.github.retmask.pretrained.QuantizedModelContract;

class CudaQuantizedModelTest extends QuantizedModelContract {

  @Override
  protected Kernels open(int threads) {
    return TestGpu.openPlain(threads);
  }
}
