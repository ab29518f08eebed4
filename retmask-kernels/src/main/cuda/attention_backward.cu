// Gradients of attention in F32, weights recomputed from lse (Dao et al. 2022).
//
//   p = exp(scale q . k - lse)   dp = dz . v   delta = dz . z   ds = p (dp - delta)
//   dv[j] = sum p dz   dk[j] = sum ds scale q   dq[i] = scale sum ds k
//
//   dq, dz, q, z [N,H,D]   dk, dv, k, v [keys,Hkv,D]   lse, delta [N,H]   D <= 256
//
// No atomics: dk and dv by a kernel whose blocks own some keys of a kv head and walk over its query
// heads and the queries that see the keys, dq by a kernel whose blocks own some queries of a head and
// walk over the keys; scores and dp are computed twice, 14 instead of 10 D operations per visible
// pair. Every element is one sum in an order that positions in the row decide. A uniform head gives dv
// alone, mean and skipped heads nothing, whatever their dz and z hold. Limited by F32 arithmetic.
#include "attention.cuh"

namespace attention {

// delta[n,h] = dz . z for heads that attend; a warp per (n, h).
static constexpr int DELTA_THREADS = 256;

template <class T>
__device__ __forceinline__ void find_deltas(
    float* delta, const T* dz, const T* z, const int* row_of, const PlannedHead* plan, int cells,
    int heads, int head_dim) {
  int cell = blockIdx.x * (DELTA_THREADS / WARP) + threadIdx.x / WARP;
  if (cell >= cells) {
    return;
  }
  int mode = plan[row_of[cell / heads] * heads + cell % heads].mode;
  if (mode != HEAD_ATTEND) {
    return;
  }
  float sum = 0.0f;
  for (int d = threadIdx.x % WARP; d < head_dim; d += WARP) {
    size_t at = (size_t)cell * head_dim + d;
    sum = fmaf(to_float(dz[at]), to_float(z[at]), sum);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % WARP == 0) {
    delta[cell] = sum;
  }
}

// Copies a column of a [N,H] tensor; zeros behind count.
template <int COUNT>
__device__ __forceinline__ void copy_column(
    float* to, const float* from, int heads, int count) {
  if (threadIdx.x < COUNT) {
    to[threadIdx.x] = threadIdx.x < count ? from[(size_t)threadIdx.x * heads] : 0.0f;
  }
}

// A tile of weights or gradients of scores: rows SIZE + 4 apart, the two of a warp in other banks.
template <int ROWS, int SIZE>
__device__ __forceinline__ void keep_tile(float* tile, const float (&x)[ROWS][ROWS]) {
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
#pragma unroll
    for (int c = 0; c < ROWS; c++) {
      tile[(threadIdx.x / SIDE * ROWS + r) * (SIZE + 4) + threadIdx.x % SIDE + SIDE * c] = x[r][c];
    }
  }
}

// Block (kv head, tile of keys): dk and dv of 16 ROWS keys.
template <int PADDED, int ROWS>
__device__ __forceinline__ void differentiate_keys(
    float* dk, float* dv, const float* dz, const float* q, const float* k, const float* v,
    const float* lse, const float* delta, const BatchRow* rows, const PlannedHead* plan,
    const TokenTile* tiles, int heads, int head_dim, int window, float scale) {
  constexpr int SIZE = SIDE * ROWS;  // keys, and queries at a time
  using Own = Columns<PADDED>;
  SHARED_MEMORY(memory);
  int stride = tile_stride(head_dim);
  float* key = (float*)memory;              // [SIZE][stride]
  float* value = key + SIZE * stride;       // [SIZE][stride]
  float* query = value + SIZE * stride;     // [SIZE][stride], times scale
  float* d_out = query + SIZE * stride;     // [SIZE][stride]
  float* weight = d_out + max(SIZE * stride, (SIZE - 1) * stride + PADDED);  // [SIZE][SIZE + 4]
  float* d_score = weight + SIZE * (SIZE + 4);                               // [SIZE][SIZE + 4]
  float* log_sum = d_score + SIZE * (SIZE + 4);                              // [SIZE]
  float* shift = log_sum + SIZE;                                             // [SIZE]

  int kv_heads = gridDim.x;
  int kv_head = blockIdx.x;
  TokenTile tile = tiles[blockIdx.y];
  BatchRow row = rows[tile.row];
  int row_end = row.past + row.length;            // of its keys, and of its queries
  int position_zero = row.token_start - row.past; // the token there would be, were it not cached
  int keys = min(SIZE, row_end - tile.first);
  int group = heads / kv_heads;
  long long q_row = (long long)heads * head_dim;
  long long kv_row = (long long)kv_heads * head_dim;
  size_t kv_at = (size_t)(row.key_start + tile.first) * kv_row + (size_t)kv_head * head_dim;
  copy_rows<SIZE>(key, stride, k + kv_at, kv_row, keys, head_dim);
  copy_rows<SIZE>(value, stride, v + kv_at, kv_row, keys, head_dim);
  copy_async_commit();

  int y = threadIdx.x / SIDE;
  int x = threadIdx.x % SIDE;
  float d_keys[ROWS][Own::COUNT];
  float d_values[ROWS][Own::COUNT];
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
#pragma unroll
    for (int c = 0; c < Own::COUNT; c++) {
      d_keys[r][c] = 0.0f;
      d_values[r][c] = 0.0f;
    }
  }

  for (int head = kv_head * group; head < kv_head * group + group; head++) {
    PlannedHead planned = plan[tile.row * heads + head];
    if (planned.mode == HEAD_MEAN || planned.mode == HEAD_SKIP) {
      continue;
    }
    bool uniform = planned.mode == HEAD_UNIFORM;
    View view(planned, window);
    long long seen_until = view.query_end(tile.first + keys - 1);
    if (tile.first < view.sink) {
      seen_until = max(seen_until, view.query_end(min(tile.first + keys, view.sink) - 1));
    }
    int end = (int)min((long long)row_end, seen_until);
    for (int first = max(tile.first, row.past); first < end; first += SIZE) {
      int count = min(SIZE, row_end - first);
      int token = position_zero + first;
      size_t q_at = (size_t)token * q_row + (size_t)head * head_dim;
      copy_rows<SIZE>(d_out, stride, dz + q_at, q_row, count, head_dim);
      copy_async_commit();
      copy_scaled_rows<SIZE>(query, stride, q + q_at, q_row, count, head_dim, scale);
      copy_column<SIZE>(log_sum, lse + (size_t)token * heads + head, heads, count);
      copy_column<SIZE>(shift, delta + (size_t)token * heads + head, heads, count);
      copy_async_wait<0>();
      __syncthreads();

      float p[ROWS][ROWS];  // [key][query]
      float ds[ROWS][ROWS];
      multiply_rows<ROWS, ROWS>(p, key, query, stride, uniform ? 0 : head_dim);
      multiply_rows<ROWS, ROWS>(ds, value, d_out, stride, uniform ? 0 : head_dim);
      bool full = count == SIZE && first >= tile.first + SIZE - 1 &&
                  view.of(first + SIZE - 1).near_from <= tile.first;
      unsigned seen[ROWS];  // bit i: whether query first + i sees the key
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        int own = tile.first + y * ROWS + r;
        long long to = min(view.query_end(own), (long long)first + count);
        seen[r] = full ? ~0u : (unsigned)bit_range(own - first, (int)(to - first));
#pragma unroll
        for (int c = 0; c < ROWS; c++) {
          int i = x + SIDE * c;
          if (uniform) {
            p[r][c] = 1.0f / view.of(first + i).count();
            continue;
          }
          p[r][c] = expf(p[r][c] - log_sum[i]);
          ds[r][c] = p[r][c] * (ds[r][c] - shift[i]);
        }
      }
      keep_tile<ROWS, SIZE>(weight, p);
      keep_tile<ROWS, SIZE>(d_score, ds);
      __syncwarp();

#pragma unroll 1
      for (int i = 0; i < count; i++) {
        float outs[Own::COUNT];
        float queries[Own::COUNT];
        Own::load(outs, d_out + i * stride);
        Own::load(queries, query + i * stride);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
          // What does not see a key must not reach it, not even times zero.
          if (seen[r] >> i & 1) {
            float w = weight[(y * ROWS + r) * (SIZE + 4) + i];
            float g = d_score[(y * ROWS + r) * (SIZE + 4) + i];
#pragma unroll
            for (int c = 0; c < Own::COUNT; c++) {
              d_values[r][c] = fmaf(w, outs[c], d_values[r][c]);
            }
            if (!uniform) {
#pragma unroll
              for (int c = 0; c < Own::COUNT; c++) {
                d_keys[r][c] = fmaf(g, queries[c], d_keys[r][c]);
              }
            }
          }
        }
      }
      __syncthreads();
    }
  }
  copy_async_wait<0>();
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    int j = y * ROWS + r;
    if (j < keys) {
      Own::store(dk + kv_at + j * kv_row, d_keys[r], head_dim);
      Own::store(dv + kv_at + j * kv_row, d_values[r], head_dim);
    }
  }
}

// Block (head, tile of queries): dq of 16 ROWS queries.
template <int PADDED, int ROWS>
__device__ __forceinline__ void differentiate_queries(
    float* dq, const float* dz, const float* q, const float* k, const float* v, const float* lse,
    const float* delta, const BatchRow* rows, const PlannedHead* plan, const TokenTile* tiles,
    int kv_heads, int head_dim, int window, float scale) {
  constexpr int SIZE = SIDE * ROWS;
  using Own = Columns<PADDED>;
  SHARED_MEMORY(memory);
  int stride = tile_stride(head_dim);
  float* query = (float*)memory;          // [SIZE][stride], times scale
  float* d_out = query + SIZE * stride;   // [SIZE][stride]
  float* value = d_out + SIZE * stride;   // [SIZE][stride]
  float* key = value + SIZE * stride;     // [SIZE][stride]
  float* d_score = key + max(SIZE * stride, (SIZE - 1) * stride + PADDED);  // [SIZE][SIZE + 4]

  int heads = gridDim.x;
  int head = blockIdx.x;
  TokenTile tile = tiles[gridDim.y - 1 - blockIdx.y];  // those with most keys first
  BatchRow row = rows[tile.row];
  int count = min(SIZE, row.length - tile.first);
  int token = row.token_start + tile.first;
  int position = row.past + tile.first;
  long long q_row = (long long)heads * head_dim;
  unsigned kv_row = kv_heads * head_dim;  // unsigned: fewer registers, three blocks of D 128 at a time
  size_t q_at = (size_t)token * q_row + (size_t)head * head_dim;
  PlannedHead planned = plan[tile.row * heads + head];
  float sums[ROWS][Own::COUNT];
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
#pragma unroll
    for (int c = 0; c < Own::COUNT; c++) {
      sums[r][c] = 0.0f;
    }
  }
  int y = threadIdx.x / SIDE;
  if (planned.mode == HEAD_ATTEND) {
    View view(planned, window);
    KeyBlocks<SIZE> blocks(view, position, position + count - 1);
    size_t kv_at = (size_t)row.key_start * kv_row + (size_t)(head / (heads / kv_heads)) * head_dim;
    copy_rows<SIZE>(d_out, stride, dz + q_at, q_row, count, head_dim);
    copy_scaled_rows<SIZE>(query, stride, q + q_at, q_row, count, head_dim, scale);
    float log_sum[ROWS];
    float shift[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      int n = y * ROWS + r;
      size_t at = (size_t)(token + n) * heads + head;
      log_sum[r] = n < count ? lse[at] : 0.0f;
      shift[r] = n < count ? delta[at] : 0.0f;
    }
    for (int block = blocks.from(0); block <= blocks.last; block = blocks.from(block + SIZE)) {
      int keys = min(SIZE, blocks.last + 1 - block);
      copy_rows<SIZE>(key, stride, k + kv_at + (size_t)block * kv_row, kv_row, keys, head_dim);
      copy_rows<SIZE>(value, stride, v + kv_at + (size_t)block * kv_row, kv_row, keys, head_dim);
      copy_async_commit();
      copy_async_wait<0>();
      __syncthreads();

      float p[ROWS][ROWS];  // [query][key]
      float ds[ROWS][ROWS];
      multiply_rows<ROWS, ROWS>(p, query, key, stride, head_dim);
      multiply_rows<ROWS, ROWS>(ds, d_out, value, stride, head_dim);
      bool full = blocks.is_full(block);
      unsigned seen[ROWS];
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        seen[r] = full ? ~0u : (unsigned)view.of(position + y * ROWS + r).bits(block);
#pragma unroll
        for (int c = 0; c < ROWS; c++) {
          ds[r][c] = expf(p[r][c] - log_sum[r]) * (ds[r][c] - shift[r]);
        }
      }
      keep_tile<ROWS, SIZE>(d_score, ds);
      __syncwarp();

#pragma unroll 1
      for (int j = 0; j < keys; j++) {
        float own[Own::COUNT];
        Own::load(own, key + j * stride);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
          if (seen[r] >> j & 1) {
            float g = d_score[(y * ROWS + r) * (SIZE + 4) + j];
#pragma unroll
            for (int c = 0; c < Own::COUNT; c++) {
              sums[r][c] = fmaf(g, own[c], sums[r][c]);
            }
          }
        }
      }
      __syncthreads();
    }
  }
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    int n = y * ROWS + r;
    if (n < count) {
      Own::update(dq + q_at + n * q_row, sums[r], 0.0f, 1.0f, scale, false, head_dim);
    }
  }
}

}  // namespace attention
using namespace attention;

extern "C" __global__ void __launch_bounds__(DELTA_THREADS) attention_delta_f32(
    float* delta, const float* dz, const float* z, const int* row_of, const PlannedHead* plan,
    int cells, int heads, int head_dim) {
  find_deltas(delta, dz, z, row_of, plan, cells, heads, head_dim);
}
EXPORT_KERNEL(attention_delta_f32)

// Grid (Hkv, tiles of 16 ROWS keys).
#define ATTENTION_BACKWARD_KEYS(NAME, PADDED, ROWS)                                                \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS, 2) NAME(                              \
      float* dk, float* dv, const float* dz, const float* q, const float* k, const float* v,       \
      const float* lse, const float* delta, const BatchRow* rows, const PlannedHead* plan,         \
      const TokenTile* tiles, int heads, int head_dim, int window, float scale) {                  \
    differentiate_keys<PADDED, ROWS>(dk, dv, dz, q, k, v, lse, delta, rows, plan, tiles, heads,    \
                                     head_dim, window, scale);                                     \
  }                                                                                                \
  EXPORT_KERNEL(NAME)

ATTENTION_BACKWARD_KEYS(attention_backward_keys_f32_d32, 32, 2)
ATTENTION_BACKWARD_KEYS(attention_backward_keys_f32_d64, 64, 2)
ATTENTION_BACKWARD_KEYS(attention_backward_keys_f32_d128, 128, 2)
ATTENTION_BACKWARD_KEYS(attention_backward_keys_f32_d256, 256, 1)

// Grid (H, tiles of 16 ROWS tokens).
#define ATTENTION_BACKWARD_QUERIES(NAME, PADDED, ROWS)                                             \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS, 2) NAME(                              \
      float* dq, const float* dz, const float* q, const float* k, const float* v,                  \
      const float* lse, const float* delta, const BatchRow* rows, const PlannedHead* plan,         \
      const TokenTile* tiles, int kv_heads, int head_dim, int window, float scale) {               \
    differentiate_queries<PADDED, ROWS>(dq, dz, q, k, v, lse, delta, rows, plan, tiles, kv_heads,  \
                                        head_dim, window, scale);                                  \
  }                                                                                                \
  EXPORT_KERNEL(NAME)

ATTENTION_BACKWARD_QUERIES(attention_backward_queries_f32_d32, 32, 2)
ATTENTION_BACKWARD_QUERIES(attention_backward_queries_f32_d64, 64, 2)
ATTENTION_BACKWARD_QUERIES(attention_backward_queries_f32_d128, 128, 2)
ATTENTION_BACKWARD_QUERIES(attention_backward_queries_f32_d256, 256, 1)
