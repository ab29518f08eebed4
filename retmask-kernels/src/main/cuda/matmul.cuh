// Products with a matrix of weights in the order of arithmetic that Kernels.matmul fixes: the kernels
// that matmul*.cu instantiate for every type of weight.
//
//   out[n,o] = sum_i x[n,i] W[o,i] + bias[o]      x [N,I], W [O,I], out [N,O]
//
// Step i belongs to chain i mod 8 (one chain below 512 steps); a chain is one of fused multiply-adds
// over ascending i from zero, eight chains are added by a tree. All kernels here give the same bits:
//
//   few_rows      up to 8 rows, eight chains: reads W once, limited by memory
//   each_output   a thread for an output: few rows of one chain, rows that are not aligned
//   tiles         many rows, eight chains: limited by the F32 multiply-adds
//   product       any product of one chain, with operands along either axis, backward too
//
// Steps beyond the last one are taken with x = -0 and w = +0, which changes no sum, not even -0.
#pragma once
#include "weights.cuh"

static constexpr int CHAINS = 8;

// Sets an output, in F32 or BF16.
__device__ __forceinline__ void set_output(void* out, int type, float value) {
  if (type == WEIGHT_BF16) {
    *(bf16*)out = from_float<bf16>(value);
  } else {
    *(float*)out = value;
  }
}

// Address of element i of outputs.
__device__ __forceinline__ unsigned char* output_at(void* out, int type, long long i) {
  return (unsigned char*)out + i * (type == WEIGHT_BF16 ? 2 : 4);
}

// Bytes of a row of weights.
template <class W>
__device__ __forceinline__ long long row_bytes(int columns) {
  return (long long)(columns / W::BLOCK) * W::BLOCK_BYTES;
}

// --- few rows ---------------------------------------------------------------------------------------
//
// A warp computes eight outputs of ROWS rows, four lanes for each: lane `part` has the chains 2 part and
// 2 part + 1. A block is one to four warps. Both W and x come through a ring in shared memory, as they
// are stored, W::STAGES - 1 stages ahead, so that neither memory nor L2 is waited for. Limited by reading
// W: some 7 instructions of a warp for 64 elements of BF16 and one row of x.

static constexpr int FEW_OUTS = 8;  // of a warp

// One stage of the ring: the rows of W of every warp, then the rows of x.
template <class W, int ROWS>
struct Stage {
  static constexpr int STEPS = W::STAGE * W::UNIT;            // of the inner dimension
  static constexpr int BYTES_W = W::STAGE * W::UNIT_BYTES;    // of a row
  static constexpr int BYTES_X = STEPS * (int)sizeof(float);
  // 16-byte pieces that hold them; rows of blocks begin at any even byte
  static constexpr int PIECES_W = (BYTES_W + (W::UNIT_BYTES % 16 == 0 ? 0 : 14) + 15) / 16;
  static constexpr int PIECES_X = BYTES_X / 16;
  static_assert(PIECES_W * 16 <= W::STRIDE && W::STRIDE % 16 == 0 && BYTES_X % 16 == 0);

  static __device__ __forceinline__ int bytes() {
    return (int)blockDim.x / WARP * FEW_OUTS * W::STRIDE + ROWS * BYTES_X;
  }
};

// Begins the copies of stage `stage` into its place in the ring: of rows [first_out, ...) of W, eight
// for every warp, and of rows [first_row, first_row + ROWS) of x; rows beyond the last are the last.
template <class W, int ROWS>
__device__ __forceinline__ void copy_stage(
    unsigned char* ring, const float* x, const unsigned char* weight, int first_row, int first_out,
    int rows, int inner, int outs, int stage) {
  typedef Stage<W, ROWS> S;
  const long long bytes = row_bytes<W>(inner);
  const long long at = (long long)stage * S::BYTES_W;
  if (at < bytes) {
    const int warp = threadIdx.x / WARP;
    unsigned char* to = ring + stage % W::STAGES * S::bytes();
    unsigned char* to_x = to + (int)blockDim.x / WARP * FEW_OUTS * W::STRIDE;
    to += warp * FEW_OUTS * W::STRIDE;
    const unsigned char* end = weight + outs * bytes;
    for (int i = threadIdx.x % WARP; i < FEW_OUTS * S::PIECES_W; i += WARP) {
      const int row = i / S::PIECES_W;
      const int piece = i % S::PIECES_W;
      const int o = min(first_out + warp * FEW_OUTS + row, outs - 1);
      const unsigned char* from = weight + o * bytes + at;
      if (W::UNIT_BYTES % 16 == 0) {
        if (at + piece * 16 < bytes) {
          copy_async16(to + row * W::STRIDE + piece * 16, from + piece * 16);
        }
        continue;
      }
      from += piece * 16 - (int)((uintptr_t)from % 16);
      if (from < end) {
        const int count = (int)min(16ll, (long long)(end - from));
        copy_async16_upto(to + row * W::STRIDE + piece * 16, from, count);
      }
    }
    const int step = stage * S::STEPS;
    for (int i = threadIdx.x; i < ROWS * S::PIECES_X; i += blockDim.x) {
      const int row = i / S::PIECES_X;
      const int piece = i % S::PIECES_X;
      const int k = step + piece * 4;
      if (k < inner) {
        const float* from = x + (long long)min(first_row + row, rows - 1) * inner + k;
        copy_async16(to_x + row * S::BYTES_X + piece * 16, from);
      }
    }
  }
  copy_async_commit();
}

template <class W, int ROWS>
__device__ __forceinline__ void few_rows(
    void* __restrict__ out, int out_type, const float* __restrict__ x,
    const unsigned char* __restrict__ weight, const void* __restrict__ bias, int bias_type,
    int rows, int inner, int outs) {
  typedef Stage<W, ROWS> S;
  static constexpr int UNROLL = W::UNIT == 256 ? 1 : W::UNIT == 32 ? 2 : ROWS == 1 ? 8 : 4;
  SHARED_MEMORY(ring);
  const int warp = threadIdx.x / WARP;
  const int warps = blockDim.x / WARP;
  const int lane = threadIdx.x % WARP;
  const int part = lane % 4;
  const int first_out = blockIdx.x * warps * FEW_OUTS;
  const int first_row = blockIdx.y * ROWS;
  const int own = first_out + warp * FEW_OUTS + lane / 4;
  const int o = min(own, outs - 1);
  const long long bytes = row_bytes<W>(inner);
  const int units = inner / W::UNIT;
  // Where this lane's row begins within 16 bytes, at stage 0.
  const unsigned shift = (unsigned)((uintptr_t)(weight + o * bytes) % 16);

  float c[ROWS][2] = {};
#pragma unroll 1
  for (int stage = 1 - W::STAGES; stage * W::STAGE < units; stage++) {
    if (stage >= 0) {
      copy_async_wait<W::STAGES - 2>();
      __syncthreads();  // all see the stage, and none reads the one before any more
    }
    copy_stage<W, ROWS>(
        ring, x, weight, first_row, first_out, rows, inner, outs, stage + W::STAGES - 1);
    if (stage < 0) {
      continue;
    }
    const unsigned char* from = ring + stage % W::STAGES * S::bytes();
    const float* xs = (const float*)(from + warps * FEW_OUTS * W::STRIDE) + 2 * part;
    from += (warp * FEW_OUTS + lane / 4) * W::STRIDE +
            (shift + (unsigned)stage * S::BYTES_W) % 16;
    const int count = min(W::STAGE, units - stage * W::STAGE);
#pragma unroll UNROLL
    for (int u = 0; u < count; u++) {
      W::unit(from + u * W::UNIT_BYTES, part, [&](int step, float w0, float w1) {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
          const float2 v = pair_at(xs + r * S::STEPS + u * W::UNIT + step * 8);
          c[r][0] = fmaf(v.x, w0, c[r][0]);
          c[r][1] = fmaf(v.y, w1, c[r][1]);
        }
      });
    }
  }

  const float added = bias == nullptr ? 0.f : weight_at(bias, bias_type, o);
  unsigned char* to = output_at(out, out_type, (long long)first_row * outs + o);
  const long long next_row = output_at(out, out_type, outs) - (unsigned char*)out;
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      c[r][i] += __shfl_xor_sync(ALL_LANES, c[r][i], 2);  // c0 + c4 and its like
      c[r][i] += __shfl_xor_sync(ALL_LANES, c[r][i], 1);
    }
    const float sum = c[r][0] + c[r][1];
    if (part == 0 && own < outs && first_row + r < rows) {
      set_output(to, out_type, bias == nullptr ? sum : sum + added);
    }
    to += next_row;
  }
}

// --- each output ------------------------------------------------------------------------------------
//
// A thread for an output, blocks (row, outputs).

// Whether all rows of a matrix begin at a multiple of a quad.
template <class W>
__device__ __forceinline__ bool has_wide_rows(const void* matrix, int columns) {
  return ((uintptr_t)matrix | (uintptr_t)row_bytes<W>(columns)) % alignof(typename W::Quad) == 0;
}

// Elements [at, at + 4) of a row of x; beyond it -0, which adds nothing to any sum.
template <class T>
__device__ __forceinline__ void load_steps(
    float (&to)[4], const T* row, int at, int columns, bool wide) {
  const Pack<T, 4> quad = load_pack<4>(row, at, columns, wide);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    to[i] = at + i < columns ? to_float(quad.at[i]) : -0.f;
  }
}

template <class T, class W>
__device__ __forceinline__ void each_output(
    void* __restrict__ out, int out_type, const T* __restrict__ x,
    const unsigned char* __restrict__ weight, const void* __restrict__ bias, int bias_type,
    int inner, int outs, int chains) {
  const int o = blockIdx.y * blockDim.x + threadIdx.x;
  if (o >= outs) {
    return;
  }
  const T* v = x + (long long)blockIdx.x * inner;
  const unsigned char* w = weight + o * row_bytes<W>(inner);
  const bool wide_x = has_wide_rows<FloatWeight<T>>(x, inner);
  const bool wide_w = has_wide_rows<W>(weight, inner);
  float c[CHAINS] = {};
  for (int k = 0; k < inner; k += CHAINS) {
    float xs[2][4];
    float ws[2][4];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      load_steps(xs[half], v, k + 4 * half, inner, wide_x);
      W::decode(ws[half], W::fetch(w, k + 4 * half, inner, wide_w));
    }
#pragma unroll
    for (int i = 0; i < CHAINS; i++) {
      if (chains == 1) {
        c[0] = fmaf(xs[i / 4][i % 4], ws[i / 4][i % 4], c[0]);
      } else {
        c[i] = fmaf(xs[i / 4][i % 4], ws[i / 4][i % 4], c[i]);
      }
    }
  }
  float sum = c[0];
  if (chains > 1) {
    sum = ((c[0] + c[4]) + (c[2] + c[6])) + ((c[1] + c[5]) + (c[3] + c[7]));
  }
  sum = bias == nullptr ? sum : sum + weight_at(bias, bias_type, o);
  set_output(output_at(out, out_type, (long long)blockIdx.x * outs + o), out_type, sum);
}

// --- tiles ------------------------------------------------------------------------------------------
//
// A block computes a square of SIZE x SIZE outputs, warp c chain c of all of them, so that eight sums
// of every output are in registers; the tree at the end goes through shared memory. Slices of STEPS
// steps are loaded into registers while the slice before is worked on, and stored with the steps
// outermost. A lane has SIZE / 8 rows and SIZE / 4 columns, in runs of four.

// N floats from shared memory, in runs of four that lie `apart`.
template <int N>
struct Quads {
  float at[N];
  __device__ __forceinline__ Quads(const float* from, int apart) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const Pack<float, 4> run = *(const Pack<float, 4>*)(from + i / 4 * apart);
#pragma unroll
      for (int j = 0; j < 4; j++) {
        at[i + j] = run.at[j];
      }
    }
  }
};

// The outer product of one step.
template <int M, int N>
__device__ __forceinline__ void add_outer_product(
    float (&c)[M][N], const Quads<M>& a, const Quads<N>& b) {
#pragma unroll
  for (int i = 0; i < M; i++) {
    multiply_add(c[i], a.at[i], b.at);
  }
}

static constexpr int TILE_STEPS = 32;
static constexpr int TILE_THREADS = CHAINS * WARP;

// Floats from step to step of a slice: four more spread the stores over the banks.
template <int SIZE>
static constexpr int TILE_STRIDE = SIZE + 4;

// One operand of a tile: SIZE rows of a matrix, of which a thread loads some quads of every slice.
template <class W, int SIZE>
struct TileSide {
  static constexpr int QUADS = SIZE * TILE_STEPS / 4 / TILE_THREADS;
  const unsigned char* matrix;
  int first, rows, inner;
  float beyond;  // in place of steps after the last
  bool wide;
  typename W::Quad quad[QUADS];

  __device__ __forceinline__ TileSide(
      const void* matrix, int first, int rows, int inner, float beyond)
      : matrix((const unsigned char*)matrix),
        first(first),
        rows(rows),
        inner(inner),
        beyond(beyond),
        wide(has_wide_rows<W>(matrix, inner)) {}

  // A warp takes 16 rows and two neighbouring quads of each: whole sectors of memory, and banks that
  // differ when it stores.
  static __device__ __forceinline__ int row(int q) {
    return (q * CHAINS + threadIdx.x / WARP) % (SIZE / 16) * 16 + threadIdx.x % WARP / 2;
  }
  static __device__ __forceinline__ int step(int q) {
    return (q * CHAINS + threadIdx.x / WARP) / (SIZE / 16) * 8 + threadIdx.x % 2 * 4;
  }

  // Rows beyond the last are loaded from it; what they give is not stored.
  __device__ __forceinline__ void fetch(int slice) {
#pragma unroll
    for (int q = 0; q < QUADS; q++) {
      const long long r = min(first + row(q), rows - 1);
      quad[q] = W::fetch(matrix + r * row_bytes<W>(inner), slice + step(q), inner, wide);
    }
  }

  __device__ __forceinline__ void store(float* to, int slice) const {
#pragma unroll
    for (int q = 0; q < QUADS; q++) {
      float values[4];
      W::decode(values, quad[q]);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int k = step(q) + i;
        to[k * TILE_STRIDE<SIZE> + row(q)] = slice + k < inner ? values[i] : beyond;
      }
    }
  }
};

template <class W, int SIZE>
__device__ __forceinline__ void tiles(
    float* __restrict__ out, const float* __restrict__ x, const unsigned char* __restrict__ weight,
    const void* __restrict__ bias, int bias_type, int rows, int inner, int outs) {
  static constexpr int STRIDE = TILE_STRIDE<SIZE>;
  static constexpr int SLICE = TILE_STEPS * STRIDE;
  static constexpr int M = SIZE / 8;
  static constexpr int N = SIZE / 4;
  SHARED_MEMORY(shared);
  float* xs = (float*)shared;     // [2][STEPS][STRIDE]
  float* ws = xs + 2 * SLICE;     // [2][STEPS][STRIDE]
  const int chain = threadIdx.x / WARP;
  const int lane = threadIdx.x % WARP;
  const int lane_m = lane / 4 * 4;
  const int lane_n = lane % 4 * 4;
  const int first_row = blockIdx.y * SIZE;
  const int first_out = blockIdx.x * SIZE;

  TileSide<F32Weight, SIZE> a(x, first_row, rows, inner, -0.f);
  TileSide<W, SIZE> b(weight, first_out, outs, inner, 0.f);
  float c[M][N] = {};
  for (int slice = -TILE_STEPS; slice < inner; slice += TILE_STEPS) {
    const int next = slice + TILE_STEPS;
    const int buffer = next / TILE_STEPS % 2;  // of the next slice; last read before the barrier
    if (next < inner) {
      a.fetch(next);
      b.fetch(next);
    }
    if (slice >= 0) {
#pragma unroll(SIZE == 64 ? 2 : 4)
      for (int s = chain; s < TILE_STEPS; s += CHAINS) {
        const int at = (1 - buffer) * SLICE + s * STRIDE;
        add_outer_product(c, Quads<M>(xs + at + lane_m, 32), Quads<N>(ws + at + lane_n, 16));
      }
    }
    if (next < inner) {
      a.store(xs + buffer * SLICE, next);
      b.store(ws + buffer * SLICE, next);
    }
    __syncthreads();
  }

  // The tree: a row of every lane at a time, all chains of an output to one thread.
  static constexpr int OWN = N / CHAINS;
  float* chains = (float*)shared;  // [CHAINS][N][WARP]
  float added[OWN];
#pragma unroll
  for (int t = 0; t < OWN; t++) {
    const int j = chain * OWN + t;
    const int o = first_out + j / 4 * 16 + lane_n + j % 4;
    added[t] = bias == nullptr || o >= outs ? 0.f : weight_at(bias, bias_type, o);
  }
#pragma unroll
  for (int i = 0; i < M; i++) {
#pragma unroll
    for (int j = 0; j < N; j++) {
      chains[(chain * N + j) * WARP + lane] = c[i][j];
    }
    __syncthreads();
    const int n = first_row + i / 4 * 32 + lane_m + i % 4;
#pragma unroll
    for (int t = 0; t < OWN; t++) {
      const int j = chain * OWN + t;
      float p[CHAINS];
#pragma unroll
      for (int q = 0; q < CHAINS; q++) {
        p[q] = chains[(q * N + j) * WARP + lane];
      }
      const float sum = ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]));
      const int o = first_out + j / 4 * 16 + lane_n + j % 4;
      if (n < rows && o < outs) {
        out[(long long)n * outs + o] = bias == nullptr ? sum : sum + added[t];
      }
    }
    __syncthreads();
  }
}

// --- product ----------------------------------------------------------------------------------------
//
//   C[m,n] (+)= sum_k A[m,k] B[k,n] + bias[n], one chain over ascending k that begins at C or 0
//
// A block computes M x N of C; four warps 64 x 32 of it each, a lane 8 x 8. Slices as in tiles.
// Limited by the F32 multiply-adds, where C has tiles enough for all multiprocessors.

static constexpr int PRODUCT_M = 128, PRODUCT_N = 64, PRODUCT_STEPS = 16, PRODUCT_THREADS = 128;

// One operand: `lines` rows of A or columns of B. ALONG_K: a line is a row of the matrix in memory and
// a step a column, otherwise a step is a row.
template <class W, bool ALONG_K, int LINES>
struct ProductSide {
  static constexpr int STRIDE = LINES + 4;
  static constexpr int SLICE = PRODUCT_STEPS * STRIDE;
  static constexpr int QUADS = LINES * PRODUCT_STEPS / 4 / PRODUCT_THREADS;
  const unsigned char* matrix;
  int first, lines, steps;
  float beyond;
  bool wide;
  typename W::Quad quad[QUADS];

  __device__ __forceinline__ ProductSide(
      const void* matrix, int first, int lines, int steps, float beyond)
      : matrix((const unsigned char*)matrix),
        first(first),
        lines(lines),
        steps(steps),
        beyond(beyond),
        wide(has_wide_rows<W>(matrix, ALONG_K ? steps : lines)) {}

  // The first line and step of quad q of this thread. Along k a warp takes 16 lines and two
  // neighbouring quads of each, otherwise neighbouring quads.
  static __device__ __forceinline__ int line(int q) {
    const int unit = q * (PRODUCT_THREADS / WARP) + threadIdx.x / WARP;
    return ALONG_K ? unit % (LINES / 16) * 16 + threadIdx.x % WARP / 2
                   : (q * PRODUCT_THREADS + threadIdx.x) % (LINES / 4) * 4;
  }
  static __device__ __forceinline__ int step(int q) {
    const int unit = q * (PRODUCT_THREADS / WARP) + threadIdx.x / WARP;
    return ALONG_K ? unit / (LINES / 16) * 8 + threadIdx.x % 2 * 4
                   : (q * PRODUCT_THREADS + threadIdx.x) / (LINES / 4);
  }

  __device__ __forceinline__ void fetch(int slice) {
#pragma unroll
    for (int q = 0; q < QUADS; q++) {
      const int l = first + line(q);
      const int k = slice + step(q);
      const int columns = ALONG_K ? steps : lines;
      const long long row = ALONG_K ? min(l, lines - 1) : min(k, steps - 1);
      quad[q] = W::fetch(matrix + row * row_bytes<W>(columns), ALONG_K ? k : l, columns, wide);
    }
  }

  __device__ __forceinline__ void store(float* to, int slice) const {
#pragma unroll
    for (int q = 0; q < QUADS; q++) {
      float values[4];
      W::decode(values, quad[q]);
      Pack<float, 4> run;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int k = step(q) + (ALONG_K ? i : 0);
        const float value = slice + k < steps ? values[i] : beyond;
        if (ALONG_K) {
          to[k * STRIDE + line(q)] = value;
        } else {
          run.at[i] = value;
        }
      }
      if (!ALONG_K) {
        *(Pack<float, 4>*)(to + step(q) * STRIDE + line(q)) = run;
      }
    }
  }
};

template <class WA, bool A_ALONG_K, class WB, bool B_ALONG_K>
__device__ __forceinline__ void product(
    float* __restrict__ out, const void* __restrict__ a, const void* __restrict__ b,
    const void* __restrict__ bias, int bias_type, int m, int n, int steps, bool add) {
  typedef ProductSide<WA, A_ALONG_K, PRODUCT_M> A;
  typedef ProductSide<WB, B_ALONG_K, PRODUCT_N> B;
  SHARED_MEMORY(shared);
  float* as = (float*)shared;      // [2][STEPS][A::STRIDE]
  float* bs = as + 2 * A::SLICE;   // [2][STEPS][B::STRIDE]
  const int warp = threadIdx.x / WARP;
  const int lane = threadIdx.x % WARP;
  const int lane_m = warp / 2 * 64 + lane / 4 * 4;
  const int lane_n = warp % 2 * 32 + lane % 4 * 4;
  const int first_m = blockIdx.y * PRODUCT_M;
  const int first_n = blockIdx.x * PRODUCT_N;


  float c[8][8] = {};
  if (add) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const float* row = out + (long long)min(first_m + lane_m + i / 4 * 32 + i % 4, m - 1) * n;
#pragma unroll
      for (int j = 0; j < 8; j++) {
        c[i][j] = row[min(first_n + lane_n + j / 4 * 16 + j % 4, n - 1)];
      }
    }
  }
  A left(a, first_m, m, steps, -0.f);
  B right(b, first_n, n, steps, 0.f);
  for (int slice = -PRODUCT_STEPS; slice < steps; slice += PRODUCT_STEPS) {
    const int next = slice + PRODUCT_STEPS;
    const int buffer = next / PRODUCT_STEPS % 2;  // of the next slice; last read before the barrier
    if (next < steps) {
      left.fetch(next);
      right.fetch(next);
    }
    if (slice >= 0) {
      const float* av = as + (1 - buffer) * A::SLICE + lane_m;
      const float* bv = bs + (1 - buffer) * B::SLICE + lane_n;
      for (int k = 0; k < min(PRODUCT_STEPS, steps - slice); k += 4) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          add_outer_product(
              c, Quads<8>(av + (k + i) * A::STRIDE, 32), Quads<8>(bv + (k + i) * B::STRIDE, 16));
        }
      }
    }
    if (next < steps) {
      left.store(as + buffer * A::SLICE, next);
      right.store(bs + buffer * B::SLICE, next);
    }
    __syncthreads();
  }

  float added[8];
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const int column = min(first_n + lane_n + j / 4 * 16 + j % 4, n - 1);
    added[j] = bias == nullptr ? 0.f : weight_at(bias, bias_type, column);
  }
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const int line = first_m + lane_m + i / 4 * 32 + i % 4;
    float* row = out + (long long)line * n + first_n + lane_n;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const int column = j / 4 * 16 + j % 4;
      if (line < m && first_n + lane_n + column < n) {
        row[column] = bias == nullptr ? c[i][j] : c[i][j] + added[j];
      }
    }
  }
}

// --- entries ----------------------------------------------------------------------------------------

#define MATMUL_PARAMETERS(TO, T)                                                                  \
  TO *out, const T *x, const unsigned char *weight, const void *bias, int bias_type, int rows,    \
      int inner, int outs

// few_rows and each_output for activations in F32.
#define MATMUL_FEW(type, W)                                                                       \
  MATMUL_FEW_ROWS(type, W, 1)                                                                     \
  MATMUL_FEW_ROWS(type, W, 4)                                                                     \
  MATMUL_FEW_ROWS(type, W, 8)                                                                     \
  MATMUL_EACH(f32, float, type, W)

#define MATMUL_FEW_ROWS(type, W, ROWS)                                                            \
  extern "C" __global__ void __launch_bounds__(128, 3)                                            \
      matmul_few##ROWS##_##type##_f32(MATMUL_PARAMETERS(void, float), int out_type) {             \
    few_rows<W, ROWS>(out, out_type, x, weight, bias, bias_type, rows, inner, outs);              \
  }                                                                                               \
  EXPORT_KERNEL(matmul_few##ROWS##_##type##_f32)

#define MATMUL_EACH(act, T, type, W)                                                              \
  extern "C" __global__ void __launch_bounds__(128, 3)                                            \
      matmul_each_##type##_##act(MATMUL_PARAMETERS(void, T), int out_type, int chains) {          \
    each_output<T, W>(out, out_type, x, weight, bias, bias_type, inner, outs, chains);            \
  }                                                                                               \
  EXPORT_KERNEL(matmul_each_##type##_##act)

// tiles, which are for activations in F32.
#define MATMUL_TILES(type, W, SIZE, BLOCKS)                                                       \
  extern "C" __global__ void __launch_bounds__(TILE_THREADS, BLOCKS)                              \
      matmul_tiles##SIZE##_##type##_f32(MATMUL_PARAMETERS(float, float)) {                        \
    tiles<W, SIZE>(out, x, weight, bias, bias_type, rows, inner, outs);                           \
  }                                                                                               \
  EXPORT_KERNEL(matmul_tiles##SIZE##_##type##_f32)
