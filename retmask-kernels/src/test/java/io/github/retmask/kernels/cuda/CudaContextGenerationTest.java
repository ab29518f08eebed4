package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Kernels;
import io.github.retmask.generate.ContextGenerationContract;

class CudaContextGenerationTest extends ContextGenerationContract {
  @Override
  protected Kernels open(int threads) {
    return TestGpu.openPlain(threads);
  }
}
