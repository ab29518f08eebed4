// AdamW with decoupled decay (Loshchilov and Hutter 2019), elementwise and in place:
//   m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, g = scale grad,
//   param = param (1 - lr decay) - lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps)
// in the CPU's order of roundings. Limited by memory: 28 bytes per parameter, 30 with a BF16 copy.
#include "packs.cuh"

// The scalars of a step, combined in double and rounded once.
struct AdamWFactors {
  float scale;       // on the gradient
  float keep1;       // beta1
  float take1;       // 1 - beta1
  float keep2;       // beta2
  float take2;       // 1 - beta2
  float keep_param;  // 1 - lr decay
  float rate;        // lr / (1 - beta1^t)
  float correction;  // 1 - beta2^t
  float eps;         // added to the root
};

// Updates the F32 parameters, which are the masters where `rounded` gets them in BF16.
template <bool ROUNDED>
__device__ __forceinline__ void adamw(
    bf16* __restrict__ rounded,
    float* __restrict__ param,
    const float* __restrict__ grad,
    float* __restrict__ m,
    float* __restrict__ v,
    long long n,
    const AdamWFactors& f) {
  constexpr int N = 4;
  const bool wide = is_wide(param, grad) && is_wide(m, v) && (!ROUNDED || is_wide(rounded));
  const long long at = own_pack() * N;
  Pack<float, N> w = load_pack<N>(param, at, n, wide);
  const Pack<float, N> d = load_pack<N>(grad, at, n, wide);
  Pack<float, N> m1 = load_pack<N>(m, at, n, wide);
  Pack<float, N> m2 = load_pack<N>(v, at, n, wide);
  Pack<bf16, N> half;
#pragma unroll
  for (int i = 0; i < N; i++) {
    const float g = d.at[i] * f.scale;
    m1.at[i] = m1.at[i] * f.keep1 + g * f.take1;
    m2.at[i] = m2.at[i] * f.keep2 + g * f.take2 * g;
    const float root = sqrtf(m2.at[i] / f.correction) + f.eps;
    w.at[i] = w.at[i] * f.keep_param - m1.at[i] * f.rate / root;
    half.at[i] = from_float<bf16>(w.at[i]);
  }
  store_pack(param, at, n, wide, w);
  store_pack(m, at, n, wide, m1);
  store_pack(v, at, n, wide, m2);
  if (ROUNDED) {
    store_pack(rounded, at, n, wide, half);
  }
}

extern "C" __global__ void __launch_bounds__(256) adamw_f32(
    float* param,
    const float* grad,
    float* m,
    float* v,
    long long n,
    float scale,
    float keep1,
    float take1,
    float keep2,
    float take2,
    float keep_param,
    float rate,
    float correction,
    float eps) {
  const AdamWFactors f = {
      scale, keep1, take1, keep2, take2, keep_param, rate, correction, eps};
  adamw<false>(nullptr, param, grad, m, v, n, f);
}
EXPORT_KERNEL(adamw_f32)

extern "C" __global__ void __launch_bounds__(256) adamw_bf16(
    bf16* rounded,
    float* param,
    const float* grad,
    float* m,
    float* v,
    long long n,
    float scale,
    float keep1,
    float take1,
    float keep2,
    float take2,
    float keep_param,
    float rate,
    float correction,
    float eps) {
  const AdamWFactors f = {
      scale, keep1, take1, keep2, take2, keep_param, rate, correction, eps};
  adamw<true>(rounded, param, grad, m, v, n, f);
}
EXPORT_KERNEL(adamw_bf16)
