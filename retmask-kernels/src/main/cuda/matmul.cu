// Linear layer, out = x W^T + bias, in the order of arithmetic that Kernels.matmul fixes: x [N,I],
// W [O,I] of a float type, out [N,O]. The kernels are in matmul.cuh; matmul_blocks.cu has those for
// block types.
#include "matmul.cuh"

#define MATMUL(type, W)                                                                           \
  MATMUL_FEW(type, W)                                                                             \
  MATMUL_TILES(type, W, 32, 2)                                                                    \
  MATMUL_TILES(type, W, 64, 1)                                                                    \
  extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS, 2)                                \
      matmul_product_##type##_f32(MATMUL_PARAMETERS(float, float)) {                              \
    product<F32Weight, true, W, true>(                                                            \
        out, x, weight, bias, bias_type, rows, outs, inner, false);                               \
  }                                                                                               \
  EXPORT_KERNEL(matmul_product_##type##_f32)

MATMUL(f32, F32Weight)
MATMUL(bf16, Bf16Weight)
MATMUL(f16, F16Weight)
