package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Kernels;
import io.github.retmask.pretrained.HuggingFaceContract;

class CudaHuggingFaceTest extends HuggingFaceContract {

  @Override
  protected Kernels open(int threads) {
    return TestGpu.openPlain(threads);
  }
}
