// Ops that move whole rows: embedding [V,C] -> [N,C], its backward, gather and scatter. Limited by
// memory.
//
// Threads take 16 bytes of a row each. A block takes one row, or several where rows are short, or one
// of several stretches of a row where rows are long.
#include "blocks.cuh"

// Items of a row that one thread takes at most, all under way at once.
static constexpr int HELD = 4;

// The items that a thread takes: first + 0, 1, ... HELD - 1 times the block's threads, below end, of
// one row.
struct RowItems {
  long long row;
  int first;
  int end;
};

// Blocks (x, y) take rows x or, where `items` of them fit, x * (threads / items) on; and the y-th
// stretch of HELD * threads items.
__device__ __forceinline__ RowItems row_items(int items) {
  const int threads = blockDim.x;
  const int rows = items < threads ? threads / items : 1;  // of a block
  const int row = items < threads ? threadIdx.x / items : 0;
  RowItems mine;
  mine.row = (long long)blockIdx.x * rows + row;
  mine.first = blockIdx.y * HELD * threads + threadIdx.x - row * items;
  mine.end = row < rows ? items : 0;
  return mine;
}

// --- embedding --------------------------------------------------------------------------------------
// out[n,:] = table[ids[n],:], the table in any type of weights.

template <class T, class W>
__device__ __forceinline__ void copy_rounded(
    T* __restrict__ to, const W* __restrict__ from, int width, const RowItems& mine) {
  constexpr int N = PACK<T>;
  const bool wide = is_wide(to, from);
  Pack<W, N> held[HELD];
#pragma unroll
  for (int k = 0; k < HELD; k++) {
    const int i = mine.first + k * blockDim.x;
    if (i < mine.end) {
      held[k] = load_pack<N>(from, i * N, width, wide);
    }
  }
#pragma unroll
  for (int k = 0; k < HELD; k++) {
    const int i = mine.first + k * blockDim.x;
    if (i < mine.end) {
      store_pack(to, i * N, width, wide, rounded<T>(widened(held[k])));
    }
  }
}

template <class T>
__device__ __forceinline__ void embedding(
    T* __restrict__ out,
    const int* __restrict__ ids,
    const void* __restrict__ table,
    int type,
    int tokens,
    int width) {
  constexpr int N = PACK<T>;
  const RowItems mine = row_items((width + N - 1) / N);
  if (mine.row >= tokens) {
    return;
  }
  T* to = out + mine.row * width;
  const long long from = (long long)ids[mine.row] * width;
  if (type == WEIGHT_F32) {
    copy_rounded(to, (const float*)table + from, width, mine);
  } else if (type == WEIGHT_BF16) {
    copy_rounded(to, (const bf16*)table + from, width, mine);
  } else if (type == WEIGHT_F16) {
    copy_rounded(to, (const f16*)table + from, width, mine);
  } else {
    const bool wide = is_wide(to);
    for (int k = 0; k < HELD; k++) {
      const int i = mine.first + k * blockDim.x;
      if (i < mine.end) {
        const Pack<float, N> x = load_blocks<N>(table, type, from + i * N);
        store_pack(to, i * N, width, wide, rounded<T>(x));
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(256) embedding_f32(
    float* out, const int* ids, const void* table, int type, int tokens, int width) {
  embedding(out, ids, table, type, tokens, width);
}
EXPORT_KERNEL(embedding_f32)

extern "C" __global__ void __launch_bounds__(256) embedding_bf16(
    bf16* out, const int* ids, const void* table, int type, int tokens, int width) {
  embedding(out, ids, table, type, tokens, width);
}
EXPORT_KERNEL(embedding_bf16)

// --- embedding backward -----------------------------------------------------------------------------
// dTable[ids[n],:] += dOut[n,:] without atomics: tokens come sorted by id, so that a block owns an id
// and adds its tokens in ascending n. Threads own four columns and load TOKENS_AHEAD rows at once: a
// frequent id is a long chain of dependent adds, but not of dependent loads.

static constexpr int TOKENS_AHEAD = 8;

// Id `unique[s]` stands at the tokens order[starts[s]] to order[starts[s + 1] - 1]. Block (x, y) takes
// id x and 4 * threads columns.
template <class T>
__device__ __forceinline__ void embedding_backward(
    float* __restrict__ d_table,
    const T* __restrict__ d_out,
    const int* __restrict__ unique,
    const int* __restrict__ starts,
    const int* __restrict__ order,
    int width) {
  constexpr int N = 4;
  const int at = (blockIdx.y * blockDim.x + threadIdx.x) * N;
  if (at >= width) {
    return;
  }
  float* to = d_table + (long long)unique[blockIdx.x] * width;
  const int end = starts[blockIdx.x + 1];
  const bool wide = is_wide(to);
  const bool d_wide = is_wide(d_out) && width % N == 0;
  Pack<float, N> sum = load_pack<N>(to, at, width, wide);
  for (int first = starts[blockIdx.x]; first < end; first += TOKENS_AHEAD) {
    Pack<T, N> d[TOKENS_AHEAD];
#pragma unroll
    for (int t = 0; t < TOKENS_AHEAD; t++) {
      if (first + t < end) {
        d[t] = load_pack<N>(d_out + (long long)order[first + t] * width, at, width, d_wide);
      }
    }
#pragma unroll
    for (int t = 0; t < TOKENS_AHEAD; t++) {
      if (first + t < end) {
#pragma unroll
        for (int j = 0; j < N; j++) {
          sum.at[j] += to_float(d[t].at[j]);
        }
      }
    }
  }
  store_pack(to, at, width, wide, sum);
}

extern "C" __global__ void __launch_bounds__(128) embedding_backward_f32(
    float* d_table,
    const float* d_out,
    const int* unique,
    const int* starts,
    const int* order,
    int width) {
  embedding_backward(d_table, d_out, unique, starts, order, width);
}
EXPORT_KERNEL(embedding_backward_f32)

extern "C" __global__ void __launch_bounds__(128) embedding_backward_bf16(
    float* d_table,
    const bf16* d_out,
    const int* unique,
    const int* starts,
    const int* order,
    int width) {
  embedding_backward(d_table, d_out, unique, starts, order, width);
}
EXPORT_KERNEL(embedding_backward_bf16)

// --- gather and scatter -----------------------------------------------------------------------------
// out[m,:] = in[rows[m],:] and out[rows[n],:] = in[n,:], of any type: rows are even numbers of bytes.

// As elements of U; an item is 16 bytes.
template <class U>
__device__ __forceinline__ void copy_items(
    U* __restrict__ to, const U* __restrict__ from, long long count, const RowItems& mine) {
  constexpr int N = PACK<U>;
  const bool wide = is_wide(to, from);
  Pack<U, N> held[HELD];
#pragma unroll
  for (int k = 0; k < HELD; k++) {
    const int i = mine.first + k * blockDim.x;
    if (i < mine.end) {
      held[k] = load_pack<N>(from, (long long)i * N, count, wide);
    }
  }
#pragma unroll
  for (int k = 0; k < HELD; k++) {
    const int i = mine.first + k * blockDim.x;
    if (i < mine.end) {
      store_pack(to, (long long)i * N, count, wide, held[k]);
    }
  }
}

__device__ __forceinline__ void copy_row(
    char* to, const char* from, long long bytes, const RowItems& mine) {
  if (((uintptr_t)to | (uintptr_t)from | bytes) % 4 == 0) {
    copy_items((unsigned*)to, (const unsigned*)from, bytes / 4, mine);
  } else {
    copy_items((unsigned short*)to, (const unsigned short*)from, bytes / 2, mine);
  }
}

extern "C" __global__ void __launch_bounds__(256) gather_rows(
    char* out, const char* in, const int* rows, int count, long long bytes) {
  const RowItems mine = row_items((int)((bytes + 15) / 16));
  if (mine.row < count) {
    copy_row(out + mine.row * bytes, in + rows[mine.row] * bytes, bytes, mine);
  }
}
EXPORT_KERNEL(gather_rows)

extern "C" __global__ void __launch_bounds__(256) scatter_rows(
    char* out, const char* in, const int* rows, int count, long long bytes) {
  const RowItems mine = row_items((int)((bytes + 15) / 16));
  if (mine.row < count) {
    copy_row(out + rows[mine.row] * bytes, in + mine.row * bytes, bytes, mine);
  }
}
EXPORT_KERNEL(scatter_rows)
