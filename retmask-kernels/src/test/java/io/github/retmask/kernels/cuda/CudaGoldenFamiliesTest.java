package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Kernels;
import io.github.retmask.pretrained.GoldenFamiliesContract;

class CudaGoldenFamiliesTest extends GoldenFamiliesContract {

  @Override
  protected Kernels open(int threads) {
    return TestGpu.openPlain(threads);
  }
}
