// Gradients of attention in BF16 on tensor cores: what attention_backward.cu computes, with weights and
// gradients of scores in F32 until they meet the next matrix, sums in F32 (Dao 2023).
//
//   dq, dz, q, z [N,H,D]   dk, dv, k, v [keys,Hkv,D]   lse [N,H]   D <= 256
//
// No atomics: one kernel owns 64 keys of a kv head, 16 per warp, and walks over its query heads and the
// queries that see them; another owns queries of a head and walks over the keys. Scores are formed
// with the owned rows as rows of the fragments, so weights go from one product into the next within a
// thread. 14 instead of 10 D operations per visible pair, but the same bits each time. Where the sums of
// both gradients of keys do not fit into registers, D > 128, one kernel per gradient. Limited by tensor
// cores, and by the reading of fragments from shared memory.
#include "flash.cuh"

namespace attention {

static constexpr int STATS_THREADS = 256;

// What every query keeps: what its weights are divided by, as a power of two, and delta = dz . z. A
// warp per (n, h); out [H,N].
__device__ __forceinline__ void find_stats(
    float4* stats, const bf16* dz, const bf16* z, const float* lse, const BatchRow* rows,
    const int* row_of, const PlannedHead* plan, int tokens, int heads, int head_dim, int window) {
  int cell = blockIdx.x * (STATS_THREADS / WARP) + threadIdx.x / WARP;
  if (cell >= tokens * heads) {
    return;
  }
  int token = cell / heads;
  int head = cell % heads;
  PlannedHead planned = plan[row_of[token] * heads + head];
  float sum = 0.0f;
  float log_sum = 0.0f;
  if (planned.mode == HEAD_ATTEND) {
    for (int d = threadIdx.x % WARP; d < head_dim; d += WARP) {
      size_t at = (size_t)cell * head_dim + d;
      sum = fmaf(to_float(dz[at]), to_float(z[at]), sum);
    }
    sum = warp_sum(sum);
    log_sum = lse[cell] * LOG2_E;
  } else if (planned.mode == HEAD_UNIFORM) {
    BatchRow row = rows[row_of[token]];
    log_sum = log2f(View(planned, window).of(row.past + token - row.token_start).count());
  }
  if (threadIdx.x % WARP == 0) {
    stats[(size_t)head * tokens + token] = make_float4(log_sum, sum, 0.0f, 0.0f);
  }
}

// Sets row flags: NaN where a row of either tile holds an infinity or NaN, 0 elsewhere, and takes these
// out. Flags lie behind the rows of the second tile. For all threads of the block.
template <int D, int ROWS>
__device__ __forceinline__ void flag_infinite(bf16* first, bf16* second) {
  for (int r = threadIdx.x; r < ROWS; r += FLASH_THREADS) {
    bool finite = true;
#pragma unroll 1
    for (int d = 0; d < D; d++) {
      finite &= is_finite(to_float(first[r * Tile<D>::STRIDE + d])) &&
                is_finite(to_float(second[r * Tile<D>::STRIDE + d]));
    }
    *(float*)(second + r * Tile<D>::STRIDE + D) = finite ? 0.0f : NAN;
  }
  __syncthreads();
  Tile<D>::template drop_infinite<ROWS, FLASH_THREADS>(first, threadIdx.x);
  Tile<D>::template drop_infinite<ROWS, FLASH_THREADS>(second, threadIdx.x);
  __syncthreads();
}

// Block (kv head, tile of 64 keys): dk, dv or both.
template <int D, int QUERIES, bool KEYS, bool VALUES>
__device__ __forceinline__ void differentiate_keys(
    bf16* dk, bf16* dv, const bf16* dz, const bf16* q, const bf16* k, const bf16* v,
    const float4* stats, const BatchRow* rows, const PlannedHead* plan, const TokenTile* tiles,
    int tokens, int heads, int head_dim, int window, float scale) {
  constexpr int SIZE = 16 * FLASH_WARPS;
  using Rows = Tile<D>;
  SHARED_MEMORY(memory);
  bf16* query = (bf16*)memory;                      // [QUERIES][D + 8], stats behind each row
  bf16* d_out = query + QUERIES * Rows::STRIDE;     // [QUERIES][D + 8]
  bf16* key = d_out + QUERIES * Rows::STRIDE;       // [SIZE][D + 8]
  bf16* value = key + SIZE * Rows::STRIDE;          // [SIZE][D + 8], unless VALUES alone
  int* infinite = (int*)(key + D);                  // between two rows: the last step that found some

  int kv_heads = gridDim.x;
  int kv_head = blockIdx.x;
  TokenTile tile = tiles[blockIdx.y];
  BatchRow row = rows[tile.row];
  int row_end = row.past + row.length;            // of its keys, and of its queries
  int position_zero = row.token_start - row.past; // the token there would be, were it not cached
  int keys = min(SIZE, row_end - tile.first);
  int group = heads / kv_heads;
  int q_row = heads * head_dim;
  int kv_row = kv_heads * head_dim;
  size_t kv_at = (size_t)(row.key_start + tile.first) * kv_row + (size_t)kv_head * head_dim;
  bool aligned = is_aligned(q, head_dim) && is_aligned(dz, head_dim);
  int warp = threadIdx.x / WARP;

  float d_keys[KEYS ? D / 8 : 1][4];
  float d_values[VALUES ? D / 8 : 1][4];
#pragma unroll
  for (int i = 0; i < D / 8; i++) {
    if constexpr (KEYS) {
      d_keys[i][0] = d_keys[i][1] = d_keys[i][2] = d_keys[i][3] = 0.0f;
    }
    if constexpr (VALUES) {
      d_values[i][0] = d_values[i][1] = d_values[i][2] = d_values[i][3] = 0.0f;
    }
  }

  // Steps: for each head of the group that attends, the tiles of queries that see some of the keys.
  int head = kv_head * group - 1;
  int first = 0;
  int end = 0;  // of the queries of the head
  int near = 0;
  int sink = 0;
  bool uniform = false;
  auto advance = [&]() {
    first += QUERIES;
    while (first >= end && ++head < (kv_head + 1) * group) {
      PlannedHead planned = plan[tile.row * heads + head];
      uniform = planned.mode == HEAD_UNIFORM;
      if (planned.mode == HEAD_ATTEND || (VALUES && uniform)) {
        View view(planned, window);
        near = view.near;
        sink = view.sink;
        long long seen_until = view.query_end(tile.first + keys - 1);
        if (tile.first < sink) {
          seen_until = max(seen_until, view.query_end(min(tile.first + keys, sink) - 1));
        }
        first = max(tile.first, row.past);
        end = (int)min((long long)row_end, seen_until);
      }
    }
  };
  auto copy_queries = [&]() {
    size_t at = (size_t)(position_zero + first) * q_row + (size_t)head * head_dim;
    int count = min(QUERIES, row_end - first);
    Rows::template copy<QUERIES, FLASH_THREADS>(query, q + at, q_row, 0, count, head_dim, aligned,
                                                threadIdx.x, q + at);
    const float4* of_query = stats + (size_t)head * tokens + position_zero + first;
    for (int i = threadIdx.x; i < QUERIES; i += FLASH_THREADS) {
      copy_async16(query + i * Rows::STRIDE + D, of_query + (i < count ? i : 0), i < count);
    }
    copy_async_commit();
  };

  if (threadIdx.x == 0) {
    *infinite = 0;
  }
  Rows::template copy<SIZE, FLASH_THREADS>(key, k + kv_at, kv_row, 0, keys, head_dim,
                                           is_aligned(k, head_dim), threadIdx.x, k + kv_at);
  if constexpr (KEYS) {
    Rows::template copy<SIZE, FLASH_THREADS>(value, v + kv_at, kv_row, 0, keys, head_dim,
                                             is_aligned(v, head_dim), threadIdx.x, v + kv_at);
  }
  copy_async_commit();
  advance();
  if (head < (kv_head + 1) * group) {
    copy_queries();
  }
  float to_log2 = scale * LOG2_E;
  for (int step = 1; head < (kv_head + 1) * group; step++) {
    copy_async_wait<0>();
    __syncthreads();  // queries are there, dz is used up
    {
      size_t at = (size_t)(position_zero + first) * q_row + (size_t)head * head_dim;
      Rows::template copy<QUERIES, FLASH_THREADS>(d_out, dz + at, q_row, 0,
                                                  min(QUERIES, row_end - first), head_dim,
                                                  aligned, threadIdx.x, dz + at);
      copy_async_commit();
    }

    // What does not see a key must not reach it, not even times zero.
    bool full = first >= tile.first + SIZE - 1 && first + QUERIES - near <= tile.first;
    if (!full && Rows::template holds_infinite<QUERIES, FLASH_THREADS>(query, threadIdx.x)) {
      *infinite = step;
    }
    float p[QUERIES / 8][4];  // weights [key][query]
#pragma unroll
    for (int j = 0; j < QUERIES / 8; j++) {
      p[j][0] = p[j][1] = p[j][2] = p[j][3] = 0.0f;
    }
    if (!uniform) {
#pragma unroll
      for (int d = 0; d < D; d += 16) {
        unsigned a[4];
        Rows::load_a(a, key, warp * 16, d);
#pragma unroll
        for (int j = 0; j < QUERIES / 8; j += 2) {
          unsigned b[4];
          Rows::load_b(b, query, j * 8, d);
          multiply_add_bf16(p[j], a, b[0], b[1]);
          multiply_add_bf16(p[j + 1], a, b[2], b[3]);
        }
      }
    }
    const float* own_stats = (const float*)(query + fragment_column() * Rows::STRIDE + D);
    constexpr int NEXT = Rows::STRIDE / 2;  // floats from a query to the next
#pragma unroll
    for (int j = 0; j < QUERIES / 8; j++) {
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float log_sum = own_stats[(8 * j + e) * NEXT];
        p[j][e] = exp2_fast(fmaf(p[j][e], to_log2, -log_sum));
        p[j][2 + e] = exp2_fast(fmaf(p[j][2 + e], to_log2, -log_sum));
      }
    }

    copy_async_wait<0>();
    __syncthreads();  // dz is there
    if (!full) {
      if (Rows::template holds_infinite<QUERIES, FLASH_THREADS>(d_out, threadIdx.x)) {
        *infinite = step;
      }
      __syncthreads();
      if (*infinite == step) {
        flag_infinite<D, QUERIES>(query, d_out);
        const float* flags = (const float*)(d_out + fragment_column() * Rows::STRIDE + D);
#pragma unroll
        for (int j = 0; j < QUERIES / 8; j++) {
#pragma unroll
          for (int e = 0; e < 4; e++) {
            p[j][e] += flags[(8 * j + e % 2) * NEXT];
          }
        }
      }
#pragma unroll
      for (int h = 0; h < 2; h++) {
        int own = tile.first + warp * 16 + fragment_row() + 8 * h;
        int further = own < sink ? window : near;  // to = min(own + further, first + QUERIES)
        int to = further > first + QUERIES - own ? QUERIES : own + further - first;
        unsigned long long seen = bit_range(own - first, to) >> fragment_column();
#pragma unroll
        for (int j = 0; j < QUERIES / 8; j++) {
#pragma unroll
          for (int e = 0; e < 2; e++) {
            p[j][2 * h + e] = seen >> (8 * j + e) & 1 ? p[j][2 * h + e] : 0.0f;
          }
        }
      }
    }
    if constexpr (KEYS) {
      if (!uniform) {
        // A half of the queries at a time: less to hold.
        constexpr int HALF = QUERIES / 16;
#pragma unroll
        for (int half = 0; half < 2; half++) {
          float ds[HALF][4];  // gradients of scores
#pragma unroll
          for (int j = 0; j < HALF; j++) {
            ds[j][0] = ds[j][1] = ds[j][2] = ds[j][3] = 0.0f;
          }
#pragma unroll
          for (int d = 0; d < D; d += 16) {
            unsigned a[4];
            Rows::load_a(a, value, warp * 16, d);
#pragma unroll
            for (int j = 0; j < HALF; j += 2) {
              unsigned b[4];
              Rows::load_b(b, d_out, (half * HALF + j) * 8, d);
              multiply_add_bf16(ds[j], a, b[0], b[1]);
              multiply_add_bf16(ds[j + 1], a, b[2], b[3]);
            }
          }
#pragma unroll
          for (int j = 0; j < HALF; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
              float weight = p[half * HALF + j][e];
              float delta = own_stats[(8 * (half * HALF + j) + e % 2) * NEXT + 1];
              ds[j][e] = !full && weight == 0.0f ? 0.0f : weight * (ds[j][e] - delta);
            }
          }
#pragma unroll
          for (int j = 0; j < HALF; j += 2) {
            const unsigned a[4] = {pack_bf16(ds[j][0], ds[j][1]), pack_bf16(ds[j][2], ds[j][3]),
                                   pack_bf16(ds[j + 1][0], ds[j + 1][1]),
                                   pack_bf16(ds[j + 1][2], ds[j + 1][3])};
#pragma unroll
            for (int i = 0; i < D / 8; i += 2) {
              unsigned b[4];
              Rows::load_b_transposed(b, query, (half * HALF + j) * 8, i * 8);
              multiply_add_bf16(d_keys[i], a, b[0], b[1]);
              multiply_add_bf16(d_keys[i + 1], a, b[2], b[3]);
            }
          }
        }
      }
    }
    __syncthreads();  // queries are used up
    advance();
    if (head < (kv_head + 1) * group) {
      copy_queries();
    }
    if constexpr (VALUES) {
#pragma unroll
      for (int j = 0; j < QUERIES / 8; j += 2) {
        const unsigned a[4] = {pack_bf16(p[j][0], p[j][1]), pack_bf16(p[j][2], p[j][3]),
                               pack_bf16(p[j + 1][0], p[j + 1][1]),
                               pack_bf16(p[j + 1][2], p[j + 1][3])};
#pragma unroll
        for (int i = 0; i < D / 8; i += 2) {
          unsigned b[4];
          Rows::load_b_transposed(b, d_out, j * 8, i * 8);
          multiply_add_bf16(d_values[i], a, b[0], b[1]);
          multiply_add_bf16(d_values[i + 1], a, b[2], b[3]);
        }
      }
    }
  }

  copy_async_wait<0>();
  __syncthreads();
  bf16* own = key + warp * 16 * Rows::STRIDE;
  size_t at = kv_at + (size_t)(warp * 16) * kv_row;
  if constexpr (KEYS) {
    Rows::put(own, d_keys, scale, scale);
    __syncwarp();
    Rows::write(dk + at, kv_row, own, keys - warp * 16, head_dim, is_aligned(dk, head_dim));
    __syncwarp();
  }
  if constexpr (VALUES) {
    Rows::put(own, d_values, 1.0f, 1.0f);
    __syncwarp();
    Rows::write(dv + at, kv_row, own, keys - warp * 16, head_dim, is_aligned(dv, head_dim));
  }
}

// Block (head, tile of 64 TILES queries): dq.
template <int D, int TILES, int STAGES>
__device__ __forceinline__ void differentiate_queries(
    bf16* dq, const bf16* dz, const bf16* q, const bf16* k, const bf16* v, const float4* stats,
    const BatchRow* rows, const PlannedHead* plan, const TokenTile* tiles, int tokens, int kv_heads,
    int head_dim, int window, float scale) {
  constexpr int OWN = 16 * TILES;  // queries of a warp
  constexpr int QUERIES = FLASH_WARPS * OWN;
  constexpr int KEYS = 32;
  using Rows = Tile<D>;
  SHARED_MEMORY(memory);
  bf16* query = (bf16*)memory;                     // [QUERIES][D + 8], stats behind each row
  bf16* d_out = query + QUERIES * Rows::STRIDE;    // [QUERIES][D + 8]
  bf16* value = d_out + QUERIES * Rows::STRIDE;    // [KEYS][D + 8]
  bf16* keys = value + KEYS * Rows::STRIDE;        // [STAGES][KEYS][D + 8]
  int* infinite = (int*)(d_out + D);  // between two rows: the last block with infinite keys

  int heads = gridDim.x;
  int head = blockIdx.x;
  TokenTile tile = tiles[gridDim.y - 1 - blockIdx.y];  // those with most keys first
  BatchRow row = rows[tile.row];
  int count = min(QUERIES, row.length - tile.first);
  int token = row.token_start + tile.first;
  int position = row.past + tile.first;
  unsigned q_row = heads * head_dim;  // unsigned: D 128 has no registers left for signs
  unsigned kv_row = kv_heads * head_dim;
  size_t q_at = (size_t)token * q_row + (size_t)head * head_dim;
  PlannedHead planned = plan[tile.row * heads + head];
  int warp = threadIdx.x / WARP;
  if (planned.mode != HEAD_ATTEND) {
    for (int n = warp; n < count; n += FLASH_WARPS) {
      for (int d = threadIdx.x % WARP; d < head_dim; d += WARP) {
        dq[q_at + (size_t)n * q_row + d] = from_float<bf16>(0.0f);
      }
    }
    return;
  }
  View view(planned, window);
  KeyBlocks<KEYS> blocks(view, position, position + count - 1);
  size_t kv_at =
      (size_t)row.key_start * kv_row + (size_t)(head / (heads / kv_heads)) * head_dim;
  k += kv_at;
  v += kv_at;
  bool aligned = is_aligned(k, head_dim) && is_aligned(v, head_dim);
  int first_own = position + warp * OWN;
  float sums[TILES][D / 8][4];
#pragma unroll
  for (int t = 0; t < TILES; t++) {
#pragma unroll
    for (int j = 0; j < D / 8; j++) {
      sums[t][j][0] = sums[t][j][1] = sums[t][j][2] = sums[t][j][3] = 0.0f;
    }
  }
  if (threadIdx.x == 0) {
    *infinite = -1;
  }
  Rows::template copy<QUERIES, FLASH_THREADS>(query, q + q_at, q_row, 0, count, head_dim,
                                              is_aligned(q, head_dim), threadIdx.x, q + q_at);
  Rows::template copy<QUERIES, FLASH_THREADS>(d_out, dz + q_at, q_row, 0, count, head_dim,
                                              is_aligned(dz, head_dim), threadIdx.x, dz + q_at);
  for (int n = threadIdx.x; n < count; n += FLASH_THREADS) {
    copy_async16(query + n * Rows::STRIDE + D, stats + (size_t)head * tokens + token + n);
  }
  auto copy_keys = [&](int block, int stage) {
    Rows::template copy<KEYS, FLASH_THREADS>(
        keys + stage * KEYS * Rows::STRIDE, k + (size_t)block * kv_row, kv_row, 0,
        blocks.last + 1 - block, head_dim, aligned, threadIdx.x, k);
  };
  auto copy_values = [&](int block) {
    Rows::template copy<KEYS, FLASH_THREADS>(value, v + (size_t)block * kv_row, kv_row, 0,
                                             blocks.last + 1 - block, head_dim, aligned,
                                             threadIdx.x, v);
  };
  int block = blocks.from(0);
  copy_keys(block, 0);
  copy_values(block);
  copy_async_commit();
  float to_log2 = scale * LOG2_E;
  for (int stage = 0; block <= blocks.last; stage = (stage + 1) % STAGES) {
    copy_async_wait<0>();
    __syncthreads();  // keys and values are there, earlier keys are used up
    int next = blocks.from(block + KEYS);
    if (STAGES > 1 && next <= blocks.last) {
      copy_keys(next, (stage + 1) % STAGES);
      copy_async_commit();
    }
    bf16* key = keys + stage * KEYS * Rows::STRIDE;
    // What a query does not see must not reach it, not even times zero.
    bool full = blocks.is_full(block);
    bool flagged = false;
    if (!full) {
      if (Rows::template holds_infinite<KEYS, FLASH_THREADS>(key, threadIdx.x)) {
        *infinite = block;
      }
      __syncthreads();
      flagged = *infinite == block;
      if (flagged) {
        flag_infinite<D, KEYS>(value, key);
      }
    }
    float s[TILES][KEYS / 8][4];
    float ds[TILES][KEYS / 8][4];
#pragma unroll
    for (int t = 0; t < TILES; t++) {
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++) {
        s[t][j][0] = s[t][j][1] = s[t][j][2] = s[t][j][3] = 0.0f;
        ds[t][j][0] = ds[t][j][1] = ds[t][j][2] = ds[t][j][3] = 0.0f;
      }
    }
#pragma unroll
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
#pragma unroll 2
    for (int d = 0; d < D; d += 16) {
      unsigned a[TILES][4];
#pragma unroll
      for (int t = 0; t < TILES; t++) {
        Rows::load_a(a[t], d_out, warp * OWN + t * 16, d);
      }
#pragma unroll
      for (int j = 0; j < KEYS / 8; j += 2) {
        unsigned b[4];
        Rows::load_b(b, value, j * 8, d);
#pragma unroll
        for (int t = 0; t < TILES; t++) {
          multiply_add_bf16(ds[t][j], a[t], b[0], b[1]);
          multiply_add_bf16(ds[t][j + 1], a[t], b[2], b[3]);
        }
      }
    }
#pragma unroll
    for (int t = 0; t < TILES; t++) {
#pragma unroll
      for (int h = 0; h < 2; h++) {
        int n = warp * OWN + t * 16 + h * 8 + fragment_row();
        float2 own = *(const float2*)(query + n * Rows::STRIDE + D);
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
          for (int e = 2 * h; e < 2 * h + 2; e++) {
            float p = exp2_fast(fmaf(s[t][j][e], to_log2, -own.x));
            ds[t][j][e] = p * (ds[t][j][e] - own.y);
          }
        }
      }
    }
    if (flagged) {
      const float* flags = (const float*)(key + fragment_column() * Rows::STRIDE + D);
#pragma unroll
      for (int t = 0; t < TILES; t++) {
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
          for (int e = 0; e < 4; e++) {
            ds[t][j][e] += flags[(8 * j + e % 2) * (Rows::STRIDE / 2)];
          }
        }
      }
    }
    if (!full) {
#pragma unroll
      for (int t = 0; t < TILES; t++) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
          int at = first_own + t * 16 + h * 8 + fragment_row();
          unsigned seen = (unsigned)view.of(at).bits(block) >> fragment_column();
#pragma unroll
          for (int j = 0; j < KEYS / 8; j++) {
            ds[t][j][2 * h] = seen >> (8 * j) & 1 ? ds[t][j][2 * h] : 0.0f;
            ds[t][j][2 * h + 1] = seen >> (8 * j) & 2 ? ds[t][j][2 * h + 1] : 0.0f;
          }
        }
      }
    }
    if (STAGES > 1 && next <= blocks.last) {
      __syncthreads();  // values are used up
      copy_values(next);
      copy_async_commit();
    }
#pragma unroll
    for (int j = 0; j < KEYS / 8; j += 2) {
      unsigned a[TILES][4];
#pragma unroll
      for (int t = 0; t < TILES; t++) {
        a[t][0] = pack_bf16(ds[t][j][0], ds[t][j][1]);
        a[t][1] = pack_bf16(ds[t][j][2], ds[t][j][3]);
        a[t][2] = pack_bf16(ds[t][j + 1][0], ds[t][j + 1][1]);
        a[t][3] = pack_bf16(ds[t][j + 1][2], ds[t][j + 1][3]);
      }
#pragma unroll
      for (int i = 0; i < D / 8; i += 2) {
        unsigned b[4];
        Rows::load_b_transposed(b, key, j * 8, i * 8);
#pragma unroll
        for (int t = 0; t < TILES; t++) {
          multiply_add_bf16(sums[t][i], a[t], b[0], b[1]);
          multiply_add_bf16(sums[t][i + 1], a[t], b[2], b[3]);
        }
      }
    }
    if (STAGES == 1 && next <= blocks.last) {
      __syncthreads();  // keys and values are used up
      copy_keys(next, 0);
      copy_values(next);
      copy_async_commit();
    }
    block = next;
  }
  __syncwarp();
#pragma unroll
  for (int t = 0; t < TILES; t++) {
    int first = warp * OWN + t * 16;
    bf16* own = query + first * Rows::STRIDE;
    Rows::put(own, sums[t], scale, scale);
    __syncwarp();
    Rows::write(dq + q_at + (size_t)first * q_row, q_row, own, count - first, head_dim,
                is_aligned(dq, head_dim));
  }
}

}  // namespace attention
using namespace attention;

extern "C" __global__ void __launch_bounds__(STATS_THREADS) flash_attention_stats(
    float4* stats, const bf16* dz, const bf16* z, const float* lse, const BatchRow* rows,
    const int* row_of, const PlannedHead* plan, int tokens, int heads, int head_dim, int window) {
  find_stats(stats, dz, z, lse, rows, row_of, plan, tokens, heads, head_dim, window);
}
EXPORT_KERNEL(flash_attention_stats)

// Grid (Hkv, tiles of 64 keys).
#define FLASH_BACKWARD_KEYS(NAME, D, QUERIES, KEYS, VALUES)                                        \
  extern "C" __global__ void __launch_bounds__(FLASH_THREADS, 2) NAME(                             \
      bf16* dk, bf16* dv, const bf16* dz, const bf16* q, const bf16* k, const bf16* v,             \
      const float4* stats, const BatchRow* rows, const PlannedHead* plan, const TokenTile* tiles,  \
      int tokens, int heads, int head_dim, int window, float scale) {                              \
    differentiate_keys<D, QUERIES, KEYS, VALUES>(dk, dv, dz, q, k, v, stats, rows, plan, tiles,    \
                                                 tokens, heads, head_dim, window, scale);          \
  }                                                                                                \
  EXPORT_KERNEL(NAME)

FLASH_BACKWARD_KEYS(flash_attention_backward_keys_d64, 64, 64, true, true)
FLASH_BACKWARD_KEYS(flash_attention_backward_keys_d96, 96, 64, true, true)
FLASH_BACKWARD_KEYS(flash_attention_backward_keys_d128, 128, 64, true, true)
FLASH_BACKWARD_KEYS(flash_attention_backward_keys_d256, 256, 32, true, false)
FLASH_BACKWARD_KEYS(flash_attention_backward_values_d256, 256, 32, false, true)

// Grid (H, tiles of 64 TILES tokens).
#define FLASH_BACKWARD_QUERIES(NAME, D, TILES, STAGES)                                             \
  extern "C" __global__ void __launch_bounds__(FLASH_THREADS, 2) NAME(                             \
      bf16* dq, const bf16* dz, const bf16* q, const bf16* k, const bf16* v,                       \
      const float4* stats, const BatchRow* rows, const PlannedHead* plan, const TokenTile* tiles,  \
      int tokens, int kv_heads, int head_dim, int window, float scale) {                           \
    differentiate_queries<D, TILES, STAGES>(dq, dz, q, k, v, stats, rows, plan, tiles, tokens,     \
                                            kv_heads, head_dim, window, scale);                    \
  }                                                                                                \
  EXPORT_KERNEL(NAME)

FLASH_BACKWARD_QUERIES(flash_attention_backward_queries_d64, 64, 2, 2)
FLASH_BACKWARD_QUERIES(flash_attention_backward_queries_d96, 96, 2, 2)
FLASH_BACKWARD_QUERIES(flash_attention_backward_queries_d128, 128, 2, 2)
FLASH_BACKWARD_QUERIES(flash_attention_backward_queries_d256, 256, 1, 1)
