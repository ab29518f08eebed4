package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Kernels;
import io.github.retmask.pretrained.QuantizedModelContract;

class VectorQuantizedModelTest extends QuantizedModelContract {

  @Override
  protected Kernels open(int threads) {
    return new VectorBackend().open(threads);
  }
}
