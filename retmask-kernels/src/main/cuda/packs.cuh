// Packs: neighbouring elements that one thread loads or stores at once. Tensors begin at multiples of
// their element's size only, and rows may be of odd length, so every access says whether its tensor or
// row begins at a multiple of 16 bytes; where not, the same thread takes the same elements one by one
// and sums keep their order.
#pragma once
#include "device.cuh"

// Elements of a type in 16 bytes.
template <class T>
static constexpr int PACK = 16 / (int)sizeof(T);

// N elements, aligned to their bytes or to 16.
template <class T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Pack {
  T at[N];
};

// Whether tensors begin at multiples of 16 bytes.
__device__ __forceinline__ bool is_wide(const void* a) { return (uintptr_t)a % 16 == 0; }

__device__ __forceinline__ bool is_wide(const void* a, const void* b) {
  return is_wide(a) && is_wide(b);
}

__device__ __forceinline__ bool is_wide(const void* a, const void* b, const void* c) {
  return is_wide(a, b) && is_wide(c);
}

// Elements [at, at + N) of the n that begin at `from`, zeros beyond them. `at` is a multiple of N.
template <int N, class T>
__device__ __forceinline__ Pack<T, N> load_pack(
    const T* from, long long at, long long n, bool wide) {
  if (wide && at + N <= n) {
    return *(const Pack<T, N>*)(from + at);
  }
  Pack<T, N> pack;
#pragma unroll
  for (int i = 0; i < N; i++) {
    pack.at[i] = at + i < n ? from[at + i] : T();
  }
  return pack;
}

// Sets those of the elements [at, at + N) that exist.
template <int N, class T>
__device__ __forceinline__ void store_pack(
    T* to, long long at, long long n, bool wide, const Pack<T, N>& pack) {
  if (wide && at + N <= n) {
    *(Pack<T, N>*)(to + at) = pack;
    return;
  }
#pragma unroll
  for (int i = 0; i < N; i++) {
    if (at + i < n) {
      to[at + i] = pack.at[i];
    }
  }
}

template <class T, int N>
__device__ __forceinline__ Pack<float, N> widened(const Pack<T, N>& pack) {
  Pack<float, N> wider;
#pragma unroll
  for (int i = 0; i < N; i++) {
    wider.at[i] = to_float(pack.at[i]);
  }
  return wider;
}

template <class T, int N>
__device__ __forceinline__ Pack<T, N> rounded(const Pack<float, N>& pack) {
  Pack<T, N> narrower;
#pragma unroll
  for (int i = 0; i < N; i++) {
    narrower.at[i] = from_float<T>(pack.at[i]);
  }
  return narrower;
}

// Elements [at, at + N) of a vector of n weights, widened.
template <int N>
__device__ __forceinline__ Pack<float, N> load_weights(
    const void* weights, int type, int at, int n, bool wide) {
  switch (type) {
    case WEIGHT_BF16:
      return widened(load_pack<N>((const bf16*)weights, at, n, wide));
    case WEIGHT_F16:
      return widened(load_pack<N>((const f16*)weights, at, n, wide));
    default:
      return load_pack<N>((const float*)weights, at, n, wide);
  }
}

// Sixteen bytes of neighbouring elements as words, to be kept in registers: halves would take a
// register each.
template <class T>
__device__ __forceinline__ uint4 words(const Pack<T, PACK<T>>& pack) {
  uint4 kept;
  memcpy(&kept, &pack, 16);
  return kept;
}

template <class T>
__device__ __forceinline__ Pack<T, PACK<T>> elements(const uint4& kept) {
  Pack<T, PACK<T>> pack;
  memcpy(&pack, &kept, 16);
  return pack;
}

// The pack of a whole tensor that this thread takes, where every thread of the grid takes one.
__device__ __forceinline__ long long own_pack() {
  return (long long)blockIdx.x * blockDim.x + threadIdx.x;
}
