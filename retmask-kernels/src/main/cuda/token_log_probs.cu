// Log-probability of one target per token, over a chunk of tokens whose logits a product has written:
//
//   lse[m] = log sum_v exp(logit[m,v])     logps[m] = logit[m,target] - lse[m]
//   dLogits[m,v] = dLogps[m] (1{v = target} - exp(logit[m,v] - lse[m]))
//
// logits [M,V] in F32. Limited by reading the logits, which the products beside these kernels outweigh.
#include "packs.cuh"

static constexpr int THREADS = 512;

// Sum of exponentials relative to the largest exponent seen (Milakov and Gimelshein 2018).
struct ExpSum {
  float max, sum;
};

__device__ __forceinline__ float scaled(const ExpSum& part, float max) {
  return part.max == -INFINITY ? part.sum : part.sum * expf(part.max - max);
}

// A block for a token. Every thread takes every THREADS-th quad, then a fixed tree over the threads;
// fmaxf passes over NaN, the sum does not.
extern "C" __global__ void __launch_bounds__(THREADS)
    token_log_probs(
        float* logps, float* lse, const float* logits, const int* targets, int vocab) {
  SHARED_MEMORY(shared);
  ExpSum* parts = (ExpSum*)shared;  // [warps]
  const float* row = logits + (long long)blockIdx.x * vocab;
  const bool wide = vocab % 4 == 0 && is_wide(logits);
  ExpSum own = {-INFINITY, 0.f};
  for (int v = 4 * threadIdx.x; v < vocab; v += 4 * THREADS) {
    const Pack<float, 4> quad = load_pack<4>(row, v, vocab, wide);
    float max = quad.at[0];
#pragma unroll
    for (int i = 1; i < 4; i++) {
      max = v + i < vocab ? fmaxf(max, quad.at[i]) : max;
    }
    if (max > own.max) {
      own.sum = scaled(own, max);
      own.max = max;
    }
    const float base = own.max == -INFINITY ? 0.f : own.max;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      own.sum += v + i < vocab ? expf(quad.at[i] - base) : 0.f;
    }
  }
  const int warp = threadIdx.x / WARP;
  const int lane = threadIdx.x % WARP;
  const float warp_most = warp_max(own.max);
  const float sum = warp_sum(scaled(own, warp_most));
  if (lane == 0) {
    parts[warp] = {warp_most, sum};
  }
  __syncthreads();
  if (warp == 0) {
    const ExpSum part = lane < THREADS / WARP ? parts[lane] : ExpSum{-INFINITY, 0.f};
    const float most = warp_max(part.max);
    const float total = warp_sum(scaled(part, most));
    if (lane == 0) {
      const double log_sum = most + log((double)total);
      lse[blockIdx.x] = (float)log_sum;
      logps[blockIdx.x] = (float)(row[targets[blockIdx.x]] - log_sum);
    }
  }
}
EXPORT_KERNEL(token_log_probs)

// A thread for a quad, blocks (token, quads).
template <class T>
__device__ __forceinline__ void gradient(
    T* d_logits, const float* logits, const float* lse, const float* d_logps, const int* targets,
    int vocab) {
  const int token = blockIdx.x;
  const long long row = (long long)token * vocab;
  const bool wide = vocab % 4 == 0 && is_wide(logits, d_logits);
  const float log_sum = lse[token];
  const float d = d_logps[token];
  const int target = targets[token];
  const int v = 4 * (blockIdx.y * blockDim.x + threadIdx.x);
  if (v >= vocab) {
    return;
  }
  const Pack<float, 4> quad = load_pack<4>(logits + row, v, vocab, wide);
  Pack<T, 4> result;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    result.at[i] = from_float<T>(d * ((v + i == target ? 1.f : 0.f) - expf(quad.at[i] - log_sum)));
  }
  store_pack<4>(d_logits + row, v, vocab, wide, result);
}

// In F32 in place.
extern "C" __global__ void __launch_bounds__(THREADS)
    token_log_probs_gradient_f32(
        float* d_logits, const float* logits, const float* lse, const float* d_logps,
        const int* targets, int vocab) {
  gradient(d_logits, logits, lse, d_logps, targets, vocab);
}
EXPORT_KERNEL(token_log_probs_gradient_f32)

extern "C" __global__ void __launch_bounds__(THREADS)
    token_log_probs_gradient_bf16(
        bf16* d_logits, const float* logits, const float* lse, const float* d_logps,
        const int* targets, int vocab) {
  gradient(d_logits, logits, lse, d_logps, targets, vocab);
}
EXPORT_KERNEL(token_log_probs_gradient_bf16)
