package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Kernels;
import io.github.retmask.pretrained.GoldenFamiliesContract;

class VectorGoldenFamiliesTest extends GoldenFamiliesContract {

  @Override
  protected Kernels open(int threads) {
    return new VectorBackend().open(threads);
  }
}
