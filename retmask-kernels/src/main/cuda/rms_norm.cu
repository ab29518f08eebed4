// Root-mean-square norm (Zhang and Sennrich 2019) over rows of [R,W]: rstd = 1 / sqrt(mean(x^2) + eps),
// out = x rstd weight; also of x = a + b. Limited by memory: a row is read once.
//
// A team works on a row: 1 to 32 neighbouring lanes of a warp, or a whole block where rows are long.
// Thread t takes the packs t, t + team, ...: the order of a sum depends on the row's length alone,
// however the row is read.
#include "norm.cuh"

// --- forward ----------------------------------------------------------------------------------------

// Packs that a thread keeps in registers between the sum and its use: of one row, or one each of as
// many short rows. Very long rows and rows of odd length are read twice.
static constexpr int HELD = 4;

// The rows of a call. Where ADDS, x is a + b, rounded as `sum` stores it, which may be a or b.
template <class T, bool ADDS>
struct NormRows {
  T* out;
  float* rstd;
  T* sum;
  const T* a;
  const T* b;
  const void* weight;
  int type;
  long long rows;
  int width;
  float eps;

  __device__ __forceinline__ bool wide() const {
    return width % PACK<T> == 0 && is_wide(out, a, weight) && (!ADDS || is_wide(sum, b));
  }

  // Elements [at, at + N) of a row, the sum of which is stored.
  template <int N>
  __device__ __forceinline__ Pack<T, N> load(long long row, int at, bool wide_row) const {
    Pack<T, N> x = load_pack<N>(a + row * width, at, width, wide_row);
    if (ADDS) {
      const Pack<T, N> y = load_pack<N>(b + row * width, at, width, wide_row);
#pragma unroll
      for (int i = 0; i < N; i++) {
        x.at[i] = from_float<T>(to_float(x.at[i]) + to_float(y.at[i]));
      }
      store_pack(sum + row * width, at, width, wide_row, x);
    }
    return x;
  }

  __device__ __forceinline__ float scale(float squares) const {
    return reciprocal_root(squares, width, eps);
  }
};

// Packs of wide rows as words: x, or a and b until they are added.
template <class T, bool ADDS>
struct HeldPack {
  uint4 x;
  uint4 y;

  __device__ __forceinline__ void load(const NormRows<T, ADDS>& r, long long p) {
    x = ((const uint4*)r.a)[p];
    if (ADDS) {
      y = ((const uint4*)r.b)[p];
    }
  }

  // Adds the squares, after the sum of a and b has been stored.
  __device__ __forceinline__ float add_squares_to(
      float squares, const NormRows<T, ADDS>& r, long long p) {
    if (ADDS) {
      Pack<T, PACK<T>> u = elements<T>(x);
      const Pack<T, PACK<T>> v = elements<T>(y);
#pragma unroll
      for (int i = 0; i < PACK<T>; i++) {
        u.at[i] = from_float<T>(to_float(u.at[i]) + to_float(v.at[i]));
      }
      x = words(u);
      ((uint4*)r.sum)[p] = x;
    }
    return add_squares(squares, elements<T>(x));
  }
};

// Rows of at most one pack for each thread, HELD of them at once: row, row + step, ...
template <class T, bool ADDS>
__device__ __forceinline__ void norm_short_rows(
    const NormRows<T, ADDS>& r, long long row, int step, int lane, int team) {
  constexpr int N = PACK<T>;
  const int packs = r.width / N;
  HeldPack<T, ADDS> held[HELD];
#pragma unroll
  for (int k = 0; k < HELD; k++) {
    if (row + k * step < r.rows && lane < packs) {
      held[k].load(r, (row + k * step) * packs + lane);
    }
  }
  float sums[HELD];
#pragma unroll
  for (int k = 0; k < HELD; k++) {
    sums[k] = 0;
    if (row + k * step < r.rows && lane < packs) {
      sums[k] = held[k].add_squares_to(0.f, r, (row + k * step) * packs + lane);
    }
  }
#pragma unroll
  for (int k = 0; k < HELD; k++) {
    sums[k] = team_sum(sums[k], team, nullptr, 0);
  }
  if (lane >= packs) {
    return;
  }
  const Pack<float, N> w = load_weights<N>(r.weight, r.type, lane * N, r.width, true);
#pragma unroll
  for (int k = 0; k < HELD; k++) {
    if (row + k * step < r.rows) {
      const float scale = r.scale(sums[k]);
      ((uint4*)r.out)[(row + k * step) * packs + lane] =
          words(scaled(elements<T>(held[k].x), scale, w));
      if (lane == 0) {
        r.rstd[row + k * step] = scale;
      }
    }
  }
}

// A row of at most HELD packs for each thread.
template <class T, bool ADDS>
__device__ __forceinline__ void norm_row(
    const NormRows<T, ADDS>& r, long long row, int lane, int team, float* parts) {
  constexpr int N = PACK<T>;
  const int packs = row < r.rows ? r.width / N : 0;
  const long long first = row * (r.width / N);
  HeldPack<T, ADDS> held[HELD];
#pragma unroll
  for (int k = 0; k < HELD; k++) {
    if (lane + k * team < packs) {
      held[k].load(r, first + lane + k * team);
    }
  }
  float squares = 0;
#pragma unroll
  for (int k = 0; k < HELD; k++) {
    if (lane + k * team < packs) {
      squares = held[k].add_squares_to(squares, r, first + lane + k * team);
    }
  }
  const float scale = r.scale(team_sum(squares, team, parts, 0));
#pragma unroll
  for (int k = 0; k < HELD; k++) {
    const int p = lane + k * team;
    if (p < packs) {
      const Pack<float, N> w = load_weights<N>(r.weight, r.type, p * N, r.width, true);
      ((uint4*)r.out)[first + p] = words(scaled(elements<T>(held[k].x), scale, w));
    }
  }
  if (lane == 0 && row < r.rows) {
    r.rstd[row] = scale;
  }
}

// Rows of any length and alignment: row, row + step, ...
template <class T, bool ADDS>
__device__ __forceinline__ void norm_any_rows(
    const NormRows<T, ADDS>& r,
    long long row,
    int step,
    int rounds,
    int lane,
    int team,
    float* parts) {
  constexpr int N = PACK<T>;
  const bool wide = r.wide();
  const T* xs = ADDS ? r.sum : r.a;
  for (int k = 0; k < rounds; k++, row += step) {
    const int end = row < r.rows ? r.width : 0;
    float squares = 0;
#pragma unroll 1
    for (int at = lane * N; at < end; at += team * N) {
      squares = add_squares(squares, r.template load<N>(row, at, wide));
    }
    const float scale = r.scale(team_sum(squares, team, parts, k));
#pragma unroll 1
    for (int at = lane * N; at < end; at += team * N) {
      const Pack<T, N> x = load_pack<N>(xs + row * r.width, at, r.width, wide);
      const Pack<float, N> w = load_weights<N>(r.weight, r.type, at, r.width, wide);
      store_pack(r.out + row * r.width, at, r.width, wide, scaled(x, scale, w));
    }
    if (lane == 0 && row < r.rows) {
      r.rstd[row] = scale;
    }
  }
}

// Each team takes `rounds` rows of its block: HELD where a row has at most a pack for each thread, else
// one.
template <class T, bool ADDS>
__device__ __forceinline__ void norm(const NormRows<T, ADDS>& r, int team, int rounds) {
  SHARED_MEMORY(shared);
  const int teams = blockDim.x / team;
  const int lane = threadIdx.x % team;
  const long long first = (long long)blockIdx.x * teams * rounds + threadIdx.x / team;
  const bool wide = r.wide();
  if (wide && rounds == HELD) {
    norm_short_rows(r, first, teams, lane, team);
  } else if (wide && r.width <= HELD * PACK<T> * team) {
    norm_row(r, first, lane, team, (float*)shared);
  } else {
    norm_any_rows(r, first, teams, rounds, lane, team, (float*)shared);
  }
}

template <class T>
__device__ __forceinline__ void rms_norm(
    T* out,
    float* rstd,
    const T* x,
    const void* weight,
    int type,
    long long rows,
    int width,
    float eps,
    int team,
    int rounds) {
  norm(
      NormRows<T, false>{out, rstd, nullptr, x, nullptr, weight, type, rows, width, eps}, team,
      rounds);
}

// sum = a + b, out its norm.
template <class T>
__device__ __forceinline__ void add_rms_norm(
    T* out,
    float* rstd,
    T* sum,
    const T* a,
    const T* b,
    const void* weight,
    int type,
    long long rows,
    int width,
    float eps,
    int team,
    int rounds) {
  norm(NormRows<T, true>{out, rstd, sum, a, b, weight, type, rows, width, eps}, team, rounds);
}

extern "C" __global__ void __launch_bounds__(512, 2) rms_norm_f32(
    float* out,
    float* rstd,
    const float* x,
    const void* weight,
    int type,
    long long rows,
    int width,
    float eps,
    int team,
    int rounds) {
  rms_norm(out, rstd, x, weight, type, rows, width, eps, team, rounds);
}
EXPORT_KERNEL(rms_norm_f32)

extern "C" __global__ void __launch_bounds__(512, 2) rms_norm_bf16(
    bf16* out,
    float* rstd,
    const bf16* x,
    const void* weight,
    int type,
    long long rows,
    int width,
    float eps,
    int team,
    int rounds) {
  rms_norm(out, rstd, x, weight, type, rows, width, eps, team, rounds);
}
EXPORT_KERNEL(rms_norm_bf16)

extern "C" __global__ void __launch_bounds__(512) add_rms_norm_f32(
    float* out,
    float* rstd,
    float* sum,
    const float* a,
    const float* b,
    const void* weight,
    int type,
    long long rows,
    int width,
    float eps,
    int team,
    int rounds) {
  add_rms_norm(out, rstd, sum, a, b, weight, type, rows, width, eps, team, rounds);
}
EXPORT_KERNEL(add_rms_norm_f32)

extern "C" __global__ void __launch_bounds__(512) add_rms_norm_bf16(
    bf16* out,
    float* rstd,
    bf16* sum,
    const bf16* a,
    const bf16* b,
    const void* weight,
    int type,
    long long rows,
    int width,
    float eps,
    int team,
    int rounds) {
  add_rms_norm(out, rstd, sum, a, b, weight, type, rows, width, eps, team, rounds);
}
EXPORT_KERNEL(add_rms_norm_bf16)

// --- backward ---------------------------------------------------------------------------------------
// With g = dOut weight: dx (+)= rstd (g - x rstd^2 mean(g x)), dWeight += sum over rows of dOut x rstd.
//
// Block b walks through rows [b chunk, (b + 1) chunk), its teams in turn. A thread always has the same
// columns and sums the weight's gradient of its rows; the teams of a block add theirs into
// partial[b,:], and a second kernel adds the blocks. Two forms with the same order of sums: one lets
// the next rows come into shared memory while it works on one, and keeps the sums in registers; the
// other, for rows of odd length or very long ones, reads rows twice and keeps the sums in memory.

// Packs of x and of dOut of a row that a thread of the first form takes, eight elements of either type;
// and rows that are in shared memory.
template <class T>
static constexpr int HELD_BACKWARD = 8 / PACK<T>;
template <class T>
static constexpr int STAGES = sizeof(T) == 2 ? 3 : 2;

// One pack of one row: g . x is added to `dot`.
template <class T, int N>
__device__ __forceinline__ float add_products(
    float dot, const Pack<T, N>& d, const Pack<T, N>& x, const Pack<float, N>& w) {
#pragma unroll
  for (int i = 0; i < N; i++) {
    dot = fmaf(to_float(d.at[i]) * w.at[i], to_float(x.at[i]), dot);
  }
  return dot;
}

// dx = rstd (g + x factor), and dOut x rstd onto the weight's gradient.
template <class T, int N>
__device__ __forceinline__ Pack<float, N> gradient(
    Pack<float, N>& weight_sum,
    const Pack<T, N>& d,
    const Pack<T, N>& x,
    const Pack<float, N>& w,
    float rstd,
    float factor) {
  Pack<float, N> dx;
#pragma unroll
  for (int i = 0; i < N; i++) {
    const float dy = to_float(d.at[i]);
    const float value = to_float(x.at[i]);
    weight_sum.at[i] = fmaf(dy, value * rstd, weight_sum.at[i]);
    dx.at[i] = fmaf(value, factor, dy * w.at[i]) * rstd;
  }
  return dx;
}

// Sets dx or adds to it.
template <class T, int N>
__device__ __forceinline__ void store_gradient(
    T* dx, int at, int width, bool wide, Pack<float, N> value, bool into) {
  if (into) {
    const Pack<T, N> before = load_pack<N>(dx, at, width, wide);
#pragma unroll
    for (int i = 0; i < N; i++) {
      value.at[i] += to_float(before.at[i]);
    }
  }
  store_pack(dx, at, width, wide, rounded<T>(value));
}

// The rows of a block and where a team sums dOut x rstd.
template <class T>
struct BackwardRows {
  T* __restrict__ dx;
  const T* __restrict__ d_out;
  const T* __restrict__ x;
  const float* __restrict__ rstd;
  const void* __restrict__ weight;
  int type;
  int width;
  bool into_dx;
  int team;
  long long start;
  long long end;
  float* sums;
};

// Begins the copy of this thread's packs of a row, if there is such a row: x, then dOut, to
// stage[0], stage[threads], ... A group of copies ends in any case.
template <class T>
__device__ __forceinline__ void begin_row(
    const BackwardRows<T>& b, uint4* stage, long long row, int lane) {
  const int packs = b.width / PACK<T>;
  if (row < b.end) {
#pragma unroll
    for (int k = 0; k < HELD_BACKWARD<T>; k++) {
      const long long p = row * packs + lane + k * b.team;
      if (lane + k * b.team < packs) {
        copy_async16(stage + 2 * k * blockDim.x, (const uint4*)b.x + p);
        copy_async16(stage + (2 * k + 1) * blockDim.x, (const uint4*)b.d_out + p);
      }
    }
  }
  copy_async_commit();
}

// A thread copies and reads its own packs only, so no barrier guards the stages.
template <class T>
__device__ __forceinline__ void backward_in_stages(
    const BackwardRows<T>& b, float* shared, uint4* stages) {
  constexpr int N = PACK<T>;
  constexpr int HELD_PACKS = HELD_BACKWARD<T>;
  const int teams = blockDim.x / b.team;
  const int lane = threadIdx.x % b.team;
  const int packs = b.width / N;
  const long long own = b.start + threadIdx.x / b.team;  // this team's first row
  const int stage_packs = 2 * HELD_PACKS * blockDim.x;
  uint4* mine = stages + threadIdx.x;
#pragma unroll
  for (int s = 0; s < STAGES<T> - 1; s++) {
    begin_row(b, mine + s * stage_packs, own + s * teams, lane);
  }
  Pack<float, N> sums[HELD_PACKS] = {};
  int turn = 0;
  for (long long row = own; row - threadIdx.x / b.team < b.end; row += teams) {
    copy_async_wait<STAGES<T> - 2>();
    const uint4* stage = mine + turn % STAGES<T> * stage_packs;
    begin_row(
        b, mine + (turn + STAGES<T> - 1) % STAGES<T> * stage_packs,
        row + (STAGES<T> - 1) * teams, lane);
    const int of_row = row < b.end ? packs : 0;
    const float scale = row < b.end ? b.rstd[row] : 0.f;
    float dot = 0;
#pragma unroll
    for (int k = 0; k < HELD_PACKS; k++) {
      const int p = lane + k * b.team;
      if (p < of_row) {
        const Pack<T, N> x = elements<T>(stage[2 * k * blockDim.x]);
        const Pack<T, N> d = elements<T>(stage[(2 * k + 1) * blockDim.x]);
        const Pack<float, N> w = load_weights<N>(b.weight, b.type, p * N, b.width, true);
        dot = add_products(dot, d, x, w);
      }
    }
    const float mean = team_sum(dot, b.team, shared, turn) / (float)b.width;
    const float factor = -scale * scale * mean;
#pragma unroll
    for (int k = 0; k < HELD_PACKS; k++) {
      const int p = lane + k * b.team;
      if (p < of_row) {
        const Pack<T, N> x = elements<T>(stage[2 * k * blockDim.x]);
        const Pack<T, N> d = elements<T>(stage[(2 * k + 1) * blockDim.x]);
        const Pack<float, N> w = load_weights<N>(b.weight, b.type, p * N, b.width, true);
        const Pack<float, N> value = gradient(sums[k], d, x, w, scale, factor);
        store_gradient(b.dx + row * b.width, p * N, b.width, true, value, b.into_dx);
      }
    }
    turn++;
  }
  copy_async_wait<0>();
#pragma unroll
  for (int k = 0; k < HELD_PACKS; k++) {
    const int p = lane + k * b.team;
    if (p < packs) {
      store_pack(b.sums, p * N, b.width, is_wide(b.sums), sums[k]);
    }
  }
}

template <class T>
__device__ __forceinline__ void backward_in_memory(const BackwardRows<T>& b, float* shared) {
  constexpr int N = PACK<T>;
  const int teams = blockDim.x / b.team;
  const int lane = threadIdx.x % b.team;
  for (int p = lane; p * N < b.width; p += b.team) {
    store_pack(b.sums, p * N, b.width, false, Pack<float, N>());
  }
  int turn = 0;
  for (long long first = b.start; first < b.end; first += teams) {
    const long long row = first + threadIdx.x / b.team;
    const int mine = row < b.end ? b.width : 0;
    const T* x = b.x + row * b.width;
    const T* d = b.d_out + row * b.width;
    const bool wide = is_wide(x, d, b.dx + row * b.width) && is_wide(b.weight);
    const float scale = row < b.end ? b.rstd[row] : 0.f;
    float dot = 0;
#pragma unroll 1
    for (int at = lane * N; at < mine; at += b.team * N) {
      const Pack<float, N> w = load_weights<N>(b.weight, b.type, at, b.width, wide);
      dot = add_products(
          dot, load_pack<N>(d, at, b.width, wide), load_pack<N>(x, at, b.width, wide), w);
    }
    const float mean = team_sum(dot, b.team, shared, turn++) / (float)b.width;
    const float factor = -scale * scale * mean;
#pragma unroll 1
    for (int at = lane * N; at < mine; at += b.team * N) {
      const Pack<float, N> w = load_weights<N>(b.weight, b.type, at, b.width, wide);
      Pack<float, N> sum = load_pack<N>(b.sums, at, b.width, false);
      const Pack<float, N> value = gradient(
          sum, load_pack<N>(d, at, b.width, wide), load_pack<N>(x, at, b.width, wide), w, scale,
          factor);
      store_pack(b.sums, at, b.width, false, sum);
      store_gradient(b.dx + row * b.width, at, b.width, wide, value, b.into_dx);
    }
  }
}

template <class T>
__device__ __forceinline__ void rms_norm_backward(
    T* dx,
    float* partial,
    const T* d_out,
    const T* x,
    const float* rstd,
    const void* weight,
    int type,
    long long rows,
    int width,
    int into_dx,
    int team,
    long long chunk,
    int staged) {
  SHARED_MEMORY(shared);
  // [2][warps] of team_sum, or [teams][W] where teams are warps or less; then the stages.
  float* floats = (float*)shared;
  const int teams = blockDim.x / team;
  const int sums_room = teams == 1 ? 2 * blockDim.x / WARP : teams * width;
  uint4* stages = (uint4*)shared + (sums_room + 3) / 4;
  const long long start = blockIdx.x * chunk;
  float* sums = partial + (long long)blockIdx.x * width;
  const BackwardRows<T> b = {
      dx, d_out, x, rstd, weight, type, width, into_dx != 0, team, start, min(rows, start + chunk),
      teams == 1 ? sums : floats + threadIdx.x / team * width};
  if (staged && width % PACK<T> == 0 && is_wide(dx, d_out, x) && is_wide(weight)) {
    backward_in_stages(b, floats, stages);
  } else {
    backward_in_memory(b, floats);
  }
  if (teams > 1) {
    __syncthreads();
    for (int c = threadIdx.x; c < width; c += blockDim.x) {
      float sum = 0;
      for (int t = 0; t < teams; t++) {
        sum += floats[t * width + c];
      }
      sums[c] = sum;
    }
  }
}

// `staged`: a row is at most what the threads take at once, and the shared memory has room.
extern "C" __global__ void __launch_bounds__(1024) rms_norm_backward_f32(
    float* dx,
    float* partial,
    const float* d_out,
    const float* x,
    const float* rstd,
    const void* weight,
    int type,
    long long rows,
    int width,
    int into_dx,
    int team,
    long long chunk,
    int staged) {
  rms_norm_backward(
      dx, partial, d_out, x, rstd, weight, type, rows, width, into_dx, team, chunk, staged);
}
EXPORT_KERNEL(rms_norm_backward_f32)

extern "C" __global__ void __launch_bounds__(1024) rms_norm_backward_bf16(
    bf16* dx,
    float* partial,
    const bf16* d_out,
    const bf16* x,
    const float* rstd,
    const void* weight,
    int type,
    long long rows,
    int width,
    int into_dx,
    int team,
    long long chunk,
    int staged) {
  rms_norm_backward(
      dx, partial, d_out, x, rstd, weight, type, rows, width, into_dx, team, chunk, staged);
}
EXPORT_KERNEL(rms_norm_backward_bf16)

// dWeight[c] += the sum of partial[b,c] over the blocks b. A block of 32 warps takes 32 columns, warp
// w of it the rows w, w + 32, ...
__device__ __forceinline__ void add_partials(
    float* __restrict__ d_weight, const float* __restrict__ partial, int blocks, int width) {
  SHARED_MEMORY(shared);
  float* sums = (float*)shared;  // [32 warps][32 columns]
  const int lane = threadIdx.x % WARP;
  const int warp = threadIdx.x / WARP;
  const int column = blockIdx.x * WARP + lane;
  float sum = 0;
  if (column < width) {
#pragma unroll 8
    for (int b = warp; b < blocks; b += 32) {
      sum += partial[(long long)b * width + column];
    }
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  if (warp == 0 && column < width) {
    float total = d_weight[column];
#pragma unroll
    for (int w = 0; w < 32; w++) {
      total += sums[w * WARP + lane];
    }
    d_weight[column] = total;
  }
}

extern "C" __global__ void __launch_bounds__(1024)
    rms_norm_weight_gradient(float* d_weight, const float* partial, int blocks, int width) {
  add_partials(d_weight, partial, blocks, width);
}
EXPORT_KERNEL(rms_norm_weight_gradient)
