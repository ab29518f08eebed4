// What attention kernels share: who sees what, sums and read-outs, tiles of F32 rows.
#pragma once
#include "batch.cuh"

namespace attention {

// Keys of a span. Sums over keys start from zero at multiples of it and are merged in ascending
// order, so that spans can be computed by different blocks.
static constexpr int SPAN = 256;

// Lowest maximum: an unseen score, -infinity, minus the maximum is never NaN.
static constexpr float LOWEST = -3.402823466e38f;

// Bits [from, to) of 64, as far as they exist.
__device__ __forceinline__ unsigned long long bit_range(int from, int to) {
  from = max(from, 0);
  to = min(to, 64);
  return from < to ? (~0ull >> (64 - to)) & (~0ull << from) : 0ull;
}

// Keys that one query sees: [near_from, position] and [sink_from, sink_to), if that is not empty.
struct Visible {
  int position;
  int near_from;
  int sink_from;
  int sink_to;

  __device__ __forceinline__ bool sees(int key) const {
    return key <= position && (key >= near_from || (key >= sink_from && key < sink_to));
  }

  // Bit j: whether key first + j is seen, for 64 keys.
  __device__ __forceinline__ unsigned long long bits(int first) const {
    return bit_range(near_from - first, position + 1 - first) |
           bit_range(sink_from - first, sink_to - first);
  }

  __device__ __forceinline__ bool sees_any(int from, int to) const {
    return (near_from < to && position >= from) || max(sink_from, from) < min(sink_to, to);
  }

  __device__ __forceinline__ int first() const {
    return sink_from < sink_to ? sink_from : near_from;
  }

  __device__ __forceinline__ int count() const {
    return position + 1 - near_from + max(0, min(near_from, sink_to) - sink_from);
  }
};

// What the queries of one (row, head) see: keys of the layer's window that are among the first
// `sink` or among the last `near`.
struct View {
  int window;
  int near;
  int sink;

  __device__ __forceinline__ View(const PlannedHead& head, int layer_window)
      : window(layer_window), near(min(layer_window, head.window)), sink(head.sink) {}

  __device__ __forceinline__ Visible of(int position) const {
    return {position, max(0, position - near + 1), max(0, position - window + 1),
            min(sink, position + 1)};
  }

  // End of the queries that see a key: [key, end), or further than any position.
  __device__ __forceinline__ long long query_end(int key) const {
    return (long long)key + (key < sink ? window : near);
  }
};

// Walks the blocks of keys that some query at positions [first, last] sees, ascending. Blocks begin
// at multiples of KEYS, so what a query adds up does not depend on the queries beside it.
template <int KEYS>
struct KeyBlocks {
  int near_from;
  int sink_from;
  int sink_to;
  int last;
  int full_from;  // keys [full_from, full_to) are seen by all of the queries
  int full_to;

  __device__ __forceinline__ KeyBlocks(const View& view, int first_position, int last_position)
      : near_from(view.of(first_position).near_from),
        sink_from(view.of(first_position).sink_from),
        sink_to(view.of(last_position).sink_to),
        last(last_position),
        full_from(view.of(last_position).near_from),
        full_to(first_position + 1) {
    if (sink_from >= sink_to) {
      sink_to = 0;
    }
  }

  // First such block at or after one.
  __device__ __forceinline__ int from(int block) const {
    int in_sink = max(block, sink_from / KEYS * KEYS);
    return in_sink < sink_to ? in_sink : max(block, near_from / KEYS * KEYS);
  }

  __device__ __forceinline__ bool is_full(int block) const {
    return block >= full_from && block + KEYS <= full_to;
  }
};

// --- what attention leaves --------------------------------------------------------------------------

static constexpr int NO_KEY = 0x7fffffff;  // behind all positions

// Running sums of a query: what it has seen so far.
struct Softmax {
  float top;
  float sum;
  int key;

  __device__ __forceinline__ void clear() {
    top = LOWEST;
    sum = 0.0f;
    key = -1;
  }
};

// Sums of a span, [slot][head][span]: the maximum, the sum of weights relative to it, the position of
// the first key with the maximum, the sum of weighted values.
struct Partials {
  float* tops;
  float* sums;
  int* keys;
  float* values;  // [..., D]; null when spans are not split
  int spans;

  __device__ __forceinline__ size_t at(size_t slot, int heads, int head, int span) const {
    return (slot * heads + head) * spans + span;
  }

  __device__ __forceinline__ void write(size_t at, const Softmax& softmax) const {
    tops[at] = softmax.top;
    sums[at] = softmax.sum;
    keys[at] = softmax.key;
  }
};

// Read-outs of some tokens, ascending, [Q,H].
struct Reads {
  const int* queries;
  int count;
  int* top_position;
  float* top_weight;
  float* log_sum_exp;
  float* tops;  // the maximum and the sum of weights, for masses
  float* sums;

  // Index of the first asked token at or after one.
  __device__ __forceinline__ int find(int token) const {
    int from = 0;
    int to = count;
    while (from < to) {
      int middle = (from + to) / 2;
      if (queries[middle] < token) {
        from = middle + 1;
      } else {
        to = middle;
      }
    }
    return from;
  }

  // Whether one of the tokens [first, end) is asked for.
  __device__ __forceinline__ bool any(int first, int end) const {
    int at = find(first);
    return at < count && queries[at] < end;
  }

  __device__ __forceinline__ void write(
      int token, int heads, int head, int position, float weight, float lse, float top, float sum)
      const {
    int query = find(token);
    if (query < count && queries[query] == token) {
      size_t at = (size_t)query * heads + head;
      top_position[at] = position;
      top_weight[at] = weight;
      log_sum_exp[at] = lse;
      tops[at] = top;
      sums[at] = sum;
    }
  }
};

// The z of heads that do not attend, for tokens [token, token + count).
template <class T>
__device__ __forceinline__ void write_constant(
    T* z, float* lse, const PlannedHead& planned, const float* mean, const Reads& reads,
    int token, int count, int heads, int head, int head_dim) {
  for (int n = 0; n < count; n++) {
    T* to = z + ((size_t)(token + n) * heads + head) * head_dim;
    for (int d = threadIdx.x; d < head_dim; d += blockDim.x) {
      to[d] = from_float<T>(planned.mode == HEAD_MEAN ? mean[d] : 0.0f);
    }
  }
  for (int n = threadIdx.x; n < count; n += blockDim.x) {
    lse[(size_t)(token + n) * heads + head] = -INFINITY;
    reads.write(token + n, heads, head, -1, 0.0f, -INFINITY, 0.0f, 0.0f);
  }
}

// Takes a span into what came before; the values follow as fmaf(part, take, total * keep).
__device__ __forceinline__ void merge(
    Softmax& total, const Softmax& part, float& keep, float& take) {
  float top = fmaxf(total.top, part.top);
  keep = expf(total.top - top);
  take = expf(part.top - top);
  total.key = part.top > total.top ? part.key : total.key;
  total.sum = fmaf(part.sum, take, total.sum * keep);
  total.top = top;
}

// Reports a query that has seen all its keys.
__device__ __forceinline__ void finish(
    float* lse, const Reads& reads, const Visible& visible, const Softmax& softmax, int token,
    int heads, int head) {
  float log_sum = softmax.top + logf(softmax.sum);
  lse[(size_t)token * heads + head] = log_sum;
  int key = softmax.key < 0 ? visible.first() : softmax.key;  // no score above the lowest, or NaN
  reads.write(token, heads, head, key, 1.0f / softmax.sum, log_sum, softmax.top, softmax.sum);
}

// --- tiles of F32 rows -------------------------------------------------------------------------------

// A block is 16 x 16 threads. A tile of scores has its rows along y and its columns along x, so a row
// lies in half a warp.
static constexpr int SIDE = 16;
static constexpr int TILE_THREADS = SIDE * SIDE;

// Sums and the like over the half warp of a thread: a fixed tree.
__device__ __forceinline__ float side_sum(float v) {
#pragma unroll
  for (int offset = SIDE / 2; offset > 0; offset >>= 1) {
    v += __shfl_xor_sync(ALL_LANES, v, offset);
  }
  return v;
}

__device__ __forceinline__ float side_max(float v) {
#pragma unroll
  for (int offset = SIDE / 2; offset > 0; offset >>= 1) {
    v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, offset));
  }
  return v;
}

__device__ __forceinline__ int side_min(int v) {
#pragma unroll
  for (int offset = SIDE / 2; offset > 0; offset >>= 1) {
    v = min(v, __shfl_xor_sync(ALL_LANES, v, offset));
  }
  return v;
}

// Floats from one row of a tile to the next: whole pieces of 16 bytes, an odd number of them, so that
// eight threads reading a piece each of neighbouring rows meet no bank twice.
__host__ __device__ __forceinline__ int tile_stride(int head_dim) {
  return (((head_dim + 3) / 4) | 1) * 4;
}

// Whether rows of a [..., head_dim] tensor can be copied in pieces of 16 bytes.
__device__ __forceinline__ bool is_aligned(const void* tensor, int head_dim) {
  return head_dim % 4 == 0 && ((size_t)tensor & 15) == 0;
}

// Copies `count` rows into a tile of ROWS, in the background where it can; other rows become zero,
// and so does what rounds head_dim up to whole pieces.
template <int ROWS>
__device__ __forceinline__ void copy_rows(
    float* tile, int stride, const float* from, long long row, int count, int head_dim) {
  int x = threadIdx.x % SIDE;
  if (is_aligned(from, head_dim)) {
#pragma unroll 1
    for (int r = threadIdx.x / SIDE; r < ROWS; r += SIDE) {
      for (int d = 4 * x; d < head_dim; d += 4 * SIDE) {
        copy_async16(tile + r * stride + d, from + (r < count ? r * row + d : 0), r < count);
      }
    }
  } else {
    int width = (head_dim + 3) / 4 * 4;
#pragma unroll 1
    for (int r = threadIdx.x / SIDE; r < ROWS; r += SIDE) {
#pragma unroll 1
      for (int d = x; d < width; d += SIDE) {
        tile[r * stride + d] = r < count && d < head_dim ? from[r * row + d] : 0.0f;
      }
    }
  }
}

// The same, times a factor, at once.
template <int ROWS>
__device__ __forceinline__ void copy_scaled_rows(
    float* tile, int stride, const float* from, long long row, int count, int head_dim, float factor) {
  int width = (head_dim + 3) / 4 * 4;
#pragma unroll 1
  for (int r = threadIdx.x / SIDE; r < ROWS; r += SIDE) {
    for (int d = threadIdx.x % SIDE; d < width; d += SIDE) {
      tile[r * stride + d] = r < count && d < head_dim ? from[r * row + d] * factor : 0.0f;
    }
  }
}

// out[r][c] = a[y ROWS + r] . b[x + 16 c], each one chain of fused products along the rows.
template <int ROWS, int COLUMNS>
__device__ __forceinline__ void multiply_rows(
    float (&out)[ROWS][COLUMNS], const float* a, const float* b, int stride, int head_dim) {
  const float* rows = a + threadIdx.x / SIDE * ROWS * stride;
  const float* columns = b + threadIdx.x % SIDE * stride;
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
      out[r][c] = 0.0f;
    }
  }
#pragma unroll 1
  for (int d = 0; d < head_dim; d += 4) {
    float4 left[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      left[r] = *(const float4*)(rows + r * stride + d);
    }
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
      float4 right = *(const float4*)(columns + c * SIDE * stride + d);
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        out[r][c] = fmaf(left[r].x, right.x, out[r][c]);
        out[r][c] = fmaf(left[r].y, right.y, out[r][c]);
        out[r][c] = fmaf(left[r].z, right.z, out[r][c]);
        out[r][c] = fmaf(left[r].w, right.w, out[r][c]);
      }
    }
  }
}

// Columns of a [rows, PADDED] product that a thread holds: PIECES runs of WIDTH neighbours.
template <int PADDED>
struct Columns {
  static constexpr int WIDTH = PADDED / SIDE < 4 ? PADDED / SIDE : 4;
  static constexpr int COUNT = PADDED / SIDE;

  // Index of the thread's column c.
  __device__ __forceinline__ static int at(int c) {
    return (c / WIDTH * SIDE + threadIdx.x % SIDE) * WIDTH + c % WIDTH;
  }

  // The thread's columns of a row in shared memory.
  __device__ __forceinline__ static void load(float (&x)[COUNT], const float* row) {
#pragma unroll
    for (int c = 0; c < COUNT; c += WIDTH) {
      if constexpr (WIDTH == 4) {
        float4 four = *(const float4*)(row + at(c));
        x[c] = four.x;
        x[c + 1] = four.y;
        x[c + 2] = four.z;
        x[c + 3] = four.w;
      } else {
        float2 two = *(const float2*)(row + at(c));
        x[c] = two.x;
        x[c + 1] = two.y;
      }
    }
  }

  // Writes the thread's columns below head_dim.
  __device__ __forceinline__ static void store(float* row, const float (&x)[COUNT], int head_dim) {
    update(row, x, 0.0f, 1.0f, 1.0f, false, head_dim);
  }

  // row = (row keep + x take) share in the thread's columns below head_dim; without the row when it
  // has not begun.
  __device__ __forceinline__ static void update(
      float* row, const float (&x)[COUNT], float keep, float take, float share, bool begun,
      int head_dim) {
    bool aligned = WIDTH == 4 && is_aligned(row, head_dim);
#pragma unroll
    for (int c = 0; c < COUNT; c += WIDTH) {
      float before[WIDTH];
#pragma unroll
      for (int e = 0; e < WIDTH; e++) {
        before[e] = 0.0f;
      }
      if (begun) {
        if (aligned && at(c) < head_dim) {
          float4 four = *(const float4*)(row + at(c));
          before[0] = four.x;
          before[1] = four.y;
          before[WIDTH - 2] = four.z;
          before[WIDTH - 1] = four.w;
        } else if (!aligned) {
#pragma unroll
          for (int e = 0; e < WIDTH; e++) {
            before[e] = at(c + e) < head_dim ? row[at(c + e)] : 0.0f;
          }
        }
      }
#pragma unroll
      for (int e = 0; e < WIDTH; e++) {
        before[e] = fmaf(x[c + e], take, before[e] * keep) * share;
      }
      if (aligned && at(c) < head_dim) {
        *(float4*)(row + at(c)) =
            make_float4(before[0], before[1], before[WIDTH - 2], before[WIDTH - 1]);
      } else if (!aligned) {
#pragma unroll
        for (int e = 0; e < WIDTH; e++) {
          if (at(c + e) < head_dim) {
            row[at(c + e)] = before[e];
          }
        }
      }
    }
  }
};

}  // namespace attention
