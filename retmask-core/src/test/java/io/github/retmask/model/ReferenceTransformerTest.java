package io.github.retmask.model;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.ReferenceBackend;

class ReferenceTransformerTest extends TransformerContract {
  @Override
  protected Kernels open(int threads) {
    return new ReferenceBackend().open(threads);
  }
}
