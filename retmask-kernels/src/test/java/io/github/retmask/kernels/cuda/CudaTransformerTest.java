package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Kernels;
import io.github.retmask.model.TransformerContract;

class CudaTransformerTest extends TransformerContract {

  @Override
  protected Kernels open(int threads) {
    return TestGpu.openPlain(threads);
  }
}
