// Backward of a linear layer, products of one chain (matmul.cuh):
//
//   dx[n,i] (+)= sum_o dOut[n,o] W[o,i]       dOut [N,O], W [O,I], dx [N,I]
//   dW[o,i]  += sum_n dOut[n,o] x[n,i]        x [N,I], dW [O,I]
//   db[o]    += sum_n dOut[n,o]
//
// Chains of the products start from what is added to, so that rows given in several calls add up to the same bits as
// in one. Limited by the F32 multiply-adds.
#include "matmul.cuh"

#define BACKWARD_INPUT(type, W)                                                                   \
  extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS, 2)                                \
      matmul_backward_input_##type##_f32(                                                         \
          float* dx, const float* d_out, const void* weight, int rows, int inner, int outs,       \
          int add) {                                                                              \
    product<F32Weight, true, W, false>(                                                           \
        dx, d_out, weight, nullptr, 0, rows, inner, outs, add != 0);                              \
  }                                                                                               \
  EXPORT_KERNEL(matmul_backward_input_##type##_f32)

BACKWARD_INPUT(f32, F32Weight)
BACKWARD_INPUT(bf16, Bf16Weight)
BACKWARD_INPUT(f16, F16Weight)
BACKWARD_INPUT(q8_0, Q8_0Weight)
BACKWARD_INPUT(q4_0, Q4_0Weight)
BACKWARD_INPUT(q4_k, Q4_KWeight)
BACKWARD_INPUT(q6_k, Q6_KWeight)

extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS, 2)
    matmul_backward_weight_f32(
        float* d_weight, const float* d_out, const float* x, int rows, int inner, int outs) {
  product<F32Weight, false, F32Weight, false>(
      d_weight, d_out, x, nullptr, 0, outs, inner, rows, true);
}
EXPORT_KERNEL(matmul_backward_weight_f32)

// A block for 32 outputs: a warp adds up every BIAS_WARPS-th row, then the warps' sums are added in
// order. Limited by reading dOut.
static constexpr int BIAS_WARPS = 16;

template <class T>
__device__ __forceinline__ void backward_bias(
    float* __restrict__ d_bias, const T* __restrict__ d_out, int rows, int outs) {
  SHARED_MEMORY(shared);
  float* sums = (float*)shared;  // [BIAS_WARPS][WARP]
  const int warp = threadIdx.x / WARP;
  const int lane = threadIdx.x % WARP;
  const int o = blockIdx.x * WARP + lane;
  float sum = 0.f;
  if (o < outs) {
#pragma unroll 8
    for (int n = warp; n < rows; n += BIAS_WARPS) {
      sum += to_float(d_out[(long long)n * outs + o]);
    }
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (warp == 0 && o < outs) {
    float total = d_bias[o];
    for (int w = 0; w < BIAS_WARPS; w++) {
      total += sums[w * WARP + lane];
    }
    d_bias[o] = total;
  }
}

extern "C" __global__ void __launch_bounds__(BIAS_WARPS* WARP)
    matmul_backward_bias_f32(float* d_bias, const float* d_out, int rows, int outs) {
  backward_bias(d_bias, d_out, rows, outs);
}
EXPORT_KERNEL(matmul_backward_bias_f32)

extern "C" __global__ void __launch_bounds__(BIAS_WARPS* WARP)
    matmul_backward_bias_bf16(float* d_bias, const bf16* d_out, int rows, int outs) {
  backward_bias(d_bias, d_out, rows, outs);
}
EXPORT_KERNEL(matmul_backward_bias_bf16)
