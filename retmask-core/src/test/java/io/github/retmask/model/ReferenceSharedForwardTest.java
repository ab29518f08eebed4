package io.github.retmask.model;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.ReferenceBackend;

class ReferenceSharedForwardTest extends SharedForwardContract {

  @Override
  protected Kernels open(int threads) {
    return new ReferenceBackend().open(threads);
  }
}
