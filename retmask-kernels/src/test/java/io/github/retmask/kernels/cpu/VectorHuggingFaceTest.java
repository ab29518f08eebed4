package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Kernels;
import io.github.retmask.pretrained.HuggingFaceContract;

class VectorHuggingFaceTest extends HuggingFaceContract {

  @Override
  protected Kernels open(int threads) {
    return new VectorBackend().open(threads);
  }
}
