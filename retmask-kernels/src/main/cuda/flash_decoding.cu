// Attention in BF16 of the few newest queries of a row, on tensor cores (Dao et al. 2023,
// "Flash-Decoding"): what attention.cu computes with attention_few_f32, for BF16.
//
//   q [N,H,D]   k, v [keys,Hkv,D], rows placed as BatchRow says   D <= 256
//
// A block takes a span of keys of one kv head and up to 16 (query head, token) pairs that look at it,
// the rows of one fragment; each of its four warps takes 64 keys, whose rows pass through two tiles of
// its own, keys first, then values, so warps wait for nobody until their sums are put together. Sums
// of spans are merged by attention_merge_bf16. Spans lie at multiples of SPAN, so a query's sums do not
// depend on its neighbours. Limited by reading keys and values once.
#include "flash.cuh"

namespace attention {

static constexpr int DECODE_LANES = 16;
static constexpr int WARP_KEYS = SPAN / FLASH_WARPS;

// What the warps of a block share.
struct Decode {
  int heads[DECODE_LANES];
  int tokens[DECODE_LANES];  // of the row
  int uniform[DECODE_LANES];
  Visible visible[DECODE_LANES];
  Softmax parts[FLASH_WARPS][DECODE_LANES];
};

// OR and AND over a warp.
__device__ __forceinline__ unsigned long long warp_or(unsigned long long v) {
#pragma unroll
  for (int offset = WARP / 2; offset > 0; offset >>= 1) {
    v |= __shfl_xor_sync(ALL_LANES, v, offset);
  }
  return v;
}

template <int D, int ROWS>
__device__ __forceinline__ void decode(
    const bf16* q, const bf16* k, const bf16* v, const BatchRow* rows, const PlannedHead* plan,
    int heads, int kv_heads, int head_dim, int window, float scale, int few, int slots,
    const Partials& partials) {
  constexpr int TILES = WARP_KEYS / ROWS;  // of keys, and as many of values
  constexpr int OUT = D + 8;               // floats from a lane's sums to the next
  using Rows = Tile<D>;
  SHARED_MEMORY(memory);
  Decode& shared = *(Decode*)memory;
  bf16* query = (bf16*)(memory + (sizeof(Decode) + 15) / 16 * 16);  // [16][D + 8]
  int warp = threadIdx.x / WARP;
  int lane = threadIdx.x % WARP;
  bf16* ring = query + (DECODE_LANES + warp * 2 * ROWS) * Rows::STRIDE;  // [2][ROWS][D + 8]

  int row_index = blockIdx.z;
  BatchRow row = rows[row_index];
  if (row.length > few) {
    return;  // not ours
  }
  int kv_head = blockIdx.x % kv_heads;
  int first_lane = blockIdx.x / kv_heads * DECODE_LANES;
  int group = heads / kv_heads;
  int from = blockIdx.y * SPAN;
  if (from >= row.past + row.length) {
    return;
  }
  // Lanes: the heads of the group that attend, times the tokens.
  int attending = 0;
  for (int h = 0; h < group; h++) {
    int mode = plan[row_index * heads + kv_head * group + h].mode;
    attending += mode == HEAD_ATTEND || mode == HEAD_UNIFORM;
  }
  int lanes = min(DECODE_LANES, attending * row.length - first_lane);
  if (lanes <= 0) {
    return;
  }
  if (threadIdx.x < lanes) {
    int skip = (first_lane + threadIdx.x) / row.length;
    int head = kv_head * group - 1;
    int mode = HEAD_SKIP;
    for (; skip >= 0; skip -= mode == HEAD_ATTEND || mode == HEAD_UNIFORM) {
      head++;
      mode = plan[row_index * heads + head].mode;
    }
    int t = (first_lane + threadIdx.x) % row.length;
    shared.heads[threadIdx.x] = head;
    shared.tokens[threadIdx.x] = t;
    shared.uniform[threadIdx.x] = mode == HEAD_UNIFORM || scale == 0.0f;
    shared.visible[threadIdx.x] =
        View(plan[row_index * heads + head], window).of(row.past + t);
  }
  __syncthreads();
  bool any = false;
  for (int i = 0; i < lanes; i++) {
    any |= shared.visible[i].sees_any(from, from + SPAN);
  }
  if (!any) {
    return;
  }

  // Keys of this warp: bit j of `own` says whether the lane of this thread sees key j.
  int first = from + warp * WARP_KEYS;
  unsigned long long own = lane < lanes ? shared.visible[lane].bits(first) : 0;
  unsigned long long seen = warp_or(own);                                 // by some lane
  unsigned long long missed = warp_or(lane < lanes ? seen & ~own : 0);    // by another one
  int low = seen == 0 ? 0 : __ffsll(seen) - 1;
  int high = seen == 0 ? 0 : 64 - __clzll(seen);
  bool full = missed == 0 && seen == bit_range(low, high);

  int kv_row = kv_heads * head_dim;
  size_t kv_at = (size_t)(row.key_start + first) * kv_row + (size_t)kv_head * head_dim;
  k += kv_at;
  v += kv_at;
  bool aligned = is_aligned(k, head_dim) && is_aligned(v, head_dim);
  auto copy = [&](int chunk) {
    if (seen != 0 && chunk < 2 * TILES) {
      int begin = chunk % TILES * ROWS;
      const bf16* rows_from = chunk < TILES ? k : v;
      Rows::template copy<ROWS, WARP>(
          ring + chunk % 2 * ROWS * Rows::STRIDE, rows_from + (size_t)begin * kv_row, kv_row,
          low - begin, high - begin, head_dim, aligned, lane, rows_from + (size_t)low * kv_row);
    }
    copy_async_commit();
  };
  copy(0);
  copy(1);
  for (int i = threadIdx.x; i < DECODE_LANES * D; i += FLASH_THREADS) {
    int l = i / D;
    int d = i % D;
    bf16 x = from_float<bf16>(0.0f);
    if (l < lanes && d < head_dim) {
      size_t n = row.token_start + shared.tokens[l];
      x = q[(n * heads + shared.heads[l]) * head_dim + d];
    }
    query[l * Rows::STRIDE + d] = x;
  }
  __syncthreads();

  float factor = scale == 0.0f ? 1.0f : fabsf(scale);
  float to_log2 = factor * LOG2_E;
  float s[WARP_KEYS / 8][4];
#pragma unroll
  for (int j = 0; j < WARP_KEYS / 8; j++) {
    s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0.0f;
  }
#pragma unroll
  for (int tile = 0; tile < TILES; tile++) {
    copy_async_wait<1>();
    __syncwarp();
    const bf16* key = ring + tile % 2 * ROWS * Rows::STRIDE;
#pragma unroll 2
    for (int d = 0; d < D; d += 16) {
      unsigned a[4];
      Rows::load_a(a, query, 0, d);
#pragma unroll
      for (int j = 0; j < ROWS / 8; j += 2) {
        unsigned b[4];
        Rows::load_b(b, key, j * 8, d);
        multiply_add_bf16(s[tile * ROWS / 8 + j], a, b[0], b[1]);
        multiply_add_bf16(s[tile * ROWS / 8 + j + 1], a, b[2], b[3]);
      }
    }
    __syncwarp();
    copy(tile + 2);
  }

  Softmax softmax[2];
  unsigned weights[WARP_KEYS / 16][4];
#pragma unroll
  for (int h = 0; h < 2; h++) {
    int l = fragment_row() + 8 * h;
    unsigned long long mine = __shfl_sync(ALL_LANES, own, l);
    bool uniform = l < lanes && shared.uniform[l];
    float best = LOWEST;
#pragma unroll
    for (int j = 0; j < WARP_KEYS / 8; j++) {
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float score = scale < 0.0f ? -s[j][2 * h + e] : s[j][2 * h + e];
        score = uniform ? 0.0f : score;
        bool visible = mine >> (8 * j + fragment_column() + e) & 1;
        s[j][2 * h + e] = visible ? score : -INFINITY;
        best = fmaxf(best, s[j][2 * h + e]);
      }
    }
    best = quad_max(best);
    int at = NO_KEY;
#pragma unroll
    for (int j = WARP_KEYS / 8 - 1; j >= 0; j--) {
      at = s[j][2 * h + 1] == best ? first + j * 8 + fragment_column() + 1 : at;
      at = s[j][2 * h] == best ? first + j * 8 + fragment_column() : at;
    }
    at = quad_min(at);
    float shift = best == LOWEST ? 0.0f : best * to_log2;
    float part = 0.0f;
#pragma unroll
    for (int j = 0; j < WARP_KEYS / 8; j++) {
      float left = exp2_fast(fmaf(s[j][2 * h], to_log2, -shift));
      float right = exp2_fast(fmaf(s[j][2 * h + 1], to_log2, -shift));
      part += left + right;
      weights[j / 2][j % 2 * 2 + h] = pack_bf16(left, right);
    }
    softmax[h] = {best, quad_sum(part), best == LOWEST ? -1 : at};
  }

  float sums[D / 8][4];
#pragma unroll
  for (int i = 0; i < D / 8; i++) {
    sums[i][0] = sums[i][1] = sums[i][2] = sums[i][3] = 0.0f;
  }
  unsigned infinite = 0;  // bit `tile`: whether values were taken out
#pragma unroll
  for (int tile = 0; tile < TILES; tile++) {
    copy_async_wait<1>();
    __syncwarp();
    bf16* value = ring + tile % 2 * ROWS * Rows::STRIDE;
    if (seen != 0) {
      // What a query does not see must not reach it, not even times zero.
      if (!full && __any_sync(ALL_LANES, Rows::template holds_infinite<ROWS, WARP>(value, lane))) {
        Rows::template drop_infinite<ROWS, WARP>(value, lane);
        infinite |= 1u << tile;
        __syncwarp();
      }
#pragma unroll
      for (int j = 0; j < ROWS / 16; j++) {
#pragma unroll
        for (int i = 0; i < D / 8; i += 2) {
          unsigned b[4];
          Rows::load_b_transposed(b, value, j * 16, i * 8);
          multiply_add_bf16(sums[i], weights[tile * ROWS / 16 + j], b[0], b[1]);
          multiply_add_bf16(sums[i + 1], weights[tile * ROWS / 16 + j], b[2], b[3]);
        }
      }
      __syncwarp();
    }
    copy(TILES + tile + 2);
  }

  // The warps together.
  copy_async_wait<0>();
  __syncwarp();
  float* out = (float*)ring;  // [16][OUT]
#pragma unroll
  for (int h = 0; h < 2; h++) {
    int l = fragment_row() + 8 * h;
#pragma unroll
    for (int i = 0; i < D / 8; i++) {
      *(float2*)(out + l * OUT + i * 8 + fragment_column()) =
          make_float2(sums[i][2 * h], sums[i][2 * h + 1]);
    }
    if (threadIdx.x % 4 == 0) {
      shared.parts[warp][l] = softmax[h];
    }
  }
  __syncwarp();
  for (int tile = 0; infinite >> tile != 0; tile++) {
    for (int j = tile * ROWS; (infinite >> tile & 1) && j < min(high, tile * ROWS + ROWS); j++) {
      for (int d = lane; d < head_dim; d += WARP) {
        float x = to_float(v[(size_t)j * kv_row + d]);
        for (int l = 0; l < lanes && !is_finite(x); l++) {
          out[l * OUT + d] += shared.visible[l].sees(first + j) ? x : 0.0f;
        }
      }
    }
  }
  __syncthreads();
  const float* outs = (const float*)(query + DECODE_LANES * Rows::STRIDE);
  constexpr int NEXT = 2 * ROWS * Rows::STRIDE / 2;  // floats from a warp's sums to the next
  for (int l = 0; l < lanes; l++) {
    Softmax total = shared.parts[0][l];
#pragma unroll
    for (int w = 1; w < FLASH_WARPS; w++) {
      total.key = shared.parts[w][l].top > total.top ? shared.parts[w][l].key : total.key;
      total.top = fmaxf(total.top, shared.parts[w][l].top);
    }
    float take[FLASH_WARPS];
    total.sum = 0.0f;
#pragma unroll
    for (int w = 0; w < FLASH_WARPS; w++) {
      take[w] = exp2_fast((shared.parts[w][l].top - total.top) * to_log2);
      total.sum = fmaf(shared.parts[w][l].sum, take[w], total.sum);
    }
    size_t slot = (size_t)row_index * slots + shared.tokens[l];
    size_t at = partials.at(slot, heads, shared.heads[l], blockIdx.y);
    for (int d = threadIdx.x; d < head_dim; d += FLASH_THREADS) {
      float value = 0.0f;
#pragma unroll
      for (int w = 0; w < FLASH_WARPS; w++) {
        value = fmaf(outs[w * NEXT + l * OUT + d], take[w], value);
      }
      partials.values[at * head_dim + d] = value;
    }
    if (threadIdx.x == 0) {
      total.top = total.top == LOWEST ? LOWEST : total.top * factor;
      partials.write(at, total);
    }
  }
}

}  // namespace attention
using namespace attention;

// Rows of at most `few` tokens. Grid (Hkv x groups of 16 lanes, spans, B).
#define FLASH_DECODING(NAME, D, ROWS, BLOCKS)                                                      \
  extern "C" __global__ void __launch_bounds__(FLASH_THREADS, BLOCKS) NAME(                        \
      const bf16* q, const bf16* k, const bf16* v, const BatchRow* rows, const PlannedHead* plan,  \
      int heads, int kv_heads, int head_dim, int window, float scale, int few, int slots,          \
      float* part_tops, float* part_sums, int* part_keys, float* part_values) {                    \
    decode<D, ROWS>(q, k, v, rows, plan, heads, kv_heads, head_dim, window, scale, few, slots,     \
                    Partials{part_tops, part_sums, part_keys, part_values, (int)gridDim.y});       \
  }                                                                                                \
  EXPORT_KERNEL(NAME)

FLASH_DECODING(flash_decoding_d64, 64, 32, 4)
FLASH_DECODING(flash_decoding_d96, 96, 32, 3)
FLASH_DECODING(flash_decoding_d128, 128, 32, 3)
FLASH_DECODING(flash_decoding_d256, 256, 16, 2)
