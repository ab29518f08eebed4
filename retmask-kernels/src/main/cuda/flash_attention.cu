// Attention in BF16 on tensor cores: what attention.cu computes, with scores, softmax and sums in F32
// and weights rounded to BF16 before they meet the values (Dao 2023).
//
//   q, z [N,H,D]   k, v [keys,Hkv,D], rows placed as BatchRow says   lse [N,H]   D <= 256
//
// A warp owns 16 or 32 queries, a block of four warps walks over the keys that its queries see, 64 at
// a time; the copy of values runs behind the scores, that of the next keys behind the weighted values.
// What a query sums up, and in which order, its position alone decides. Limited by tensor cores, 4 D
// operations per visible pair; fragments of 32 queries per warp halve what is read from shared memory.
#include "flash.cuh"

namespace attention {

static constexpr int FLASH_KEYS = 64;

// Adds the infinite values that were taken out of blocks which not all queries see to those which do.
template <int KEYS>
__device__ __forceinline__ void add_infinite(
    bf16* z, int q_row, const bf16* v, int kv_row, const KeyBlocks<KEYS>& blocks,
    const View& view, int position, int count, int head_dim) {
  for (int block = blocks.from(0); block <= blocks.last; block = blocks.from(block + KEYS)) {
    if (blocks.is_full(block)) {
      continue;
    }
    for (int j = block; j < min(block + KEYS, blocks.last + 1); j++) {
      for (int d = threadIdx.x; d < head_dim; d += FLASH_THREADS) {
        float x = to_float(v[(size_t)j * kv_row + d]);
        for (int n = 0; n < count && !is_finite(x); n++) {
          if (view.of(position + n).sees(j)) {
            z[(size_t)n * q_row + d] = from_float<bf16>(to_float(z[(size_t)n * q_row + d]) + x);
          }
        }
      }
    }
  }
}

// A block takes 64 TILES queries of one head. Block (h, tile).
template <int D, int TILES, bool READS>
__device__ __forceinline__ void attend_flash(
    bf16* z, float* lse, const bf16* q, const bf16* k, const bf16* v, const BatchRow* rows,
    const PlannedHead* plan, const float* means, const TokenTile* tiles, int kv_heads, int head_dim,
    int window, float scale, int few, const Reads& reads) {
  constexpr int OWN = 16 * TILES;  // queries of a warp
  constexpr int QUERIES = FLASH_WARPS * OWN;
  constexpr int KEYS = FLASH_KEYS;
  using Rows = Tile<D>;
  SHARED_MEMORY(memory);
  bf16* query = (bf16*)memory;                    // [QUERIES][D + 8]
  bf16* key = query + QUERIES * Rows::STRIDE;     // [KEYS][D + 8]
  bf16* value = key + KEYS * Rows::STRIDE;        // [KEYS][D + 8]
  int* infinite = (int*)(query + D);  // between two rows: the last block with infinite values

  int heads = gridDim.x;
  int head = blockIdx.x;
  TokenTile tile = tiles[gridDim.y - 1 - blockIdx.y];  // those with most keys first
  BatchRow row = rows[tile.row];
  if (row.length <= few) {
    return;  // not ours
  }
  int count = min(QUERIES, row.length - tile.first);
  int token = row.token_start + tile.first;
  PlannedHead planned = plan[tile.row * heads + head];
  if (planned.mode == HEAD_MEAN || planned.mode == HEAD_SKIP) {
    const float* mean = means + ((size_t)tile.row * heads + head) * head_dim;
    write_constant(z, lse, planned, mean, reads, token, count, heads, head, head_dim);
    return;
  }
  View view(planned, window);
  int position = row.past + tile.first;
  KeyBlocks<KEYS> blocks(view, position, position + count - 1);
  bool uniform = planned.mode == HEAD_UNIFORM || scale == 0.0f;
  float factor = uniform ? 1.0f : fabsf(scale);
  float to_log2 = factor * LOG2_E;
  bool asked = READS && reads.any(token, token + count);
  int q_row = heads * head_dim;
  int kv_row = kv_heads * head_dim;
  size_t kv_at = (size_t)row.key_start * kv_row + (size_t)(head / (heads / kv_heads)) * head_dim;
  size_t q_at = (size_t)token * q_row + (size_t)head * head_dim;
  k += kv_at;
  v += kv_at;
  bool aligned = is_aligned(k, head_dim) && is_aligned(v, head_dim);

  int warp = threadIdx.x / WARP;
  int first_own = position + warp * OWN;
  int last_own = min(first_own + OWN, position + count) - 1;
  int full_from = view.of(last_own).near_from;  // earlier keys are not seen by all of the warp
  float top[TILES][2];
  float sum[TILES][2];
  int top_key[TILES][2];
  float sums[TILES][D / 8][4];
#pragma unroll
  for (int t = 0; t < TILES; t++) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
      top[t][h] = LOWEST;
      sum[t][h] = 0.0f;
      top_key[t][h] = -1;
    }
#pragma unroll
    for (int j = 0; j < D / 8; j++) {
      sums[t][j][0] = sums[t][j][1] = sums[t][j][2] = sums[t][j][3] = 0.0f;
    }
  }

  if (threadIdx.x == 0) {
    *infinite = -1;
  }
  int block = blocks.from(0);
  Rows::template copy<QUERIES, FLASH_THREADS>(query, q + q_at, q_row, 0, count, head_dim,
                                              is_aligned(q, head_dim), threadIdx.x, q + q_at);
  Rows::template copy<KEYS, FLASH_THREADS>(key, k + (size_t)block * kv_row, kv_row, 0,
                                           blocks.last + 1 - block, head_dim, aligned, threadIdx.x,
                                           k);
  copy_async_commit();
  while (true) {
    copy_async_wait<0>();
    __syncthreads();  // keys are there, values are used up
    Rows::template copy<KEYS, FLASH_THREADS>(value, v + (size_t)block * kv_row, kv_row, 0,
                                             blocks.last + 1 - block, head_dim, aligned,
                                             threadIdx.x, v);
    copy_async_commit();

    bool works = block <= last_own;  // past the diagonal nothing is seen
    unsigned weights[TILES][KEYS / 16][4];
    if (works) {
      float s[TILES][KEYS / 8][4];
#pragma unroll
      for (int t = 0; t < TILES; t++) {
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) {
          s[t][j][0] = s[t][j][1] = s[t][j][2] = s[t][j][3] = 0.0f;
        }
      }
      if (!uniform) {
#pragma unroll(D == 96 ? 2 : 4)  // more would spill registers
        for (int d = 0; d < D; d += 16) {
          unsigned a[TILES][4];
#pragma unroll
          for (int t = 0; t < TILES; t++) {
            Rows::load_a(a[t], query, warp * OWN + t * 16, d);
          }
#pragma unroll
          for (int j = 0; j < KEYS / 8; j += 2) {
            unsigned b[4];
            Rows::load_b(b, key, j * 8, d);
#pragma unroll
            for (int t = 0; t < TILES; t++) {
              multiply_add_bf16(s[t][j], a[t], b[0], b[1]);
              multiply_add_bf16(s[t][j + 1], a[t], b[2], b[3]);
            }
          }
        }
      }
      if (scale < 0.0f) {
#pragma unroll
        for (int t = 0; t < TILES; t++) {
#pragma unroll
          for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
              s[t][j][e] = -s[t][j][e];
            }
          }
        }
      }
      if (block < full_from || block + KEYS - 1 > first_own) {
#pragma unroll
        for (int t = 0; t < TILES; t++) {
#pragma unroll
          for (int h = 0; h < 2; h++) {
            int at = first_own + t * 16 + h * 8 + fragment_row();
            unsigned long long seen = view.of(at).bits(block) >> fragment_column();
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++) {
              s[t][j][2 * h] = seen >> (8 * j) & 1 ? s[t][j][2 * h] : -INFINITY;
              s[t][j][2 * h + 1] = seen >> (8 * j) & 2 ? s[t][j][2 * h + 1] : -INFINITY;
            }
          }
        }
      }
#pragma unroll
      for (int t = 0; t < TILES; t++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
          float best = s[t][0][2 * h];
#pragma unroll
          for (int j = 0; j < KEYS / 8; j++) {
            best = fmaxf(best, fmaxf(s[t][j][2 * h], s[t][j][2 * h + 1]));
          }
          best = fmaxf(top[t][h], quad_max(best));
          if (READS && asked) {
            int at = NO_KEY;
#pragma unroll
            for (int j = KEYS / 8 - 1; j >= 0; j--) {
              at = s[t][j][2 * h + 1] == best ? block + j * 8 + fragment_column() + 1 : at;
              at = s[t][j][2 * h] == best ? block + j * 8 + fragment_column() : at;
            }
            at = quad_min(at);
            top_key[t][h] = best > top[t][h] ? at : top_key[t][h];
          }
          float keep = exp2_fast((top[t][h] - best) * to_log2);
          float shift = best == LOWEST ? 0.0f : best * to_log2;
          top[t][h] = best;
          float part = 0.0f;
#pragma unroll
          for (int j = 0; j < KEYS / 8; j++) {
            float left = exp2_fast(fmaf(s[t][j][2 * h], to_log2, -shift));
            float right = exp2_fast(fmaf(s[t][j][2 * h + 1], to_log2, -shift));
            part += left + right;
            weights[t][j / 2][j % 2 * 2 + h] = pack_bf16(left, right);
          }
          sum[t][h] = fmaf(sum[t][h], keep, part);
#pragma unroll
          for (int j = 0; j < D / 8; j++) {
            sums[t][j][2 * h] *= keep;
            sums[t][j][2 * h + 1] *= keep;
          }
        }
      }
    }

    copy_async_wait<0>();
    __syncthreads();  // values are there, keys are used up
    int next = blocks.from(block + KEYS);
    if (next <= blocks.last) {
      Rows::template copy<KEYS, FLASH_THREADS>(key, k + (size_t)next * kv_row, kv_row, 0,
                                               blocks.last + 1 - next, head_dim, aligned,
                                               threadIdx.x, k);
      copy_async_commit();
    }
    if (!blocks.is_full(block)) {
      // What a query does not see must not reach it, not even times zero: infinities wait till the end.
      if (Rows::template holds_infinite<KEYS, FLASH_THREADS>(value, threadIdx.x)) {
        *infinite = block;
      }
      __syncthreads();
      if (*infinite == block) {
        Rows::template drop_infinite<KEYS, FLASH_THREADS>(value, threadIdx.x);
        __syncthreads();
      }
    }
    if (works) {
#pragma unroll
      for (int j = 0; j < KEYS / 16; j++) {
#pragma unroll
        for (int i = 0; i < D / 8; i += 2) {
          unsigned b[4];
          Rows::load_b_transposed(b, value, j * 16, i * 8);
#pragma unroll
          for (int t = 0; t < TILES; t++) {
            multiply_add_bf16(sums[t][i], weights[t][j], b[0], b[1]);
            multiply_add_bf16(sums[t][i + 1], weights[t][j], b[2], b[3]);
          }
        }
      }
    }
    if (next > blocks.last) {
      break;
    }
    block = next;
  }

#pragma unroll
  for (int t = 0; t < TILES; t++) {
    float share[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
      sum[t][h] = quad_sum(sum[t][h]);
      share[h] = 1.0f / sum[t][h];
      int n = warp * OWN + t * 16 + h * 8 + fragment_row();
      if (n < count && threadIdx.x % 4 == 0) {
        Softmax softmax{top[t][h] * factor, sum[t][h], top_key[t][h]};
        finish(lse, reads, view.of(position + n), softmax, token + n, heads, head);
      }
    }
    int first = warp * OWN + t * 16;
    bf16* own = query + first * Rows::STRIDE;
    Rows::put(own, sums[t], share[0], share[1]);
    __syncwarp();
    Rows::write(z + q_at + (size_t)first * q_row, q_row, own, count - first, head_dim,
                is_aligned(z, head_dim));
  }
  __syncthreads();
  if (*infinite >= 0) {
    add_infinite<KEYS>(z + q_at, q_row, v, kv_row, blocks, view, position, count, head_dim);
  }
}

}  // namespace attention
using namespace attention;

// Queries of a row with more than `few` tokens. Grid (H, tiles of 64 TILES tokens).
#define FLASH_ATTENTION(NAME, D, TILES, READS, BLOCKS)                                             \
  extern "C" __global__ void __launch_bounds__(FLASH_THREADS, BLOCKS) NAME(                        \
      bf16* z, float* lse, const bf16* q, const bf16* k, const bf16* v, const BatchRow* rows,      \
      const PlannedHead* plan, const float* means, const TokenTile* tiles, int kv_heads,           \
      int head_dim, int window, float scale, int few, const int* queries, int query_count,         \
      int* top_position, float* top_weight, float* log_sum_exp, float* tops, float* sums) {        \
    attend_flash<D, TILES, READS>(                                                                 \
        z, lse, q, k, v, rows, plan, means, tiles, kv_heads, head_dim, window, scale, few,         \
        Reads{queries, query_count, top_position, top_weight, log_sum_exp, tops, sums});           \
  }                                                                                                \
  EXPORT_KERNEL(NAME)

FLASH_ATTENTION(flash_attention_d64, 64, 2, false, 2)
FLASH_ATTENTION(flash_attention_d96, 96, 2, false, 2)
FLASH_ATTENTION(flash_attention_d128, 128, 2, false, 2)
FLASH_ATTENTION(flash_attention_d256, 256, 1, false, 2)
FLASH_ATTENTION(flash_attention_d64_reads, 64, 1, true, 2)
FLASH_ATTENTION(flash_attention_d96_reads, 96, 1, true, 2)
FLASH_ATTENTION(flash_attention_d128_reads, 128, 1, true, 2)
FLASH_ATTENTION(flash_attention_d256_reads, 256, 1, true, 2)
