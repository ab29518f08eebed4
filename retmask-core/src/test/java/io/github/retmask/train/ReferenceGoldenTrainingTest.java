package io.github.retmask.train;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.ReferenceBackend;

class ReferenceGoldenTrainingTest extends GoldenTrainingContract {

  @Override
  protected Kernels open(int threads) {
    return new ReferenceBackend().open(threads);
  }
}
