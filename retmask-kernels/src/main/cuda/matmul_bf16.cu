// Linear layer and its backward with activations in BF16, on tensor cores:
//
//   out[n,o] = sum_i x[n,i] W[o,i] + bias[o]      x [N,I], W [O,I] in BF16, out [N,O] in BF16 or F32
//   dx[n,i] (+)= sum_o dOut[n,o] W[o,i]           dOut [N,O], dx [N,I] in BF16
//   dW[o,i] += sum_n dOut[n,o] x[n,i]             dW [O,I] in F32
//
// all as C[m,n] (+)= sum_k A[m,k] B[k,n] in a fixed order over k, sums in F32, rounded once. Limited by
// the tensor cores, up to 8 rows by reading W.
#include "matmul.cuh"

// --- tiles ------------------------------------------------------------------------------------------
//
// A block computes M x N of C from slices of K steps of both operands, which asynchronous copies bring
// into a ring of STAGES in shared memory while earlier ones are multiplied. Rows there are cut into
// chunks of 16 bytes, permuted so that the eight rows that ldmatrix reads at once lie in different
// banks. A warp computes WARP_M x WARP_N by mma.m16n8k16.

template <int M_, int N_, int K_, int WARP_M_, int WARP_N_, int STAGES_>
struct Shape {
  static constexpr int M = M_, N = N_, K = K_, WARP_M = WARP_M_, WARP_N = WARP_N_;
  static constexpr int STAGES = STAGES_;
  static constexpr int THREADS = (M / WARP_M) * (N / WARP_N) * WARP;
  static constexpr int STAGE = (M + N) * K;  // elements
};

typedef Shape<128, 256, 32, 64, 64, 4> Large;
typedef Shape<128, 128, 32, 64, 64, 4> Medium;
typedef Shape<64, 64, 64, 32, 32, 4> Small;
typedef Shape<32, 32, 64, 16, 16, 8> Skinny;  // for few rows: bytes of W under way count

// One operand: LINES rows of A or columns of B. ALONG_K: a row of the matrix in memory is a line and
// its columns are steps, otherwise a row is a step.
template <int LINES, int K, bool ALONG_K, int THREADS>
struct Operand {
  static constexpr int ROWS = ALONG_K ? LINES : K;
  static constexpr int CHUNKS = (ALONG_K ? K : LINES) / 8;  // of a row
  static constexpr int COPIES = ROWS * CHUNKS / THREADS;    // of a thread
  static_assert(ROWS * CHUNKS % THREADS == 0 && (CHUNKS == 4 || CHUNKS % 8 == 0));
  const bf16* matrix;
  int first, lines, steps;
  bool wide;  // rows begin at multiples of a chunk

  __device__ __forceinline__ Operand(const bf16* matrix, int first, int lines, int steps)
      : matrix(matrix),
        first(first),
        lines(lines),
        steps(steps),
        wide((ALONG_K ? steps : lines) % 8 == 0 && is_wide(matrix)) {}

  static __device__ __forceinline__ int at(int row, int chunk) {
    return (row * CHUNKS + (chunk ^ (CHUNKS == 4 ? row / 2 % 4 : row % 8))) * 8;
  }

  // Begins the copies of the slice at `step`; zeros beyond the matrix.
  __device__ __forceinline__ void copy(bf16* to, int step) const {
    const int rows = ALONG_K ? lines : steps;
    const int columns = ALONG_K ? steps : lines;
#pragma unroll
    for (int i = 0; i < COPIES; i++) {
      const int row = (i * THREADS + threadIdx.x) / CHUNKS;
      const int chunk = threadIdx.x % CHUNKS;
      const int r = (ALONG_K ? first : step) + row;
      const int column = (ALONG_K ? step : first) + chunk * 8;
      const bool valid = r < rows && column < columns;
      const bf16* from = matrix + (valid ? (long long)r * columns + column : 0);
      if (wide) {
        copy_async16(to + at(row, chunk), from, valid);
      } else {
#pragma unroll 1
        for (int e = 0; e < 8; e++) {
          to[at(row, chunk) + e] =
              valid && column + e < columns ? from[e] : from_float<bf16>(0.f);
        }
      }
    }
  }

  // Sixteen lines from `line` on by sixteen steps: the fragment of A, rows first.
  static __device__ __forceinline__ void load_a(
      unsigned (&a)[4], const bf16* slice, int line, int step) {
    const int lane = threadIdx.x % WARP;
    if (ALONG_K) {
      load_matrix_x4(a, slice + at(line + lane % 16, step / 8 + lane / 16));
    } else {
      load_matrix_x4_transposed(
          a, slice + at(step + lane % 8 + lane / 16 * 8, line / 8 + lane / 8 % 2));
    }
  }

  // The fragments of B of lines [line, line + 8) in b[0] and b[1], of the next eight in b[2] and b[3].
  static __device__ __forceinline__ void load_b(
      unsigned (&b)[4], const bf16* slice, int line, int step) {
    const int lane = threadIdx.x % WARP;
    if (ALONG_K) {
      load_matrix_x4(b, slice + at(line + lane % 8 + lane / 16 * 8, step / 8 + lane / 8 % 2));
    } else {
      load_matrix_x4_transposed(b, slice + at(step + lane % 16, line / 8 + lane / 16));
    }
  }
};

// The tile of this block. Blocks that run together share rows and columns: eight rows of tiles are
// worked through column by column.
__device__ __forceinline__ void locate(int& tile_m, int& tile_n, int m_tiles, int n_tiles) {
  static constexpr int GROUP = 8;
  const int group = blockIdx.x / (GROUP * n_tiles);
  const int within = blockIdx.x % (GROUP * n_tiles);
  const int height = min(GROUP, m_tiles - group * GROUP);
  tile_m = group * GROUP + within % height;
  tile_n = within / height;
}

// Stores the warp's rows [row, row + ROWS) of C from shared memory, sums + bias, or adds them. A lane
// has two columns.
template <class T, int ROWS, int COLUMNS, int STRIDE>
__device__ __forceinline__ void store_rows(
    T* c, const float* sums, const float2& bias, int row, int column, int m, int n, bool add) {
  static constexpr int TOGETHER = 2 * WARP / COLUMNS;  // rows
  const int lane = threadIdx.x % WARP;
  const bool wide = n % 2 == 0 && is_wide(c);
  const int from = lane / (COLUMNS / 2);
  const float* own = sums + lane % (COLUMNS / 2) * 2;
  if (wide && column < n) {
#pragma unroll 8
    for (int i = from; i < ROWS; i += TOGETHER) {
      if (row + i < m) {
        Pack<T, 2>* to = (Pack<T, 2>*)(c + (long long)(row + i) * n + column);
        const float2 sum = *(const float2*)(own + i * STRIDE);
        const Pack<T, 2> before = add ? *to : Pack<T, 2>{};
        Pack<T, 2> pair;
        pair.at[0] = from_float<T>(to_float(before.at[0]) + (sum.x + bias.x));
        pair.at[1] = from_float<T>(to_float(before.at[1]) + (sum.y + bias.y));
        *to = pair;
      }
    }
  } else {
#pragma unroll 1
    for (int i = from; i < ROWS; i += TOGETHER) {
      for (int e = 0; e < 2; e++) {
        if (row + i < m && column + e < n) {
          T* to = c + (long long)(row + i) * n + column + e;
          const float sum = own[i * STRIDE + e] + (e == 0 ? bias.x : bias.y);
          *to = from_float<T>(add ? to_float(*to) + sum : sum);
        }
      }
    }
  }
}

template <class S, bool A_ALONG_K, bool B_ALONG_K>
__device__ __forceinline__ void tensor_product(
    void* __restrict__ out, int out_type, const bf16* __restrict__ a, const bf16* __restrict__ b,
    const void* __restrict__ bias, int bias_type, int m, int n, int steps, bool add) {
  typedef Operand<S::M, S::K, A_ALONG_K, S::THREADS> A;
  typedef Operand<S::N, S::K, B_ALONG_K, S::THREADS> B;
  static constexpr int MI = S::WARP_M / 16;
  static constexpr int NI = S::WARP_N / 8;
  SHARED_MEMORY(shared);
  bf16* ring = (bf16*)shared;  // [STAGES][A: M x K, B: N x K]
  int tile_m;
  int tile_n;
  locate(tile_m, tile_n, (m + S::M - 1) / S::M, (n + S::N - 1) / S::N);
  const A left(a, tile_m * S::M, m, steps);
  const B right(b, tile_n * S::N, n, steps);
  const int warp = threadIdx.x / WARP;
  const int warp_m = warp / (S::N / S::WARP_N) * S::WARP_M;
  const int warp_n = warp % (S::N / S::WARP_N) * S::WARP_N;
  const int slices = (steps + S::K - 1) / S::K;

  float c[MI][NI][4] = {};
#pragma unroll 1
  for (int slice = 1 - S::STAGES; slice < slices; slice++) {
    if (slice >= 0) {
      copy_async_wait<S::STAGES - 2>();
      __syncthreads();  // all see the slice, and none reads the one before any more
    }
    const int next = slice + S::STAGES - 1;
    if (next < slices) {
      bf16* stage = ring + next % S::STAGES * S::STAGE;
      left.copy(stage, next * S::K);
      right.copy(stage + S::M * S::K, next * S::K);
    }
    copy_async_commit();
    if (slice < 0) {
      continue;
    }
    const bf16* as = ring + slice % S::STAGES * S::STAGE;
    const bf16* bs = as + S::M * S::K;
#pragma unroll
    for (int step = 0; step < S::K; step += 16) {
      unsigned av[MI][4];
      unsigned bv[NI / 2][4];
#pragma unroll
      for (int i = 0; i < MI; i++) {
        A::load_a(av[i], as, warp_m + 16 * i, step);
      }
#pragma unroll
      for (int j = 0; j < NI / 2; j++) {
        B::load_b(bv[j], bs, warp_n + 16 * j, step);
      }
#pragma unroll
      for (int i = 0; i < MI; i++) {
#pragma unroll
        for (int j = 0; j < NI; j++) {
          multiply_add_bf16(c[i][j], av[i], bv[j / 2][j % 2 * 2], bv[j / 2][j % 2 * 2 + 1]);
        }
      }
    }
  }

  // Sixteen rows of the warp at a time through shared memory, so that stores are of whole rows. In a
  // fragment a lane has columns 2 (lane % 4) and the next of rows lane / 4 and lane / 4 + 8.
  static constexpr int STRIDE = S::WARP_N + 8;
  const int lane = threadIdx.x % WARP;
  const int column = tile_n * S::N + warp_n + lane % (S::WARP_N / 2) * 2;
  float2 added = make_float2(0.f, 0.f);
  if (bias != nullptr && column < n) {
    added.x = weight_at(bias, bias_type, column);
    added.y = weight_at(bias, bias_type, min(column + 1, n - 1));
  }
  float* sums = (float*)shared + warp * 16 * STRIDE;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < MI; i++) {
#pragma unroll
    for (int j = 0; j < NI; j++) {
      float* to = sums + lane / 4 * STRIDE + 8 * j + lane % 4 * 2;
      *(float2*)to = make_float2(c[i][j][0], c[i][j][1]);
      *(float2*)(to + 8 * STRIDE) = make_float2(c[i][j][2], c[i][j][3]);
    }
    __syncwarp();
    const int row = tile_m * S::M + warp_m + 16 * i;
    if (out_type == WEIGHT_BF16) {
      store_rows<bf16, 16, S::WARP_N, STRIDE>(
          (bf16*)out, sums, added, row, column, m, n, add);
    } else {
      store_rows<float, 16, S::WARP_N, STRIDE>(
          (float*)out, sums, added, row, column, m, n, add);
    }
    __syncwarp();
  }
}

// --- few rows ---------------------------------------------------------------------------------------
//
// A block computes 16 outputs of up to 8 rows, the rows and columns of one fragment of sums; its warps
// take turns at runs of 64 steps. A lane loads 16 bytes of a row of W or x at a time, whose eight steps
// are those of two fragments: both operands are cut alike, so which steps these are does not matter.
// The sums of the warps are added in order. An output's sums depend on the length of its row alone.

static constexpr int BLOCK_ROWS = 8;
static constexpr int BLOCK_OUTS = 16;
static constexpr int BLOCK_WARPS = 16;
static constexpr int TURN_STEPS = 64;

// Eight steps of a row, zeros beyond it.
__device__ __forceinline__ uint4 load_eight(const bf16* row, int step, int steps) {
  return step < steps ? *(const uint4*)(row + step) : make_uint4(0, 0, 0, 0);
}

__device__ __forceinline__ void few_rows_by_fragments(
    void* __restrict__ out, int out_type, const bf16* __restrict__ x,
    const bf16* __restrict__ weight, const void* __restrict__ bias, int bias_type, int rows,
    int inner, int outs) {
  SHARED_MEMORY(shared);
  float* sums = (float*)shared;  // [warps][8 rows][16 outputs]
  const int warp = threadIdx.x / WARP;
  const int line = threadIdx.x % WARP / 4;
  const int piece = threadIdx.x % 4 * 8;
  const int first_out = blockIdx.x * BLOCK_OUTS;
  const bf16* upper = weight + (long long)min(first_out + line, outs - 1) * inner;
  const bf16* lower = weight + (long long)min(first_out + line + 8, outs - 1) * inner;
  const bf16* own = x + (long long)min(line, rows - 1) * inner;
  const int own_steps = line < rows ? inner : 0;

  float c[4] = {};
#pragma unroll 1
  for (int turn = warp * TURN_STEPS; turn < inner; turn += BLOCK_WARPS * TURN_STEPS) {
    uint4 a[2][2];
    uint4 b[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int step = turn + half * (TURN_STEPS / 2) + piece;
      a[half][0] = load_eight(upper, step, inner);
      a[half][1] = load_eight(lower, step, inner);
      b[half] = load_eight(own, step, own_steps);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const uint4& up = a[half][0];
      const uint4& low = a[half][1];
      const unsigned front[4] = {up.x, low.x, up.y, low.y};
      const unsigned back[4] = {up.z, low.z, up.w, low.w};
      multiply_add_bf16(c, front, b[half].x, b[half].y);
      multiply_add_bf16(c, back, b[half].z, b[half].w);
    }
  }

  // A lane has two rows of outputs `line` and `line + 8`.
  float* to = sums + (warp * BLOCK_ROWS + threadIdx.x % 4 * 2) * BLOCK_OUTS + line;
  to[0] = c[0];
  to[BLOCK_OUTS] = c[1];
  to[8] = c[2];
  to[BLOCK_OUTS + 8] = c[3];
  __syncthreads();
  const int row = threadIdx.x / BLOCK_OUTS;
  const int o = first_out + threadIdx.x % BLOCK_OUTS;
  if (row < rows && o < outs) {
    float sum = sums[threadIdx.x];
#pragma unroll
    for (int w = 1; w < BLOCK_WARPS; w++) {
      sum += sums[w * BLOCK_ROWS * BLOCK_OUTS + threadIdx.x];
    }
    sum = bias == nullptr ? sum : sum + weight_at(bias, bias_type, o);
    set_output(output_at(out, out_type, (long long)row * outs + o), out_type, sum);
  }
}

// Fills the rows of out with the bias, for a product that adds to them. A thread for an output, blocks
// (row, outputs).
extern "C" __global__ void __launch_bounds__(256)
    matmul_bias_rows_bf16(void* out, int out_type, const void* bias, int bias_type, int outs) {
  const int o = blockIdx.y * blockDim.x + threadIdx.x;
  if (o < outs) {
    unsigned char* to = output_at(out, out_type, (long long)blockIdx.x * outs + o);
    set_output(to, out_type, weight_at(bias, bias_type, o));
  }
}
EXPORT_KERNEL(matmul_bias_rows_bf16)

// --- entries ----------------------------------------------------------------------------------------

#define FEW_PROJECTION(i) \
  void *out##i, const bf16 *weight##i, const void *bias##i, int bias_type##i, int outs##i

// Up to three weights for one x; blocks (outputs of the longest, weight).
extern "C" __global__ void __launch_bounds__(BLOCK_WARPS* WARP, 2) matmul_few_bf16_bf16(
    const bf16* x, int rows, int inner, int out_type, FEW_PROJECTION(0), FEW_PROJECTION(1),
    FEW_PROJECTION(2)) {
  void* out = blockIdx.y == 0 ? out0 : blockIdx.y == 1 ? out1 : out2;
  const bf16* weight = blockIdx.y == 0 ? weight0 : blockIdx.y == 1 ? weight1 : weight2;
  const void* bias = blockIdx.y == 0 ? bias0 : blockIdx.y == 1 ? bias1 : bias2;
  const int bias_type = blockIdx.y == 0 ? bias_type0 : blockIdx.y == 1 ? bias_type1 : bias_type2;
  const int outs = blockIdx.y == 0 ? outs0 : blockIdx.y == 1 ? outs1 : outs2;
  if ((int)blockIdx.x * BLOCK_OUTS < outs) {
    few_rows_by_fragments(out, out_type, x, weight, bias, bias_type, rows, inner, outs);
  }
}
EXPORT_KERNEL(matmul_few_bf16_bf16)

MATMUL_EACH(bf16, bf16, bf16, Bf16Weight)

#define MATMUL_TENSOR(name, S)                                                                    \
  extern "C" __global__ void __launch_bounds__(S::THREADS)                                        \
      matmul_##name##_bf16(MATMUL_PARAMETERS(void, bf16), int out_type) {                         \
    tensor_product<S, true, true>(                                                                \
        out, out_type, x, (const bf16*)weight, bias, bias_type, rows, outs, inner, false);        \
  }                                                                                               \
  EXPORT_KERNEL(matmul_##name##_bf16)

#define BACKWARD_TENSOR(name, S)                                                                  \
  extern "C" __global__ void __launch_bounds__(S::THREADS)                                        \
      matmul_backward_input_##name##_bf16(                                                        \
          bf16* dx, const bf16* d_out, const bf16* weight, int rows, int inner, int outs,         \
          int add) {                                                                              \
    tensor_product<S, true, false>(                                                               \
        dx, WEIGHT_BF16, d_out, weight, nullptr, 0, rows, inner, outs, add != 0);                 \
  }                                                                                               \
  EXPORT_KERNEL(matmul_backward_input_##name##_bf16)                                              \
  extern "C" __global__ void __launch_bounds__(S::THREADS)                                        \
      matmul_backward_weight_##name##_bf16(                                                       \
          float* d_weight, const bf16* d_out, const bf16* x, int rows, int inner, int outs) {     \
    tensor_product<S, false, false>(                                                              \
        d_weight, WEIGHT_F32, d_out, x, nullptr, 0, outs, inner, rows, true);                     \
  }                                                                                               \
  EXPORT_KERNEL(matmul_backward_weight_##name##_bf16)

MATMUL_TENSOR(large, Large)
MATMUL_TENSOR(medium, Medium)
MATMUL_TENSOR(small, Small)
MATMUL_TENSOR(skinny, Skinny)
BACKWARD_TENSOR(large, Large)
BACKWARD_TENSOR(medium, Medium)
BACKWARD_TENSOR(small, Small)
