// Tiles of BF16 rows in shared memory and the fragments of tensor cores, for attention.
#pragma once
#include "attention.cuh"

namespace attention {

static constexpr int FLASH_WARPS = 4;
static constexpr int FLASH_THREADS = FLASH_WARPS * WARP;
static constexpr float LOG2_E = 1.4426950408889634f;

// Two elements in 32 bits, the first in the low half.
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
  __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return (unsigned)__bfloat16_as_ushort(pair.x) | (unsigned)__bfloat16_as_ushort(pair.y) << 16;
}
__device__ __forceinline__ float low_bf16(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_bf16(unsigned pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

// The fragments of multiply_add_bf16: a thread holds columns 2 (lane % 4) and the one behind it, of
// rows lane / 4 and 8 further.
__device__ __forceinline__ int fragment_row() { return threadIdx.x % WARP / 4; }
__device__ __forceinline__ int fragment_column() { return threadIdx.x % 4 * 2; }

// Maximum, sum and minimum over the four lanes that share a row of a fragment.
__device__ __forceinline__ float quad_max(float v) {
  v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 1));
  return fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 2));
}

__device__ __forceinline__ float quad_sum(float v) {
  v += __shfl_xor_sync(ALL_LANES, v, 1);
  return v + __shfl_xor_sync(ALL_LANES, v, 2);
}

__device__ __forceinline__ int quad_min(int v) {
  v = min(v, __shfl_xor_sync(ALL_LANES, v, 1));
  return min(v, __shfl_xor_sync(ALL_LANES, v, 2));
}

// Whether rows can be copied in pieces of 16 bytes.
__device__ __forceinline__ bool is_aligned(const bf16* tensor, int head_dim) {
  return head_dim % 8 == 0 && ((size_t)tensor & 15) == 0;
}

__device__ __forceinline__ bool is_finite(float x) {
  return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u;
}

// Rows of D elements, D + 8 apart: an odd number of pieces of 16 bytes, so the eight rows of a matrix
// that load_matrix reads meet no bank twice.
template <int D>
struct Tile {
  static constexpr int STRIDE = D + 8;
  static constexpr int PIECES = D / 8;
  static constexpr int LANES = D <= 64 ? 8 : D <= 128 ? 16 : 32;  // threads side by side at a row

  // Fragment a of rows [row, row + 16) and columns [column, column + 16).
  __device__ __forceinline__ static void load_a(
      unsigned (&a)[4], const bf16* tile, int row, int column) {
    int lane = threadIdx.x % WARP;
    load_matrix_x4(a, tile + (row + lane % 16) * STRIDE + column + lane / 16 * 8);
  }

  // Fragments b (b[0], b[1] and b[2], b[3]) of the transpose: rows [row, row + 16) are columns of b.
  __device__ __forceinline__ static void load_b(
      unsigned (&b)[4], const bf16* tile, int row, int column) {
    int lane = threadIdx.x % WARP;
    load_matrix_x4(
        b, tile + (row + lane % 8 + lane / 16 * 8) * STRIDE + column + lane / 8 % 2 * 8);
  }

  // Fragments b of the tile itself: columns [column, column + 16) are columns of b.
  __device__ __forceinline__ static void load_b_transposed(
      unsigned (&b)[4], const bf16* tile, int row, int column) {
    int lane = threadIdx.x % WARP;
    load_matrix_x4_transposed(b, tile + (row + lane % 16) * STRIDE + column + lane / 16 * 8);
  }

  // Copies rows [first, count) into a tile of ROWS, in the background where `aligned`; other rows
  // become zero, and so do columns from head_dim on. Thread `thread` of THREADS; `readable` is an
  // address of a row that exists.
  template <int ROWS, int THREADS>
  __device__ __forceinline__ static void copy(
      bf16* tile, const bf16* from, int row, int first, int count, int head_dim, bool aligned,
      int thread, const bf16* readable) {
    if (aligned) {
      constexpr int STEP = THREADS / LANES;
      int r = thread / LANES;
      int d = thread % LANES * 8;
      if (d < D) {
        const bf16* at = from + (size_t)r * row + d;
        tile += r * STRIDE + d;
        count = d < head_dim ? count : 0;
#pragma unroll 4
        for (; r < ROWS; r += STEP) {
          bool valid = r >= first && r < count;
          copy_async16(tile, valid ? at : readable, valid);
          at += (size_t)STEP * row;
          tile += STEP * STRIDE;
        }
      }
    } else {
#pragma unroll 1
      for (int i = thread; i < ROWS * D; i += THREADS) {
        int r = i / D;
        int d = i % D;
        tile[r * STRIDE + d] =
            r >= first && r < count && d < head_dim ? from[(size_t)r * row + d]
                                                    : from_float<bf16>(0.0f);
      }
    }
  }

  // Whether a tile holds an infinity or NaN, as far as this thread looks.
  template <int ROWS, int THREADS>
  __device__ __forceinline__ static bool holds_infinite(const bf16* tile, int thread) {
    bool finite = true;
#pragma unroll 1
    for (int i = thread; i < ROWS * PIECES; i += THREADS) {
      uint4 x = *(const uint4*)(tile + i / PIECES * STRIDE + i % PIECES * 8);
      finite &= is_finite(low_bf16(x.x)) && is_finite(high_bf16(x.x));
      finite &= is_finite(low_bf16(x.y)) && is_finite(high_bf16(x.y));
      finite &= is_finite(low_bf16(x.z)) && is_finite(high_bf16(x.z));
      finite &= is_finite(low_bf16(x.w)) && is_finite(high_bf16(x.w));
    }
    return !finite;
  }

  // Takes infinities and NaN out of a tile, as far as this thread looks.
  template <int ROWS, int THREADS>
  __device__ __forceinline__ static void drop_infinite(bf16* tile, int thread) {
#pragma unroll 1
    for (int i = thread; i < ROWS * D; i += THREADS) {
      bf16* x = tile + i / D * STRIDE + i % D;
      *x = is_finite(to_float(*x)) ? *x : from_float<bf16>(0.0f);
    }
  }

  // Writes 16 rows of a tile, `count` of them, by one warp.
  __device__ __forceinline__ static void write(
      bf16* to, int row, const bf16* tile, int count, int head_dim, bool aligned) {
    int lane = threadIdx.x % WARP;
    if (aligned) {
#pragma unroll 2
      for (int i = lane; i < 16 * LANES; i += WARP) {
        int r = i / LANES;
        int d = i % LANES * 8;
        if (r < count && d < head_dim) {
          *(uint4*)(to + (size_t)r * row + d) = *(const uint4*)(tile + r * STRIDE + d);
        }
      }
    } else {
#pragma unroll 1
      for (int i = lane; i < 16 * D; i += WARP) {
        int r = i / D;
        int d = i % D;
        if (r < count && d < head_dim) {
          to[(size_t)r * row + d] = tile[r * STRIDE + d];
        }
      }
    }
  }

  // Puts a fragment of sums, times a factor per row, into 16 rows of a tile.
  __device__ __forceinline__ static void put(
      bf16* tile, const float (&sums)[D / 8][4], float upper, float lower) {
    bf16* at = tile + fragment_row() * STRIDE + fragment_column();
#pragma unroll
    for (int j = 0; j < D / 8; j++) {
      *(unsigned*)(at + j * 8) = pack_bf16(sums[j][0] * upper, sums[j][1] * upper);
      *(unsigned*)(at + 8 * STRIDE + j * 8) = pack_bf16(sums[j][2] * lower, sums[j][3] * lower);
    }
  }
};

}  // namespace attention
