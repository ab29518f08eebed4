package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Kernels;
import io.github.retmask.generate.ContextGenerationContract;

class VectorContextGenerationTest extends ContextGenerationContract {
  @Override
  protected Kernels open(int threads) {
    return new VectorBackend().open(threads);
  }
}
