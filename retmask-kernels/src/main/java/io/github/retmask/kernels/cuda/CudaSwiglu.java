package io.github.retmask.kernels.cuda;

import static io.github.retmask.kernels.cuda.CudaElementwise.THREADS;
import static io.github.retmask.kernels.cuda.CudaElementwise.blocks;
import static io.github.retmask.kernels.cuda.CudaElementwise.packs;

import io.github.retmask.tensor.Tensor;

/// Launchers of `swiglu.cu`.
final class CudaSwiglu {
  private static final String STEM = "swiglu";

  private CudaSwiglu() {}

  static void swiglu(Gpu gpu, Tensor out, Tensor gate, Tensor up) {
    gpu.launch(STEM, "swiglu" + Gpu.suffix(out))
        .tensor(out)
        .tensor(gate)
        .tensor(up)
        .longs(out.size())
        .run(blocks(packs(out)), THREADS);
  }

  static void backward(Gpu gpu, Tensor dGate, Tensor dUp, Tensor dOut, Tensor gate, Tensor up) {
    gpu.launch(STEM, "swiglu_backward" + Gpu.suffix(dOut))
        .tensor(dGate)
        .tensor(dUp)
        .tensor(dOut)
        .tensor(gate)
        .tensor(up)
        .longs(dOut.size())
        .run(blocks(packs(dOut)), THREADS);
  }
}
