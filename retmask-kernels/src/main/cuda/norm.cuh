// A row's share of rms_norm: the sum of its squares by a team of threads, and its elements scaled.
//
// Thread t of a team takes the packs t, t + team, ... of the row: the order of a sum depends on the
// row's length alone, however the row is read.
#pragma once
#include "packs.cuh"

// The same sum in each thread of a team, which is a power of two up to 32, or the block; all threads of
// the block call it. `parts` is shared, [2][warps], and `turn` the number of earlier calls: two rooms
// in turn spare a barrier.
__device__ __forceinline__ float team_sum(float v, int team, float* parts, int turn) {
  for (int offset = min(team, WARP) / 2; offset > 0; offset >>= 1) {
    v += __shfl_xor_sync(ALL_LANES, v, offset);
  }
  if (team <= WARP) {
    return v;
  }
  const int warps = blockDim.x / WARP;
  float* room = parts + turn % 2 * warps;
  if (threadIdx.x % WARP == 0) {
    room[threadIdx.x / WARP] = v;
  }
  __syncthreads();
  float sum = 0;
  for (int w = 0; w < warps; w++) {
    sum += room[w];
  }
  return sum;
}

template <class T, int N>
__device__ __forceinline__ float add_squares(float sum, const Pack<T, N>& x) {
#pragma unroll
  for (int i = 0; i < N; i++) {
    const float value = to_float(x.at[i]);
    sum = fmaf(value, value, sum);
  }
  return sum;
}

template <class T, int N>
__device__ __forceinline__ Pack<T, N> scaled(
    const Pack<T, N>& x, float scale, const Pack<float, N>& w) {
  Pack<float, N> product;
#pragma unroll
  for (int i = 0; i < N; i++) {
    product.at[i] = to_float(x.at[i]) * scale * w.at[i];
  }
  return rounded<T>(product);
}

// rstd from the sum of the squares of a row.
__device__ __forceinline__ float reciprocal_root(float squares, int width, float eps) {
  return 1.f / sqrtf(squares / (float)width + eps);
}
