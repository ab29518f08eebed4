package io.github.retmask.kernels.cuda;

import io.github.retmask.tensor.Tensor;

/// Launcher of `rope.cu`.
final class CudaRope {
  private static final int THREADS = 256;

  private CudaRope() {}

  /// @param direction 1 forward, -1 for the transposed rotation of the backward
  static void rotate(
      Gpu gpu, Tensor out, Tensor x, Tensor cos, Tensor sin, Tensor positions, int direction) {
    long heads = x.dim(1);
    long half = cos.dim(1); // R/2
    long items = Math.max(1, heads * half / CudaElementwise.packed(x)); // of a token, about
    long tokens = Math.max(1, THREADS / items);
    long rows = gpu.onDevice(positions);
    gpu.launch("rope", "rope" + Gpu.suffix(x))
        .tensor(out)
        .tensor(x)
        .tensor(cos)
        .tensor(sin)
        .address(rows)
        .integer(x.dim(0))
        .integer(heads)
        .integer(x.dim(2))
        .integer(half)
        .real((float) direction)
        .integer(tokens)
        .run(Math.ceilDiv(x.dim(0), tokens), THREADS);
  }
}
