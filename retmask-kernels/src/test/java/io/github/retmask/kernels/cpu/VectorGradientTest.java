package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Kernels;
import io.github.retmask.train.GradientContract;

class VectorGradientTest extends GradientContract {

  @Override
  protected Kernels open(int threads) {
    return new VectorBackend().open(threads);
  }
}
