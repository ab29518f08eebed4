package io.github.retmask.pretrained;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.ReferenceBackend;

class ReferenceQuantizedModelTest extends QuantizedModelContract {

  @Override
  protected Kernels open(int threads) {
    return new ReferenceBackend().open(threads);
  }
}
