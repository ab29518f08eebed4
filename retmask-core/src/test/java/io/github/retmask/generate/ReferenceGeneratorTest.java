package io.github.retmask.generate;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.ReferenceBackend;

class ReferenceGeneratorTest extends GeneratorContract {
  @Override
  protected Kernels open(int threads) {
    return new ReferenceBackend().open(threads);
  }
}
