// SwiGLU (Shazeer 2020), elementwise over [N,F]: out = gate sigmoid(gate) up. Limited by memory.
#include "packs.cuh"

// 1 / (1 + e^-x). F32 tensors get the correctly rounded quotient; what is rounded to 8 bits afterwards
// gets the fast forms, or arithmetic would limit it.
template <class T>
__device__ __forceinline__ float sigmoid(float x) {
  return 1.f / (1.f + expf(-x));
}

template <>
__device__ __forceinline__ float sigmoid<bf16>(float x) {
  return __fdividef(1.f, 1.f + exp2_fast(x * -1.44269504f));
}

// out may be gate or up.
template <class T>
__device__ __forceinline__ void swiglu(T* out, const T* gate, const T* up, long long n) {
  constexpr int N = PACK<T>;
  const bool wide = is_wide(out, gate, up);
  const long long at = own_pack() * N;
  const Pack<T, N> g = load_pack<N>(gate, at, n, wide);
  Pack<T, N> u = load_pack<N>(up, at, n, wide);
#pragma unroll
  for (int i = 0; i < N; i++) {
    const float x = to_float(g.at[i]);
    u.at[i] = from_float<T>(x * sigmoid<T>(x) * to_float(u.at[i]));
  }
  store_pack(out, at, n, wide, u);
}

extern "C" __global__ void __launch_bounds__(256)
    swiglu_f32(float* out, const float* gate, const float* up, long long n) {
  swiglu(out, gate, up, n);
}
EXPORT_KERNEL(swiglu_f32)

extern "C" __global__ void __launch_bounds__(256)
    swiglu_bf16(bf16* out, const bf16* gate, const bf16* up, long long n) {
  swiglu(out, gate, up, n);
}
EXPORT_KERNEL(swiglu_bf16)

// With s = sigmoid(gate): dUp = dOut gate s, dGate = dOut up s (1 + gate (1 - s)). dUp may be dOut.
template <class T>
__device__ __forceinline__ void swiglu_backward(
    T* d_gate, T* d_up, const T* d_out, const T* gate, const T* up, long long n) {
  constexpr int N = PACK<T>;
  const bool wide = is_wide(d_gate, d_up) && is_wide(d_out, gate, up);
  const long long at = own_pack() * N;
  Pack<T, N> d = load_pack<N>(d_out, at, n, wide);
  Pack<T, N> g = load_pack<N>(gate, at, n, wide);
  const Pack<T, N> u = load_pack<N>(up, at, n, wide);
#pragma unroll
  for (int i = 0; i < N; i++) {
    const float x = to_float(g.at[i]);
    const float dy = to_float(d.at[i]);
    const float s = sigmoid<T>(x);
    const float slope = ((1.f - s) * x + 1.f) * s;
    d.at[i] = from_float<T>(dy * (x * s));
    g.at[i] = from_float<T>(dy * to_float(u.at[i]) * slope);
  }
  store_pack(d_up, at, n, wide, d);
  store_pack(d_gate, at, n, wide, g);
}

extern "C" __global__ void __launch_bounds__(256) swiglu_backward_f32(
    float* d_gate,
    float* d_up,
    const float* d_out,
    const float* gate,
    const float* up,
    long long n) {
  swiglu_backward(d_gate, d_up, d_out, gate, up, n);
}
EXPORT_KERNEL(swiglu_backward_f32)

extern "C" __global__ void __launch_bounds__(256) swiglu_backward_bf16(
    bf16* d_gate,
    bf16* d_up,
    const bf16* d_out,
    const bf16* gate,
    const bf16* up,
    long long n) {
  swiglu_backward(d_gate, d_up, d_out, gate, up, n);
}
EXPORT_KERNEL(swiglu_backward_bf16)
