package io.github.retmask.backend;

class ReferenceKernelsTest extends KernelsContract {

  @Override
  protected Kernels open(int threads) {
    return new ReferenceBackend().open(threads);
  }
}
