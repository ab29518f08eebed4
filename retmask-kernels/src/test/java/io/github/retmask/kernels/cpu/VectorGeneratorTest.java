package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Kernels;
import io.github.retmask.generate.GeneratorContract;

class VectorGeneratorTest extends GeneratorContract {
  @Override
  protected Kernels open(int threads) {
    return new VectorBackend().open(threads);
  }
}
