// Rotary position embedding (Su et al. 2021), halves convention, [N,H,D]: for i < R/2
//   out[i] = x[i] cos - x[i+R/2] sin, out[i+R/2] = x[i+R/2] cos + x[i] sin,
// elements from R on are copied; the angles of token n are row positions[n] of tables [P,R/2]. The
// backward is the transposed map: direction -1 instead of 1. Limited by memory.
//
// A thread turns N pairs: a pack of the first half and the one R/2 after it, which it alone reads and
// writes, so out may be x. A block takes `tokens` neighbouring tokens; their heads share angles.
#include "rope.cuh"

template <class T, int N>
__device__ __forceinline__ void rotate_packs(
    T* out,
    const T* x,
    const float* __restrict__ cos,
    const float* __restrict__ sin,
    const int* __restrict__ positions,
    int total,
    int heads,
    int head_dim,
    int half,
    float direction,
    int tokens) {
  const int turned = half / N;  // of a head
  const int copied = out == x ? 0 : (head_dim - 2 * half) / N;
  const int items = heads * (turned + copied);  // of a token
  const int first = blockIdx.x * tokens;
  const int count = min(tokens, total - first) * items;
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    const int n = first + i / items;
    const int head = i % items / (turned + copied);
    const int part = i % items % (turned + copied);
    const long long start = ((long long)n * heads + head) * head_dim;
    if (part >= turned) {
      const long long at = start + 2 * half + (part - turned) * N;
      *(Pack<T, N>*)(out + at) = *(const Pack<T, N>*)(x + at);
      continue;
    }
    const long long angle = (long long)positions[n] * half + part * N;
    const long long at = start + part * N;
    Pack<T, N> a = *(const Pack<T, N>*)(x + at);
    Pack<T, N> b = *(const Pack<T, N>*)(x + at + half);
    const Pack<float, N> c = *(const Pack<float, N>*)(cos + angle);
    const Pack<float, N> s = *(const Pack<float, N>*)(sin + angle);
    turn(a, b, c, s, direction);
    *(Pack<T, N>*)(out + at) = a;
    *(Pack<T, N>*)(out + at + half) = b;
  }
}

template <class T>
__device__ __forceinline__ void rope(
    T* out,
    const T* x,
    const float* cos,
    const float* sin,
    const int* positions,
    int total,
    int heads,
    int head_dim,
    int half,
    float direction,
    int tokens) {
  constexpr int N = PACK<T>;
  if (head_dim % N == 0 && half % N == 0 && is_wide(out, x) && is_wide(cos, sin)) {
    rotate_packs<T, N>(
        out, x, cos, sin, positions, total, heads, head_dim, half, direction, tokens);
  } else {
    rotate_packs<T, 1>(
        out, x, cos, sin, positions, total, heads, head_dim, half, direction, tokens);
  }
}

extern "C" __global__ void __launch_bounds__(256) rope_f32(
    float* out,
    const float* x,
    const float* cos,
    const float* sin,
    const int* positions,
    int total,
    int heads,
    int head_dim,
    int half,
    float direction,
    int tokens) {
  rope(out, x, cos, sin, positions, total, heads, head_dim, half, direction, tokens);
}
EXPORT_KERNEL(rope_f32)

extern "C" __global__ void __launch_bounds__(256) rope_bf16(
    bf16* out,
    const bf16* x,
    const float* cos,
    const float* sin,
    const int* positions,
    int total,
    int heads,
    int head_dim,
    int half,
    float direction,
    int tokens) {
  rope(out, x, cos, sin, positions, total, heads, head_dim, half, direction, tokens);
}
EXPORT_KERNEL(rope_bf16)
