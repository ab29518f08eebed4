package io.github.retmask.generate;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.ReferenceBackend;

class ReferenceContextGenerationTest extends ContextGenerationContract {
  @Override
  protected Kernels open(int threads) {
    return new ReferenceBackend().open(threads);
  }
}
