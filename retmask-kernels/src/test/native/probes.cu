// Kernels with known results and known faults, which show that the emulator computes the one and finds
// the other. n chooses between right (0) and wrong where a kernel can do both.
#include "device.cuh"

// Sum of 256 numbers; wrong: the barrier is missing.
extern "C" __global__ void probe_block_sum(float* out, const float* x, int n) {
  SHARED_MEMORY(memory);
  float* sums = (float*)memory;
  const int warp = threadIdx.x / WARP;
  const float sum = warp_sum(x[threadIdx.x]);
  if (threadIdx.x % WARP == 0) {
    sums[warp] = sum;
  }
  if (n == 0) {
    __syncthreads();
  }
  if (threadIdx.x < WARP) {
    out[threadIdx.x] = warp_sum(threadIdx.x < blockDim.x / WARP ? sums[threadIdx.x] : 0.0f);
  }
}
EXPORT_KERNEL(probe_block_sum)

// Reverses 128 numbers through shared memory that is filled in the background, in two groups; wrong:
// waits for the first one only.
extern "C" __global__ void probe_reverse(float* out, const float* x, int n) {
  SHARED_MEMORY(memory);
  float* numbers = (float*)memory;
  for (int i = 0; i < 2; i++) {
    if (threadIdx.x / 16 == i) {
      copy_async16(numbers + 4 * threadIdx.x, x + 4 * threadIdx.x);
    }
    copy_async_commit();
  }
  if (n == 0) {
    copy_async_wait<0>();
  } else {
    copy_async_wait<1>();
  }
  __syncthreads();
  for (int i = 0; i < 4; i++) {
    out[4 * threadIdx.x + i] = numbers[127 - (4 * threadIdx.x + i)];
  }
}
EXPORT_KERNEL(probe_reverse)

// out[16,8] = a[16,16] b[16,8] of one warp, a and b as F32 of few bits.
extern "C" __global__ void probe_product(float* out, const float* a, const float* b) {
  SHARED_MEMORY(memory);
  bf16* shared_a = (bf16*)memory;       // [16,16]
  bf16* shared_b = shared_a + 16 * 16;  // [16,16], its right half zero
  for (int i = threadIdx.x; i < 256; i += WARP) {
    shared_a[i] = from_float<bf16>(a[i]);
    shared_b[i] = from_float<bf16>(i % 16 < 8 ? b[i / 16 * 8 + i % 16] : 0.0f);
  }
  __syncwarp();
  const int lane = threadIdx.x, row = lane % 16, column = lane / 16 * 8;
  unsigned ra[4], rb[4];
  load_matrix_x4(ra, shared_a + row * 16 + column);
  load_matrix_x4_transposed(rb, shared_b + row * 16 + column);
  float d[4] = {};
  multiply_add_bf16(d, ra, rb[0], rb[1]);
  for (int e = 0; e < 4; e++) {
    out[(lane / 4 + e / 2 * 8) * 8 + lane % 4 * 2 + e % 2] = d[e];
  }
}
EXPORT_KERNEL(probe_product)

// Lanes 0 and 1 of each pair differ in what they do: votes, shuffles of half a warp.
extern "C" __global__ void probe_votes(int* out) {
  const int lane = threadIdx.x;
  const unsigned odd = __ballot_sync(ALL_LANES, lane % 2);
  int sum = 0;
  if (lane % 2 != 0) {
    for (int offset = 2; offset < WARP; offset *= 2) {
      sum += __shfl_xor_sync(odd, lane, offset);
    }
  } else {
    sum = __shfl_sync(~odd, lane, 2 * (lane / 4));
  }
  out[lane] = __any_sync(ALL_LANES, sum == 34) ? sum : -1;
}
EXPORT_KERNEL(probe_votes)

// Writes element n + thread.
extern "C" __global__ void probe_write(float* out, int n) { out[n + (int)threadIdx.x] = 1.0f; }
EXPORT_KERNEL(probe_write)

// Writes elements n to n + 3 at once.
extern "C" __global__ void probe_write_wide(float* out, int n) {
  *(float4*)(out + n) = make_float4(1, 2, 3, 4);
}
EXPORT_KERNEL(probe_write_wide)

// Reads element n of an array of 4.
extern "C" __global__ void probe_index(float* out, int n) {
  float numbers[4];
  for (int i = 0; i < 4; i++) {
    numbers[i] = out[i];
  }
  out[0] = numbers[n];
}
EXPORT_KERNEL(probe_index)

// Writes byte n of shared memory.
extern "C" __global__ void probe_shared(float* out, int n) {
  SHARED_MEMORY(memory);
  memory[n] = 1;
  out[0] = memory[n];
}
EXPORT_KERNEL(probe_shared)

// n 0: half a warp goes to a barrier. 1: a shuffle in a branch. 2: half a warp shuffles elsewhere.
extern "C" __global__ void probe_diverge(float* out, int n) {
  float v = out[threadIdx.x];
  if (n == 0 && threadIdx.x % WARP < 16) {
    __syncthreads();
  } else if (n == 0) {
    v = warp_sum(v);
  } else if (n == 1) {
    if (threadIdx.x % WARP < 8) {
      v = __shfl_xor_sync(ALL_LANES, v, 8);
    }
  } else if (threadIdx.x % WARP < 16) {
    v = __shfl_xor_sync(ALL_LANES, v, 1);
  } else {
    v = __shfl_xor_sync(ALL_LANES, v, 2);
  }
  out[threadIdx.x] = v;
}
EXPORT_KERNEL(probe_diverge)

// Ends for n = 0 only.
extern "C" __global__ void probe_endless(float* out, int n) {
  volatile float* x = out;
  while (n != 0 && x[0] != 12345.0f) {
  }
}
EXPORT_KERNEL(probe_endless)
