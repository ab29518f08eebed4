// Sum, cast and sum of squares of whole tensors. Limited by memory.
//
// A thread takes a pack of neighbouring elements, the grid the tensor.
#include "blocks.cuh"

// --- add --------------------------------------------------------------------------------------------
// out = a + b; out may be a or b, so all of a pack is read before it is written.

template <class T>
__device__ __forceinline__ void add(T* out, const T* a, const T* b, long long n) {
  constexpr int N = PACK<T>;
  const bool wide = is_wide(out, a, b);
  const long long at = own_pack() * N;
  Pack<T, N> x = load_pack<N>(a, at, n, wide);
  const Pack<T, N> y = load_pack<N>(b, at, n, wide);
#pragma unroll
  for (int i = 0; i < N; i++) {
    x.at[i] = from_float<T>(to_float(x.at[i]) + to_float(y.at[i]));
  }
  store_pack(out, at, n, wide, x);
}

extern "C" __global__ void __launch_bounds__(256)
    add_f32(float* out, const float* a, const float* b, long long n) {
  add(out, a, b, n);
}
EXPORT_KERNEL(add_f32)

extern "C" __global__ void __launch_bounds__(256)
    add_bf16(bf16* out, const bf16* a, const bf16* b, long long n) {
  add(out, a, b, n);
}
EXPORT_KERNEL(add_bf16)

// --- cast -------------------------------------------------------------------------------------------
// Widens exactly, then rounds once, to nearest with ties to even. A thread takes two packs of four, a
// block apart: one has too few bytes to cover the latency of memory.

template <class To, class From>
__device__ __forceinline__ void cast(
    To* __restrict__ out, const From* __restrict__ in, long long n) {
  const bool wide = is_wide(out, in);
  const long long first = ((long long)blockIdx.x * 2 * blockDim.x + threadIdx.x) * 4;
  const long long second = first + blockDim.x * 4;
  const Pack<From, 4> x = load_pack<4>(in, first, n, wide);
  const Pack<From, 4> y = load_pack<4>(in, second, n, wide);
  store_pack(out, first, n, wide, rounded<To>(widened(x)));
  store_pack(out, second, n, wide, rounded<To>(widened(y)));
}

template <class To>
__device__ __forceinline__ void cast_blocks(
    To* __restrict__ out, const void* __restrict__ in, int type, long long n) {
  const long long at = own_pack() * 4;
  if (at < n) {
    store_pack(out, at, n, is_wide(out), rounded<To>(load_blocks<4>(in, type, at)));
  }
}

#define CAST(name, To, From)                                                                        \
  extern "C" __global__ void __launch_bounds__(256) name(To* out, const From* in, long long n) {     \
    cast(out, in, n);                                                                               \
  }                                                                                                 \
  EXPORT_KERNEL(name)

CAST(cast_f32_bf16, float, bf16)
CAST(cast_f32_f16, float, f16)
CAST(cast_bf16_f32, bf16, float)
CAST(cast_bf16_f16, bf16, f16)
CAST(cast_f16_f32, f16, float)
CAST(cast_f16_bf16, f16, bf16)

#define CAST_BLOCKS(name, To)                                                                       \
  extern "C" __global__ void __launch_bounds__(256)                                                 \
      name(To* out, const void* in, int type, long long n) {                                        \
    cast_blocks(out, in, type, n);                                                                  \
  }                                                                                                 \
  EXPORT_KERNEL(name)

CAST_BLOCKS(cast_f32_blocks, float)
CAST_BLOCKS(cast_bf16_blocks, bf16)
CAST_BLOCKS(cast_f16_blocks, f16)

// --- sum of squares ---------------------------------------------------------------------------------
// In double, in an order that depends on the length alone: block b sums the elements [b part, (b + 1)
// part), `part` a multiple of 1024; thread t of 256 those of every 256th pack of four, by place in the
// pack; then trees. Squares of floats are exact in double.

// Sum over a block of at most 1024 threads, the same in each.
__device__ __forceinline__ double block_sum(double v) {
  SHARED_MEMORY(shared);
  double* sums = (double*)shared;  // [warps]
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset >>= 1) {
    v += __shfl_xor_sync(ALL_LANES, v, offset);
  }
  if (threadIdx.x % WARP == 0) {
    sums[threadIdx.x / WARP] = v;
  }
  __syncthreads();
  double sum = 0;
  for (int w = 0; w < blockDim.x / WARP; w++) {
    sum += sums[w];
  }
  return sum;
}

template <class T>
__device__ __forceinline__ void add_squares(double (&sums)[4], const Pack<T, 4>& pack) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const double value = to_float(pack.at[i]);
    sums[i] = fma(value, value, sums[i]);
  }
}

template <class T>
__device__ __forceinline__ void sum_of_squares(
    double* __restrict__ parts, const T* __restrict__ x, long long n, long long part) {
  constexpr int AHEAD = 4;  // packs that are under way
  const bool wide = is_wide(x);
  const long long from = blockIdx.x * part;
  const long long end = min(n, from + part);
  const int step = blockDim.x * 4;
  double sums[4] = {};
  long long at = from + threadIdx.x * 4;
  for (; wide && at + (AHEAD - 1) * step + 4 <= end; at += AHEAD * step) {
    Pack<T, 4> held[AHEAD];
#pragma unroll
    for (int k = 0; k < AHEAD; k++) {
      held[k] = *(const Pack<T, 4>*)(x + at + k * step);
    }
#pragma unroll
    for (int k = 0; k < AHEAD; k++) {
      add_squares(sums, held[k]);
    }
  }
  for (; at < end; at += step) {
    add_squares(sums, load_pack<4>(x, at, end, wide));
  }
  const double sum = block_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = sum;
  }
}

extern "C" __global__ void __launch_bounds__(256)
    sum_of_squares_f32(double* parts, const float* x, long long n, long long part) {
  sum_of_squares(parts, x, n, part);
}
EXPORT_KERNEL(sum_of_squares_f32)

extern "C" __global__ void __launch_bounds__(256)
    sum_of_squares_bf16(double* parts, const bf16* x, long long n, long long part) {
  sum_of_squares(parts, x, n, part);
}
EXPORT_KERNEL(sum_of_squares_bf16)

// sum = the sum of all parts, by one block.
extern "C" __global__ void __launch_bounds__(256)
    sum_parts(double* sum, const double* parts, int count) {
  double mine = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    mine += parts[i];
  }
  mine = block_sum(mine);
  if (threadIdx.x == 0) {
    *sum = mine;
  }
}
EXPORT_KERNEL(sum_parts)
