// Causal grouped-query attention in F32 with an online softmax (Dao et al. 2022).
//
//   z[n,h,:] = sum_j softmax_j(scale q[n,h,:] . k[j,h / (H / Hkv),:]) v[j,h / (H / Hkv),:]
//   lse[n,h] = log sum_j exp(scale q . k)
//
//   q, z [N,H,D]   k, v [keys,Hkv,D], rows placed as BatchRow says   lse [N,H]   D <= 256
//
// over the keys that the head sees; a uniform head has scores of zero, a mean head its constant, a
// skipped one nothing. What a query sums up, and in which order, its position alone decides: blocks of
// KEYS keys at multiples of KEYS, spans of SPAN keys merged in ascending order, a score as one chain
// over D, a sum of values as one chain over the keys of a span. So the three ways to compute it agree
// to the bit: blocks of queries that walk over all spans (attention_f32), blocks of queries of one
// span each (the same kernel, with room for partial sums), and the few newest queries of all heads of
// a kv head, a span each (attention_few_f32); attention_merge_f32 puts spans together.
//
// Limited by F32 arithmetic, 4 D operations per visible pair, except for few queries, which are
// limited by reading keys and values once.
#include "attention.cuh"

namespace attention {

// A block takes 16 ROWS queries of one head. Block (h, tile, span); with partial sums it takes one
// span and leaves them, without it takes all.
template <int PADDED, int ROWS, int KEYS>
__device__ __forceinline__ void attend(
    float* z, float* lse, const float* q, const float* k, const float* v, const BatchRow* rows,
    const PlannedHead* plan, const float* means, const TokenTile* tiles, int kv_heads, int head_dim,
    int window, float scale, int few, const Partials& partials, const Reads& reads) {
  constexpr int QUERIES = SIDE * ROWS;
  constexpr int SCORES = KEYS / SIDE;
  constexpr int WEIGHTS = KEYS + 4;  // from row to row: the two of a warp in other banks
  using Own = Columns<PADDED>;
  SHARED_MEMORY(memory);
  int stride = tile_stride(head_dim);
  float* query = (float*)memory;            // [QUERIES][stride]
  float* key = query + QUERIES * stride;    // [KEYS][stride]
  float* weight = key;                      // [QUERIES][WEIGHTS], when the keys are used up
  float* value = key + max(KEYS * stride, QUERIES * WEIGHTS);  // [KEYS][PADDED]
  Softmax* totals = (Softmax*)(value + KEYS * PADDED);         // [QUERIES], of finished spans

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
    if (partials.values == nullptr) {
      const float* mean = means + ((size_t)tile.row * heads + head) * head_dim;
      write_constant(z, lse, planned, mean, reads, token, count, heads, head, head_dim);
    }
    return;
  }
  View view(planned, window);
  int position = row.past + tile.first;
  KeyBlocks<KEYS> blocks(view, position, position + count - 1);
  int first = blocks.from(0);
  int last = blocks.last;
  if (partials.values != nullptr) {
    first = blocks.from(blockIdx.z * SPAN);
    last = min(last, (int)blockIdx.z * SPAN + SPAN - 1);
    if (first > last) {
      return;  // nobody sees this span
    }
  }
  bool uniform = planned.mode == HEAD_UNIFORM;
  bool asked = reads.count > 0 && reads.any(token, token + count);
  int kv_head = head / (heads / kv_heads);
  long long q_row = (long long)heads * head_dim;
  long long kv_row = (long long)kv_heads * head_dim;
  q += (size_t)token * q_row + (size_t)head * head_dim;
  z += (size_t)token * q_row;
  k += (size_t)row.key_start * kv_row + (size_t)kv_head * head_dim;
  v += (size_t)row.key_start * kv_row + (size_t)kv_head * head_dim;
  copy_scaled_rows<QUERIES>(query, stride, q, q_row, count, head_dim, scale);

  int y = threadIdx.x / SIDE;
  int x = threadIdx.x % SIDE;
  Softmax span[ROWS];
  float sums[ROWS][Own::COUNT];
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    span[r].clear();
    totals[y * ROWS + r].clear();
#pragma unroll
    for (int c = 0; c < Own::COUNT; c++) {
      sums[r][c] = 0.0f;
    }
  }

  bool begun = false;  // whether z holds the sums of earlier spans
  for (int block = first; block <= last;) {
    int keys = min(KEYS, last + 1 - block);
    copy_rows<KEYS>(key, stride, k + block * kv_row, kv_row, keys, head_dim);
    copy_async_commit();
    copy_rows<KEYS>(value, PADDED, v + block * kv_row, kv_row, keys, head_dim);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();

    float s[ROWS][SCORES];
    multiply_rows<ROWS, SCORES>(s, query, key, stride, uniform ? 0 : head_dim);
    bool full = blocks.is_full(block);
    if (!full) {
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        unsigned long long seen = view.of(position + y * ROWS + r).bits(block) >> x;
#pragma unroll
        for (int c = 0; c < SCORES; c++) {
          s[r][c] = seen >> (SIDE * c) & 1 ? s[r][c] : -INFINITY;
        }
      }
    }

    float keep[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      float top = s[r][0];
#pragma unroll
      for (int c = 1; c < SCORES; c++) {
        top = fmaxf(top, s[r][c]);
      }
      top = fmaxf(span[r].top, side_max(top));
      if (asked) {
        int at = NO_KEY;
#pragma unroll
        for (int c = SCORES - 1; c >= 0; c--) {
          at = s[r][c] == top ? block + x + SIDE * c : at;
        }
        at = side_min(at);
        span[r].key = top > span[r].top ? at : span[r].key;
      }
      keep[r] = expf(span[r].top - top);
      span[r].top = top;
      float w[SCORES];
#pragma unroll
      for (int c = 0; c < SCORES; c++) {
        w[c] = expf(s[r][c] - top);
        s[r][c] = !full && s[r][c] == -INFINITY ? -1.0f : w[c];  // -1: unseen
      }
      float sum = w[0] + w[1];
      if constexpr (SCORES == 4) {
        sum += w[2] + w[3];
      }
      span[r].sum = span[r].sum * keep[r] + side_sum(sum);
#pragma unroll
      for (int c = 0; c < Own::COUNT; c++) {
        sums[r][c] *= keep[r];
      }
    }
    __syncthreads();  // the keys are used up
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
      for (int c = 0; c < SCORES; c++) {
        weight[(y * ROWS + r) * WEIGHTS + x + SIDE * c] = s[r][c];
      }
    }
    copy_async_wait<0>();
    __syncthreads();

#pragma unroll 1
    for (int j = 0; j < KEYS; j += 4) {
      float w[ROWS][4];
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        float4 four = *(const float4*)(weight + (y * ROWS + r) * WEIGHTS + j);
        w[r][0] = four.x;
        w[r][1] = four.y;
        w[r][2] = four.z;
        w[r][3] = four.w;
      }
#pragma unroll
      for (int i = 0; i < 4; i++) {
        float values[Own::COUNT];
        Own::load(values, value + (j + i) * PADDED);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
          // What a query does not see must not reach it, not even times zero.
          if (full || !(w[r][i] < 0.0f)) {
#pragma unroll
            for (int c = 0; c < Own::COUNT; c++) {
              sums[r][c] = fmaf(w[r][i], values[c], sums[r][c]);
            }
          }
        }
      }
    }
    __syncthreads();

    int next = blocks.from(block + KEYS);
    bool done = next > last;
    if (!done && next / SPAN == block / SPAN) {
      block = next;
      continue;
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      int n = y * ROWS + r;
      Softmax total = totals[n];
      __syncwarp();
      if (partials.values == nullptr) {
        float take;
        merge(total, span[r], keep[r], take);
        float share = done ? 1.0f / total.sum : 1.0f;
        float* to = z + ((size_t)n * heads + head) * head_dim;
        if (n < count) {
          Own::update(to, sums[r], keep[r], take, share, begun, head_dim);
        }
      } else {
        total = span[r];
        if (n < count) {
          size_t at = partials.at(token + n, heads, head, blockIdx.z);
          Own::store(partials.values + at * head_dim, sums[r], head_dim);
        }
      }
      if (x == 0) {
        totals[n] = total;
      }
      span[r].clear();
#pragma unroll
      for (int c = 0; c < Own::COUNT; c++) {
        sums[r][c] = 0.0f;
      }
    }
    begun = true;
    block = next;
  }

  __syncthreads();
  for (int n = threadIdx.x; n < count; n += TILE_THREADS) {
    Softmax total = totals[n];
    if (partials.values == nullptr) {
      finish(lse, reads, view.of(position + n), total, token + n, heads, head);
    } else {
      partials.write(partials.at(token + n, heads, head, blockIdx.z), total);
    }
  }
}

// --- few queries -------------------------------------------------------------------------------------

// A block takes a span of one kv head and up to LANES (query head, token) pairs that look at it.
// Scores: a thread per key, keys pass by in pieces of 32 columns. Values: a thread per column and
// some lanes, values pass by in blocks of KEYS. Both through the same two stages.
static constexpr int FEW_THREADS = SPAN;
static constexpr int PIECE = 32;
static constexpr int PIECE_STRIDE = PIECE + 4;
static constexpr int STAGE = SPAN * PIECE_STRIDE;  // floats

// What block (kv head and lanes, span, row) shares.
template <int LANES, int KEYS>
struct Few {
  static constexpr int BLOCKS = SPAN / KEYS;
  int heads[LANES];
  Visible visible[LANES];
  int uniform[LANES];
  float tops[LANES][BLOCKS];
  float sums[LANES][BLOCKS];
  float keeps[LANES][BLOCKS];
  int keys[LANES][BLOCKS];
  unsigned long long seen[LANES][BLOCKS];
};

// Which of the stages' contents is number `chunk`: pieces of keys come first, then blocks of values.
template <int KEYS>
__device__ __forceinline__ void copy_chunk(
    float* stage, const float* k, const float* v, long long row, int chunk, int pieces, int low,
    int high, int head_dim) {
  if (chunk < pieces) {
    int column = chunk * PIECE;
    int width = min(PIECE, head_dim - column);
    bool aligned = is_aligned(k, head_dim);
    if (aligned) {
      int d = threadIdx.x % (PIECE / 4) * 4;
      for (int j = threadIdx.x / (PIECE / 4); d < width && j < SPAN; j += FEW_THREADS / (PIECE / 4)) {
        bool valid = j >= low && j < high;
        const float* from = k + (valid ? j : low) * row + column + d;
        copy_async16(stage + j * PIECE_STRIDE + d, from, valid);
      }
    } else {
      int d = threadIdx.x % PIECE;
      for (int j = threadIdx.x / PIECE; j < SPAN; j += FEW_THREADS / PIECE) {
        bool valid = j >= low && j < high && d < width;
        stage[j * PIECE_STRIDE + d] = valid ? k[j * row + column + d] : 0.0f;
      }
    }
    return;
  }
  int first = (chunk - pieces) * KEYS;
  int stride = tile_stride(head_dim);
  low = max(low - first, 0);
  high = min(high - first, KEYS);
  if (low < high) {
    copy_rows<KEYS>(stage, stride, v + first * row, row, high, head_dim);
  }
}

template <int LANES, int KEYS>
__device__ __forceinline__ void attend_few(
    const float* q, const float* k, const float* v, const BatchRow* rows, const PlannedHead* plan,
    int heads, int kv_heads, int head_dim, int window, float scale, int few, int slots,
    const Partials& partials) {
  constexpr int BLOCKS = SPAN / KEYS;
  SHARED_MEMORY(memory);
  Few<LANES, KEYS>& shared = *(Few<LANES, KEYS>*)memory;
  int stride = tile_stride(head_dim);
  float* stages = (float*)(memory + (sizeof(shared) + 15) / 16 * 16);  // [2][STAGE]
  float* query = stages + 2 * STAGE;                                   // [LANES][stride]
  float* weight = query + LANES * stride;                              // [LANES][SPAN]

  int row_index = blockIdx.z;
  BatchRow row = rows[row_index];
  if (row.length > few) {
    return;  // not ours
  }
  int kv_head = blockIdx.x % kv_heads;
  int first_lane = blockIdx.x / kv_heads * LANES;
  int group = heads / kv_heads;
  int from = blockIdx.y * SPAN;
  int to = min(from + SPAN, row.past + row.length);

  // Lanes: the heads of the group that attend, times the tokens.
  int attending = 0;
  for (int h = 0; h < group; h++) {
    int mode = plan[row_index * heads + kv_head * group + h].mode;
    attending += mode == HEAD_ATTEND || mode == HEAD_UNIFORM;
  }
  int lanes = min(LANES, attending * row.length - first_lane);
  if (lanes <= 0 || from >= to) {
    return;
  }
  for (int lane = threadIdx.x; lane < lanes; lane += FEW_THREADS) {
    int skip = (first_lane + lane) / row.length;
    int head = kv_head * group - 1;
    int mode = HEAD_SKIP;
    for (; skip >= 0; skip -= mode == HEAD_ATTEND || mode == HEAD_UNIFORM) {
      head++;
      mode = plan[row_index * heads + head].mode;
    }
    View view(plan[row_index * heads + head], window);
    shared.heads[lane] = head;
    shared.uniform[lane] = mode == HEAD_UNIFORM;
    shared.visible[lane] = view.of(row.past + (first_lane + lane) % row.length);
  }
  __syncthreads();
  int low = SPAN;
  int high = 0;
#pragma unroll 1
  for (int lane = 0; lane < lanes; lane++) {
#pragma unroll 1
    for (int block = 0; block < BLOCKS; block++) {
      unsigned long long seen = shared.visible[lane].bits(from + block * KEYS);
      if constexpr (KEYS < 64) {
        seen &= (1ull << KEYS) - 1;
      }
      if (seen != 0) {
        low = min(low, block * KEYS + __ffsll(seen) - 1);
        high = max(high, block * KEYS + 64 - __clzll(seen));
      }
      if (threadIdx.x == 0) {
        shared.seen[lane][block] = seen;
      }
    }
  }
  if (low >= high) {
    return;
  }

  long long q_row = (long long)heads * head_dim;
  long long kv_row = (long long)kv_heads * head_dim;
  size_t kv_at = (size_t)(row.key_start + from) * kv_row + (size_t)kv_head * head_dim;
  k += kv_at;
  v += kv_at;
  int pieces = (head_dim + PIECE - 1) / PIECE;
  int chunks = pieces + (high + KEYS - 1) / KEYS;
  for (int chunk = 0; chunk < 2; chunk++) {
    copy_chunk<KEYS>(stages + chunk * STAGE, k, v, kv_row, chunk, pieces, low, high, head_dim);
    copy_async_commit();
  }
  for (int lane = 0; lane < lanes; lane++) {
    int n = row.token_start + (first_lane + lane) % row.length;
    const float* of_lane = q + (size_t)n * q_row + (size_t)shared.heads[lane] * head_dim;
    for (int d = threadIdx.x; d < stride; d += FEW_THREADS) {
      query[lane * stride + d] = d < head_dim ? of_lane[d] * scale : 0.0f;
    }
  }

  float s[LANES];
#pragma unroll
  for (int lane = 0; lane < LANES; lane++) {
    s[lane] = 0.0f;
  }
  for (int chunk = 0; chunk < pieces; chunk++) {
    copy_async_wait<1>();
    __syncthreads();
    const float* key = stages + chunk % 2 * STAGE + threadIdx.x * PIECE_STRIDE;
    const float* queries = query + chunk * PIECE;
    int width = min(PIECE, head_dim - chunk * PIECE);
#pragma unroll 4
    for (int d = 0; d < width; d += 4) {
      float4 right = *(const float4*)(key + d);
#pragma unroll
      for (int lane = 0; lane < LANES; lane++) {
        float4 left = *(const float4*)(queries + lane * stride + d);
        s[lane] = fmaf(left.x, right.x, s[lane]);
        s[lane] = fmaf(left.y, right.y, s[lane]);
        s[lane] = fmaf(left.z, right.z, s[lane]);
        s[lane] = fmaf(left.w, right.w, s[lane]);
      }
    }
    __syncthreads();
    if (chunk + 2 < chunks) {
      copy_chunk<KEYS>(stages + chunk % 2 * STAGE, k, v, kv_row, chunk + 2, pieces, low, high, head_dim);
    }
    copy_async_commit();
  }
#pragma unroll
  for (int lane = 0; lane < LANES; lane++) {
    if (lane < lanes) {
      bool seen = shared.seen[lane][threadIdx.x / KEYS] >> (threadIdx.x % KEYS) & 1;
      float score = shared.uniform[lane] ? 0.0f : s[lane];
      weight[lane * SPAN + threadIdx.x] = seen ? score : -INFINITY;
    }
  }
  __syncthreads();

  // Half a warp per lane and block, as in the tiles of many queries.
  constexpr int SCORES = KEYS / SIDE;
  int x = threadIdx.x % SIDE;
  for (int pair = threadIdx.x / SIDE; pair < LANES * BLOCKS; pair += FEW_THREADS / SIDE) {
    int lane = pair / BLOCKS;
    int block = pair % BLOCKS;
    const float* scores = weight + lane * SPAN + block * KEYS + x;
    float top = -INFINITY;
    int key = NO_KEY;
    if (lane < lanes) {
#pragma unroll
      for (int c = 0; c < SCORES; c++) {
        top = fmaxf(top, scores[SIDE * c]);
      }
    }
    top = side_max(top);
    if (lane < lanes) {
#pragma unroll
      for (int c = SCORES - 1; c >= 0; c--) {
        key = scores[SIDE * c] == top ? from + block * KEYS + x + SIDE * c : key;
      }
    }
    key = side_min(key);
    if (lane < lanes && x == 0) {
      shared.tops[lane][block] = top;
      shared.keys[lane][block] = key;
    }
  }
  __syncthreads();
  for (int pair = threadIdx.x / SIDE; pair < LANES * BLOCKS; pair += FEW_THREADS / SIDE) {
    int lane = pair / BLOCKS;
    int block = pair % BLOCKS;
    float* scores = weight + lane * SPAN + block * KEYS + x;
    float before = LOWEST;
    float top = LOWEST;
    float w[SCORES];
#pragma unroll
    for (int c = 0; c < SCORES; c++) {
      w[c] = 0.0f;
    }
    if (lane < lanes) {
      for (int b = 0; b <= block; b++) {
        before = top;
        top = fmaxf(top, shared.tops[lane][b]);
      }
#pragma unroll
      for (int c = 0; c < SCORES; c++) {
        w[c] = expf(scores[SIDE * c] - top);
        scores[SIDE * c] = w[c];
      }
    }
    float sum = w[0] + w[1];
    if constexpr (SCORES == 4) {
      sum += w[2] + w[3];
    }
    sum = side_sum(sum);
    if (lane < lanes && x == 0) {
      shared.sums[lane][block] = sum;
      shared.keeps[lane][block] = expf(before - top);
    }
  }
  __syncthreads();

  // Values: thread (column, turn) holds lanes turn, turn + turns, ...
  int columns = (head_dim + WARP - 1) / WARP * WARP;
  int turns = FEW_THREADS / columns;
  int turn = threadIdx.x / columns;
  int column = threadIdx.x % columns;
  bool works = turn < turns && column < head_dim;
  float sums[LANES];
#pragma unroll
  for (int i = 0; i < LANES; i++) {
    sums[i] = 0.0f;
  }
  for (int chunk = pieces; chunk < chunks; chunk++) {
    copy_async_wait<1>();
    __syncthreads();
    int block = chunk - pieces;
    const float* value = stages + chunk % 2 * STAGE + column;
    unsigned long long all = ~0ull >> (64 - KEYS);
    unsigned long long common = all;
#pragma unroll
    for (int i = 0; i < LANES; i++) {
      int lane = min(turn + i * turns, lanes - 1);
      common &= shared.seen[lane][block];
      sums[i] *= shared.keeps[lane][block];
    }
    if (works && common == all) {
#pragma unroll 2
      for (int j = 0; j < KEYS; j += 4) {
        float values[4];
#pragma unroll
        for (int e = 0; e < 4; e++) {
          values[e] = value[(j + e) * stride];
        }
#pragma unroll
        for (int i = 0; i < LANES; i++) {
          int lane = turn + i * turns;
          if (lane < lanes) {
            float4 w = *(const float4*)(weight + lane * SPAN + block * KEYS + j);
            sums[i] = fmaf(w.x, values[0], sums[i]);
            sums[i] = fmaf(w.y, values[1], sums[i]);
            sums[i] = fmaf(w.z, values[2], sums[i]);
            sums[i] = fmaf(w.w, values[3], sums[i]);
          }
        }
      }
    } else if (works) {
#pragma unroll
      for (int i = 0; i < LANES; i++) {
        int lane = turn + i * turns;
        if (lane < lanes) {
          const float* weights = weight + lane * SPAN + block * KEYS;
#pragma unroll 1
          for (int j = 0; j < KEYS; j++) {
            if (shared.seen[lane][block] >> j & 1) {
              sums[i] = fmaf(weights[j], value[j * stride], sums[i]);
            }
          }
        }
      }
    }
    __syncthreads();
    if (chunk + 2 < chunks) {
      copy_chunk<KEYS>(stages + chunk % 2 * STAGE, k, v, kv_row, chunk + 2, pieces, low, high, head_dim);
    }
    copy_async_commit();
  }
#pragma unroll
  for (int i = 0; i < LANES; i++) {
    int lane = turn + i * turns;
    if (!works || lane >= lanes) {
      continue;
    }
    int slot = row_index * slots + (first_lane + lane) % row.length;
    size_t at = partials.at(slot, heads, shared.heads[lane], blockIdx.y);
    partials.values[at * head_dim + column] = sums[i];
    if (column == 0) {
      Softmax softmax;
      softmax.clear();
      for (int block = 0; block < BLOCKS; block++) {
        softmax.sum = softmax.sum * shared.keeps[lane][block] + shared.sums[lane][block];
        softmax.key = shared.tops[lane][block] > softmax.top ? shared.keys[lane][block] : softmax.key;
        softmax.top = fmaxf(softmax.top, shared.tops[lane][block]);
      }
      partials.write(at, softmax);
    }
  }
}

// --- spans together ------------------------------------------------------------------------------

static constexpr int MERGE_THREADS = 256;

// A block takes 32 columns of one (slot, head): 256 spans at a time are fetched side by side and added
// up by ascending span.
template <class T>
__device__ __forceinline__ void merge_spans(
    T* z, float* lse, const BatchRow* rows, const int* row_of, const PlannedHead* plan,
    const float* means, int head_dim, int window, int few, int slots, const Partials& partials,
    const Reads& reads) {
  SHARED_MEMORY(memory);
  float* values = (float*)memory;               // [MERGE_THREADS][WARP]
  float* keeps = values + MERGE_THREADS * WARP;  // [MERGE_THREADS]
  float* takes = keeps + MERGE_THREADS;          // [MERGE_THREADS]
  float* sums = takes + MERGE_THREADS;           // [MERGE_THREADS]

  int heads = gridDim.y;
  int head = blockIdx.y;
  int slot = blockIdx.x;
  int row_index = slots > 0 ? slot / slots : row_of[slot];
  BatchRow row = rows[row_index];
  int t = slots > 0 ? slot % slots : slot - row.token_start;
  if (slots > 0 ? row.length > few || t >= row.length : row.length <= few) {
    return;  // not ours
  }
  int token = row.token_start + t;
  PlannedHead planned = plan[row_index * heads + head];
  if (planned.mode == HEAD_MEAN || planned.mode == HEAD_SKIP) {
    if (blockIdx.z == 0) {
      const float* mean = means + ((size_t)row_index * heads + head) * head_dim;
      write_constant(z, lse, planned, mean, reads, token, 1, heads, head, head_dim);
    }
    return;
  }
  Visible visible = View(planned, window).of(row.past + t);
  size_t first_span = partials.at(slot, heads, head, 0);
  int column = blockIdx.z * WARP + threadIdx.x % WARP;
  Softmax total;
  total.clear();
  float value = 0.0f;
  int end = visible.position / SPAN + 1;
  for (int chunk = 0; chunk < end; chunk += MERGE_THREADS) {
    int spans = min(MERGE_THREADS, end - chunk);
    if (!visible.sees_any(chunk * SPAN, (chunk + spans) * SPAN)) {
      continue;
    }
    for (int i = threadIdx.x / WARP; i < spans; i += MERGE_THREADS / WARP) {
      int from = (chunk + i) * SPAN;
      bool valid = column < head_dim && visible.sees_any(from, from + SPAN);
      size_t at = (first_span + chunk + i) * head_dim + column;
      values[i * WARP + threadIdx.x % WARP] = valid ? partials.values[at] : 0.0f;
    }
    // The first warp finds each span's factors from the maxima up to it.
    if (threadIdx.x < WARP) {
      float top = total.top;
      for (int base = 0; base < spans; base += WARP) {
        int i = base + threadIdx.x;
        int from = (chunk + i) * SPAN;
        bool valid = i < spans && visible.sees_any(from, from + SPAN);
        size_t at = first_span + chunk + i;
        float own = valid ? partials.tops[at] : LOWEST;
        float up_to = own;
#pragma unroll
        for (int offset = 1; offset < WARP; offset *= 2) {
          float before = __shfl_up_sync(ALL_LANES, up_to, offset);
          up_to = threadIdx.x >= offset ? fmaxf(up_to, before) : up_to;
        }
        up_to = fmaxf(up_to, top);
        float before = __shfl_up_sync(ALL_LANES, up_to, 1);
        before = threadIdx.x == 0 ? top : before;
        if (i < spans) {
          keeps[i] = expf(before - up_to);
          takes[i] = valid ? expf(own - up_to) : 0.0f;
          sums[i] = valid ? partials.sums[at] : 0.0f;
          if (up_to > before) {
            total.key = partials.keys[at];
          }
        }
        // The last lane that raised the maximum has the key.
        unsigned raised = __ballot_sync(ALL_LANES, i < spans && up_to > before);
        int key = __shfl_sync(ALL_LANES, total.key, raised == 0 ? 0 : 31 - __clz(raised));
        total.key = raised == 0 ? total.key : key;
        top = __shfl_sync(ALL_LANES, up_to, WARP - 1);
      }
      total.top = top;
    }
    __syncthreads();
    if (threadIdx.x < WARP) {
      for (int i = 0; i < spans; i++) {
        value = fmaf(values[i * WARP + threadIdx.x], takes[i], value * keeps[i]);
        total.sum = fmaf(sums[i], takes[i], total.sum * keeps[i]);
      }
    }
    __syncthreads();
  }
  if (threadIdx.x >= WARP) {
    return;
  }
  if (column < head_dim) {
    z[((size_t)token * heads + head) * head_dim + column] =
        from_float<T>(value * (1.0f / total.sum));
  }
  if (threadIdx.x == 0 && blockIdx.z == 0) {
    finish(lse, reads, visible, total, token, heads, head);
  }
}

// --- masses --------------------------------------------------------------------------------------

static constexpr int MASS_THREADS = 128;

// A row times a row in shared memory, one chain; 16 bytes at a time where `aligned`.
__device__ __forceinline__ float row_product(
    const float* own, const float* row, int head_dim, bool aligned) {
  float sum = 0.0f;
  int d = 0;
  for (; aligned && d < head_dim; d += 4) {
    float4 x = *(const float4*)(row + d);
    sum = fmaf(own[d], x.x, sum);
    sum = fmaf(own[d + 1], x.y, sum);
    sum = fmaf(own[d + 2], x.z, sum);
    sum = fmaf(own[d + 3], x.w, sum);
  }
  for (; d < head_dim; d++) {
    sum = fmaf(own[d], row[d], sum);
  }
  return sum;
}

__device__ __forceinline__ float row_product(
    const float* own, const bf16* row, int head_dim, bool aligned) {
  float sum = 0.0f;
  int d = 0;
  for (; aligned && d < head_dim; d += 8) {
    uint4 x = *(const uint4*)(row + d);
    const unsigned pairs[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      sum = fmaf(own[d + 2 * i], __uint_as_float(pairs[i] << 16), sum);
      sum = fmaf(own[d + 2 * i + 1], __uint_as_float(pairs[i] & 0xffff0000u), sum);
    }
  }
  for (; d < head_dim; d++) {
    sum = fmaf(own[d], to_float(row[d]), sum);
  }
  return sum;
}

// A block takes one (asked query, head): weights exp(score - top) from scores computed once more, a
// thread per key, 128 at a time; then a warp per range of positions adds up those inside.
template <class T>
__device__ __forceinline__ void sum_masses(
    float* mass, const float* tops, const float* sums, const int* queries, const int* ranges,
    const T* q, const T* k, const BatchRow* rows, const int* row_of, const PlannedHead* plan,
    int count, int kv_heads, int head_dim, int window, float scale) {
  SHARED_MEMORY(memory);
  float* weights = (float*)memory;       // [MASS_THREADS]
  float* own = weights + MASS_THREADS;   // [D], times scale
  int heads = gridDim.y;
  int head = blockIdx.y;
  int query = blockIdx.x;
  int token = queries[query];
  int row_index = row_of[token];
  BatchRow row = rows[row_index];
  PlannedHead planned = plan[row_index * heads + head];
  size_t at = (size_t)query * heads + head;
  mass += at * count;
  ranges += 2 * (size_t)query * count;
  for (int r = threadIdx.x; r < count; r += MASS_THREADS) {
    mass[r] = 0.0f;
  }
  if (planned.mode == HEAD_MEAN || planned.mode == HEAD_SKIP) {
    return;
  }
  for (int d = threadIdx.x; d < head_dim; d += MASS_THREADS) {
    own[d] = to_float(q[((size_t)token * heads + head) * head_dim + d]) * scale;
  }
  Visible visible = View(planned, window).of(row.past + token - row.token_start);
  int low = NO_KEY;
  int high = 0;
  for (int r = 0; r < count; r++) {
    low = min(low, ranges[2 * r]);
    high = max(high, ranges[2 * r + 1]);
  }
  low = max(low, visible.first());
  high = min(high, visible.position + 1);
  const T* keys = k + ((size_t)row.key_start * kv_heads + head / (heads / kv_heads)) * head_dim;
  bool aligned = head_dim % (16 / sizeof(T)) == 0 && ((size_t)k & 15) == 0;
  float top = tops[at];
  float share = 1.0f / sums[at];
#pragma unroll 1
  for (int base = low / MASS_THREADS * MASS_THREADS; base < high; base += MASS_THREADS) {
    __syncthreads();
    int key = base + threadIdx.x;
    float weight = 0.0f;
    if (key >= low && key < high && visible.sees(key)) {
      float score = 0.0f;
      if (planned.mode == HEAD_ATTEND) {
        score = row_product(own, keys + (size_t)key * kv_heads * head_dim, head_dim, aligned);
      }
      weight = expf(score - top) * share;
    }
    weights[threadIdx.x] = weight;
    __syncthreads();
#pragma unroll 1
    for (int r = threadIdx.x / WARP; r < count; r += MASS_THREADS / WARP) {
      int from = max(ranges[2 * r] - base, 0);
      int to = min(ranges[2 * r + 1] - base, MASS_THREADS);
      if (from < to) {
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < MASS_THREADS; j += WARP) {
          int i = j + threadIdx.x % WARP;
          sum += i >= from && i < to ? weights[i] : 0.0f;
        }
        sum = warp_sum(sum);
        if (threadIdx.x % WARP == 0) {
          mass[r] += sum;
        }
      }
    }
  }
}

}  // namespace attention
using namespace attention;

// Queries of a row with more than `few` tokens. Grid (H, tiles of 16 ROWS tokens, spans or 1).
#define ATTENTION(NAME, PADDED, ROWS, KEYS)                                                        \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS, 2) NAME(                                 \
      float* z, float* lse, const float* q, const float* k, const float* v, const BatchRow* rows,  \
      const PlannedHead* plan, const float* means, const TokenTile* tiles, int kv_heads,           \
      int head_dim, int window, float scale, int few, float* part_tops, float* part_sums,          \
      int* part_keys, float* part_values, const int* queries, int query_count, int* top_position,  \
      float* top_weight, float* log_sum_exp, float* tops, float* sums) {                           \
    attend<PADDED, ROWS, KEYS>(                                                                    \
        z, lse, q, k, v, rows, plan, means, tiles, kv_heads, head_dim, window, scale, few,         \
        Partials{part_tops, part_sums, part_keys, part_values, (int)gridDim.z},                    \
        Reads{queries, query_count, top_position, top_weight, log_sum_exp, tops, sums});           \
  }                                                                                                \
  EXPORT_KERNEL(NAME)

ATTENTION(attention_f32_d32, 32, 4, 64)
ATTENTION(attention_f32_d64, 64, 4, 64)
ATTENTION(attention_f32_d128, 128, 4, 64)
ATTENTION(attention_f32_d256, 256, 2, 32)

// Rows of at most `few` tokens. Grid (Hkv x groups of LANES lanes, spans, B).
#define ATTENTION_FEW(NAME, LANES, KEYS)                                                           \
  extern "C" __global__ void __launch_bounds__(FEW_THREADS, 2) NAME(                                  \
      const float* q, const float* k, const float* v, const BatchRow* rows,                        \
      const PlannedHead* plan, int heads, int kv_heads, int head_dim, int window, float scale,     \
      int few, int slots, float* part_tops, float* part_sums, int* part_keys,                      \
      float* part_values) {                                                                        \
    attend_few<LANES, KEYS>(                                                                       \
        q, k, v, rows, plan, heads, kv_heads, head_dim, window, scale, few, slots,                 \
        Partials{part_tops, part_sums, part_keys, part_values, (int)gridDim.y});                   \
  }                                                                                                \
  EXPORT_KERNEL(NAME)

ATTENTION_FEW(attention_few_f32_4, 4, 64)
ATTENTION_FEW(attention_few_f32_8, 8, 64)
ATTENTION_FEW(attention_few_f32_4_wide, 4, 32)
ATTENTION_FEW(attention_few_f32_8_wide, 8, 32)

// Grid (slots, H, columns / 32). A slot is a token; with `slots` per row it is number slot % slots of
// row slot / slots, of at most `few` tokens.
#define ATTENTION_MERGE(NAME, T)                                                                   \
  extern "C" __global__ void __launch_bounds__(MERGE_THREADS) NAME(                                \
      T* z, float* lse, const BatchRow* rows, const int* row_of, const PlannedHead* plan,          \
      const float* means, int head_dim, int window, int few, int slots, int spans,                 \
      float* part_tops, float* part_sums, int* part_keys, float* part_values,                      \
      const int* queries, int query_count, int* top_position, float* top_weight,                   \
      float* log_sum_exp, float* tops, float* sums) {                                              \
    merge_spans(z, lse, rows, row_of, plan, means, head_dim, window, few, slots,                   \
                Partials{part_tops, part_sums, part_keys, part_values, spans},                     \
                Reads{queries, query_count, top_position, top_weight, log_sum_exp, tops, sums});   \
  }                                                                                                \
  EXPORT_KERNEL(NAME)

ATTENTION_MERGE(attention_merge_f32, float)
ATTENTION_MERGE(attention_merge_bf16, bf16)

// Grid (Q, H), `count` ranges per query.
#define ATTENTION_MASS(NAME, T)                                                                    \
  extern "C" __global__ void __launch_bounds__(MASS_THREADS) NAME(                                 \
      float* mass, const float* tops, const float* sums, const int* queries, const int* ranges,    \
      const T* q, const T* k, const BatchRow* rows, const int* row_of, const PlannedHead* plan,    \
      int count, int kv_heads, int head_dim, int window, float scale) {                            \
    sum_masses(mass, tops, sums, queries, ranges, q, k, rows, row_of, plan, count, kv_heads,       \
               head_dim, window, scale);                                                           \
  }                                                                                                \
  EXPORT_KERNEL(NAME)

ATTENTION_MASS(attention_mass_f32, float)
ATTENTION_MASS(attention_mass_bf16, bf16)
