// Elements of tensors of block types. What the bytes mean is said at DType; the layout follows
// dequantize_row_* in ggml-quants.c. Scales times integers are exact in F32, so every element is its
// formula's value rounded once.
#pragma once
#include "packs.cuh"

// Block types, as DType.ordinal() numbers them.
enum BlockType { BLOCK_Q8_0 = 4, BLOCK_Q4_0 = 5, BLOCK_Q4_K = 6, BLOCK_Q6_K = 7 };

// The F16 at an even address.
__device__ __forceinline__ float half_at(const unsigned char* bytes) {
  return to_float(*(const f16*)bytes);
}

__device__ __forceinline__ float q8_0_at(const unsigned char* block, int i) {
  return half_at(block) * (signed char)block[2 + i];
}

// The low halves of 16 bytes are elements 0 to 15, the high ones 16 to 31.
__device__ __forceinline__ float q4_0_at(const unsigned char* block, int i) {
  return half_at(block) * ((block[2 + i % 16] >> i / 16 * 4 & 15) - 8);
}

// Bytes: d, e, 12 of packed 6-bit scales and offsets, 128 of integers: 32 bytes hold the low and the
// high halves of two groups.
__device__ __forceinline__ float q4_k_at(const unsigned char* block, int i) {
  const int group = i / 32;
  int scale;
  int offset;
  if (group < 4) {
    scale = block[4 + group] & 63;
    offset = block[8 + group] & 63;
  } else {  // four bits in the last four bytes, two on top of the first eight
    scale = (block[8 + group] & 15) | block[group] >> 6 << 4;
    offset = block[8 + group] >> 4 | block[4 + group] >> 6 << 4;
  }
  const int q = block[16 + group / 2 * 32 + i % 32] >> group % 2 * 4 & 15;
  return half_at(block) * scale * q - half_at(block + 2) * offset;
}

// Bytes: 128 of low four bits, 64 of high two bits, 16 scales, d. Each half of the block holds 128
// elements; its quarters of 32 share bytes, two in the low bits and four in the high ones.
__device__ __forceinline__ float q6_k_at(const unsigned char* block, int i) {
  const int half = i / 128;
  const int quarter = i % 128 / 32;
  const int low = block[half * 64 + quarter % 2 * 32 + i % 32] >> quarter / 2 * 4 & 15;
  const int high = block[128 + half * 32 + i % 32] >> quarter * 2 & 3;
  return half_at(block + 208) * (signed char)block[192 + i / 16] * ((low | high << 4) - 32);
}

// Elements [at, at + N) of a tensor; N divides `at` and the elements of a block.
template <int N>
__device__ __forceinline__ Pack<float, N> load_blocks(const void* tensor, int type, long long at) {
  const unsigned char* bytes = (const unsigned char*)tensor;
  Pack<float, N> pack;
#pragma unroll
  for (int i = 0; i < N; i++) {
    switch (type) {
      case BLOCK_Q8_0:
        pack.at[i] = q8_0_at(bytes + at / 32 * 34, (int)(at % 32) + i);
        break;
      case BLOCK_Q4_0:
        pack.at[i] = q4_0_at(bytes + at / 32 * 18, (int)(at % 32) + i);
        break;
      case BLOCK_Q4_K:
        pack.at[i] = q4_k_at(bytes + at / 256 * 144, (int)(at % 256) + i);
        break;
      default:
        pack.at[i] = q6_k_at(bytes + at / 256 * 210, (int)(at % 256) + i);
        break;
    }
  }
  return pack;
}
