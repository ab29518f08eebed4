// Device-side vocabulary of all kernels. nvcc sees PTX forms; a host build with RETMASK_EMULATED sees
// plain C++ forms of the same functions, from the emulator among the tests. Kernels hold no inline
// assembly of their own and no feature that this file does not name.
//
// Rules that keep both builds equal: products that are to be fused are written fmaf(), since both
// compile without contraction; shared memory is dynamic, through SHARED_MEMORY; no anonymous
// namespaces, whose names would carry a path into the PTX; every kernel is extern "C" and followed by
// EXPORT_KERNEL(its name).
#pragma once

#ifdef RETMASK_EMULATED
#include "emulator.h"
#define SHARED_MEMORY(name) unsigned char* name = emulator::shared_memory()
#define EXPORT_KERNEL(kernel) EMULATOR_EXPORT(kernel)
#else
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define SHARED_MEMORY(name) extern __shared__ __align__(128) unsigned char name[]
#define EXPORT_KERNEL(kernel)
#endif

typedef __nv_bfloat16 bf16;
typedef __half f16;

static constexpr unsigned ALL_LANES = 0xffffffffu;
static constexpr int WARP = 32;

#ifndef RETMASK_EMULATED

__device__ __forceinline__ unsigned shared_address(const void* p) {
  return (unsigned)__cvta_generic_to_shared(p);
}

// Copies 16 bytes from global to shared memory in the background; writes zeros where !valid. Both
// addresses are multiples of 16, and src is an address even where !valid.
__device__ __forceinline__ void copy_async16(void* dst, const void* src, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(dst)), "l"(src),
               "r"(valid ? 16 : 0)
               : "memory");
}

// The same for the first `bytes` bytes, at most 16, and zeros after them.
__device__ __forceinline__ void copy_async16_upto(void* dst, const void* src, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(dst)), "l"(src),
               "r"(bytes)
               : "memory");
}

// Closes the group of copies begun since the last call.
__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}

// Waits until at most N of this thread's groups are under way; others see the bytes after a barrier.
template <int N>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

// Loads four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void load_matrix_x4(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// The same, each matrix transposed.
__device__ __forceinline__ void load_matrix_x4_transposed(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// d += a b with a 16x16, b 16x8, d 16x8 in the fragments of mma.m16n8k16; F32 sums.
__device__ __forceinline__ void multiply_add_bf16(
    float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
               "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// c += a b, every element by a fused multiply-add.
template <int N>
__device__ __forceinline__ void multiply_add(float (&c)[N], float a, const float (&b)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) {
    c[i] = fmaf(a, b[i], c[i]);
  }
}

// 2^x, about 2 ulp.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}
#endif

// --- elements of storage types ----------------------------------------------------------------------

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(f16 x) { return __half2float(x); }

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ f16 from_float<f16>(float x) {
  return __float2half_rn(x);
}

// Types of weights, as DType.ordinal() numbers them.
enum WeightType { WEIGHT_F32 = 0, WEIGHT_BF16 = 1, WEIGHT_F16 = 2 };

// Element i of a vector of weights, whose type is the same for all threads.
__device__ __forceinline__ float weight_at(const void* weights, int type, long long i) {
  switch (type) {
    case WEIGHT_BF16:
      return to_float(((const bf16*)weights)[i]);
    case WEIGHT_F16:
      return to_float(((const f16*)weights)[i]);
    default:
      return ((const float*)weights)[i];
  }
}

// --- warps ------------------------------------------------------------------------------------------

// Sum over the 32 lanes, the same bits in each: a fixed tree.
__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset >>= 1) {
    v += __shfl_xor_sync(ALL_LANES, v, offset);
  }
  return v;
}

__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset >>= 1) {
    v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, offset));
  }
  return v;
}
