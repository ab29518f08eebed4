// Queries or keys [N,H,D] as attention reads them: rms_norm of x over rows of W elements, a head
// (W = D) or all heads of a token (W = H D), where there is a weight; rope of that; and, where there is a
// cache, the result and the values copied to row cache_rows[n] of [keys,H,D] for token n. The bits are
// those of rms_norm.cu, rope.cu and rows.cu one after the other, roundings in between included.
//
// A block takes `block_rows` rows: first its teams find rstd, then a thread turns N pairs at a time, a
// pack of the first half of a head and the one R/2 after it, which it alone reads and writes, so out may
// be x without a weight. A second row of blocks copies values. Limited by memory; the second reading of
// x finds it in the L1 cache. While decoding, one launch instead of four.
#include "norm.cuh"
#include "rope.cuh"

template <class T>
struct Projection {
  T* out;
  float* rstd;
  const T* x;
  const void* __restrict__ weight;  // of type `type`, [W]; or null
  int type;
  float eps;
  const float* __restrict__ cos;  // [P,R/2]
  const float* __restrict__ sin;
  const int* __restrict__ positions;
  T* cached_keys;  // or null
  T* cached_values;
  const T* __restrict__ values;
  const int* __restrict__ cache_rows;
  long long rows;
  int width;
  int heads;
  int head_dim;
  int half;

  // Token of a row, and where the row begins in the token's heads.
  __device__ __forceinline__ int token(long long row) const {
    return (int)(row * width / ((long long)heads * head_dim));
  }
  __device__ __forceinline__ int offset(long long row) const {
    return (int)(row * width % ((long long)heads * head_dim));
  }
  __device__ __forceinline__ long long cached(int token) const {
    return (long long)cache_rows[token] * heads * head_dim;
  }
};

// rstd of `count` rows from `first` on.
template <class T>
__device__ __forceinline__ void find_scales(
    const Projection<T>& p, float* scales, float* parts, long long first, int count, int team) {
  constexpr int N = PACK<T>;
  const int teams = blockDim.x / team;
  const int lane = threadIdx.x % team;
  const bool wide = p.width % N == 0 && is_wide(p.x);
  int turns = 0;
  for (int k = threadIdx.x / team; k - (int)threadIdx.x / team < count; k += teams) {
    const T* row = p.x + (first + k) * p.width;
    const int end = k < count ? p.width : 0;
    float squares = 0;
#pragma unroll 1
    for (int at = lane * N; at < end; at += team * N) {
      squares = add_squares(squares, load_pack<N>(row, at, p.width, wide));
    }
    const float scale = reciprocal_root(team_sum(squares, team, parts, turns++), p.width, p.eps);
    if (lane == 0 && k < count) {
      scales[k] = scale;
      p.rstd[first + k] = scale;
    }
  }
}

// N neighbouring elements of a row from column `at` on, normalised.
template <class T, int N>
__device__ __forceinline__ Pack<T, N> normed(
    const Projection<T>& p, const float* scales, const T* row, int k, int at) {
  const Pack<T, N> x = *(const Pack<T, N>*)(row + at);
  if (p.weight == nullptr) {
    return x;
  }
  return scaled(x, scales[k], load_weights<N>(p.weight, p.type, at, p.width, true));
}

template <class T, int N>
__device__ __forceinline__ void turn_rows(
    const Projection<T>& p, const float* scales, long long first, int count) {
  const int turned = p.half / N;  // packs of a head
  const int copied = (p.head_dim - 2 * p.half) / N;
  const int items = p.width / p.head_dim * (turned + copied);  // of a row
  for (int i = threadIdx.x; i < count * items; i += blockDim.x) {
    const int k = i / items;
    const int part = i % items % (turned + copied);
    const int head = i % items / (turned + copied) * p.head_dim;
    const int at = head + (part < turned ? part * N : 2 * p.half + (part - turned) * N);
    const int token = p.token(first + k);
    const T* row = p.x + (first + k) * p.width;
    T* out = p.out + (first + k) * p.width;
    T* key = p.cached_keys == nullptr
                 ? nullptr
                 : p.cached_keys + p.cached(token) + p.offset(first + k);
    Pack<T, N> a = normed<T, N>(p, scales, row, k, at);
    if (part < turned) {
      Pack<T, N> b = normed<T, N>(p, scales, row, k, at + p.half);
      const long long angle = (long long)p.positions[token] * p.half + part * N;
      turn(a, b, *(const Pack<float, N>*)(p.cos + angle), *(const Pack<float, N>*)(p.sin + angle), 1.f);
      *(Pack<T, N>*)(out + at + p.half) = b;
      if (key != nullptr) {
        *(Pack<T, N>*)(key + at + p.half) = b;
      }
    }
    *(Pack<T, N>*)(out + at) = a;
    if (key != nullptr) {
      *(Pack<T, N>*)(key + at) = a;
    }
  }
}

template <class T, int N>
__device__ __forceinline__ void append_values(const Projection<T>& p, long long first, int count) {
  const int items = p.width / N;
  for (int i = threadIdx.x; i < count * items; i += blockDim.x) {
    const long long row = first + i / items;
    const int at = i % items * N;
    *(Pack<T, N>*)(p.cached_values + p.cached(p.token(row)) + p.offset(row) + at) =
        *(const Pack<T, N>*)(p.values + row * p.width + at);
  }
}

template <class T>
__device__ __forceinline__ void norm_rope(const Projection<T>& p, int team, int block_rows) {
  constexpr int N = PACK<T>;
  SHARED_MEMORY(shared);
  float* scales = (float*)shared;      // [block_rows]
  float* parts = scales + block_rows;  // of team_sum
  const long long first = (long long)blockIdx.x * block_rows;
  const int count = (int)min((long long)block_rows, p.rows - first);
  if (blockIdx.y == 1) {
    if (p.head_dim % N == 0 && is_wide(p.values, p.cached_values)) {
      append_values<T, N>(p, first, count);
    } else {
      append_values<T, 1>(p, first, count);
    }
    return;
  }
  if (p.weight != nullptr) {
    find_scales(p, scales, parts, first, count, team);
    __syncthreads();
  }
  // A null pointer is wide.
  if (p.head_dim % N == 0 && p.half % N == 0 && is_wide(p.out, p.x, p.weight) &&
      is_wide(p.cos, p.sin, p.cached_keys)) {
    turn_rows<T, N>(p, scales, first, count);
  } else {
    turn_rows<T, 1>(p, scales, first, count);
  }
}

extern "C" __global__ void __launch_bounds__(512) norm_rope_f32(
    float* out,
    float* rstd,
    const float* x,
    const void* weight,
    int type,
    float eps,
    const float* cos,
    const float* sin,
    const int* positions,
    float* cached_keys,
    float* cached_values,
    const float* values,
    const int* cache_rows,
    long long rows,
    int width,
    int heads,
    int head_dim,
    int half,
    int team,
    int block_rows) {
  norm_rope(
      Projection<float>{out, rstd, x, weight, type, eps, cos, sin, positions, cached_keys,
                        cached_values, values, cache_rows, rows, width, heads, head_dim, half},
      team, block_rows);
}
EXPORT_KERNEL(norm_rope_f32)

extern "C" __global__ void __launch_bounds__(512) norm_rope_bf16(
    bf16* out,
    float* rstd,
    const bf16* x,
    const void* weight,
    int type,
    float eps,
    const float* cos,
    const float* sin,
    const int* positions,
    bf16* cached_keys,
    bf16* cached_values,
    const bf16* values,
    const int* cache_rows,
    long long rows,
    int width,
    int heads,
    int head_dim,
    int half,
    int team,
    int block_rows) {
  norm_rope(
      Projection<bf16>{out, rstd, x, weight, type, eps, cos, sin, positions, cached_keys,
                       cached_values, values, cache_rows, rows, width, heads, head_dim, half},
      team, block_rows);
}
EXPORT_KERNEL(norm_rope_bf16)
