// Backward of a linear layer, products of one chain (matmul.cuh):
//
//   dx[n,i] (+)= sum_o dOut[n,o] W[o,i]       dOut [N,O], W [O,I], dx [N,I]
//   dW[o,i]  += sum_n dOut[n,o] x[n,i]        x [N,I], dW [O,I]
//   db[o]    += sum_n dOut[n,o]
//
// Chains start from what is added to, so that rows given in several calls add up to the same bits as
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

// A thread for an output, rows ascending.
template <class T>
__device__ __forceinline__ void backward_bias(
    float* __restrict__ d_bias, const T* __restrict__ d_out, int rows, int outs) {
  const int o = blockIdx.x * blockDim.x + threadIdx.x;
  if (o >= outs) {
    return;
  }
  float sum = d_bias[o];
#pragma unroll 16
  for (int n = 0; n < rows; n++) {
    sum += to_float(d_out[(long long)n * outs + o]);
  }
  d_bias[o] = sum;
}

extern "C" __global__ void __launch_bounds__(64)
    matmul_backward_bias_f32(float* d_bias, const float* d_out, int rows, int outs) {
  backward_bias(d_bias, d_out, rows, outs);
}
EXPORT_KERNEL(matmul_backward_bias_f32)
