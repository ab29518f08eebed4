// The rotation of rope.
#pragma once
#include "packs.cuh"

// Turns pairs: a[j] of the first half of a head and b[j], R/2 behind it, by the angle of cosine c[j] and
// sine s[j], in direction 1 or -1.
template <class T, int N>
__device__ __forceinline__ void turn(
    Pack<T, N>& a, Pack<T, N>& b, const Pack<float, N>& c, const Pack<float, N>& s, float direction) {
#pragma unroll
  for (int j = 0; j < N; j++) {
    const float u = to_float(a.at[j]);
    const float v = to_float(b.at[j]);
    const float sine = s.at[j] * direction;
    a.at[j] = from_float<T>(fmaf(u, c.at[j], -(v * sine)));
    b.at[j] = from_float<T>(fmaf(v, c.at[j], u * sine));
  }
}
