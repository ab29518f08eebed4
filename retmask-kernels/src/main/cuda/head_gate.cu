// out[n,h,:] = gate[row(n),h] z[n,h,:] over [N,H,D]; a gate of 0 writes +0 whatever z holds and does
// not read it. Limited by memory. The backward of z is the same map on dOut.
#include "batch.cuh"
#include "packs.cuh"

// --- the gate ---------------------------------------------------------------------------------------
// A thread takes a pack of one head; a block takes `tokens` neighbouring tokens. out may be z: then
// intact heads are left alone.

template <class T, int N>
__device__ __forceinline__ void gate_packs(
    T* out,
    const T* z,
    const int* __restrict__ row_of,
    const PlannedHead* __restrict__ plan,
    int total,
    int heads,
    int head_dim,
    int tokens) {
  const int packs = head_dim / N;   // of a head
  const int items = heads * packs;  // of a token
  const int first = blockIdx.x * tokens;
  const int count = min(tokens, total - first) * items;
  const bool in_place = out == z;
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    const int n = first + i / items;
    const float gate = plan[(long long)row_of[n] * heads + i % items / packs].gate;
    if (in_place && gate == 1.f) {
      continue;
    }
    const long long at = ((long long)first * items + i) * N;
    Pack<T, N> pack = {};
    if (gate != 0.f) {
      pack = *(const Pack<T, N>*)(z + at);
#pragma unroll
      for (int j = 0; j < N; j++) {
        pack.at[j] = from_float<T>(to_float(pack.at[j]) * gate);
      }
    }
    *(Pack<T, N>*)(out + at) = pack;
  }
}

template <class T>
__device__ __forceinline__ void head_gate(
    T* out,
    const T* z,
    const int* row_of,
    const PlannedHead* plan,
    int total,
    int heads,
    int head_dim,
    int tokens) {
  if (head_dim % PACK<T> == 0 && is_wide(out, z)) {
    gate_packs<T, PACK<T>>(out, z, row_of, plan, total, heads, head_dim, tokens);
  } else {
    gate_packs<T, 1>(out, z, row_of, plan, total, heads, head_dim, tokens);
  }
}

extern "C" __global__ void __launch_bounds__(256) head_gate_f32(
    float* out,
    const float* z,
    const int* row_of,
    const PlannedHead* plan,
    int total,
    int heads,
    int head_dim,
    int tokens) {
  head_gate(out, z, row_of, plan, total, heads, head_dim, tokens);
}
EXPORT_KERNEL(head_gate_f32)

extern "C" __global__ void __launch_bounds__(256) head_gate_bf16(
    bf16* out,
    const bf16* z,
    const int* row_of,
    const PlannedHead* plan,
    int total,
    int heads,
    int head_dim,
    int tokens) {
  head_gate(out, z, row_of, plan, total, heads, head_dim, tokens);
}
EXPORT_KERNEL(head_gate_bf16)

// --- backward with the gate's gradient --------------------------------------------------------------
// dz = gate dOut, dGates[r,h] += sum over the row's tokens of dOut . z.
//
// A block takes a tile of up to TILE tokens of one row, each warp of it one head: lanes sum the
// products of every 32nd pack of the tile in ascending order, then a tree. The sums of tiles are added
// by a second kernel. Tiles begin at the row's start, so the order depends on the row alone.

static constexpr int TILE = 32;

// Where the sums of a row's tiles begin, [tiles,H]: rows share the room without counting tiles.
__device__ __forceinline__ long long first_tile(const BatchRow* rows, int row) {
  return rows[row].token_start / TILE + row;
}

template <class T>
__device__ __forceinline__ void head_gate_backward(
    T* dz,
    float* __restrict__ partial,
    const T* d_out,
    const T* __restrict__ z,
    const BatchRow* __restrict__ rows,
    const TokenTile* __restrict__ tiles,
    const PlannedHead* __restrict__ plan,
    int heads,
    int head_dim) {
  constexpr int N = PACK<T>;
  const int h = blockIdx.y * (blockDim.x / WARP) + threadIdx.x / WARP;
  if (h >= heads) {
    return;
  }
  const TokenTile tile = tiles[blockIdx.x];
  const BatchRow row = rows[tile.row];
  const int first = row.token_start + tile.first;
  const int count = min(TILE, row.length - tile.first);
  const int packs = (head_dim + N - 1) / N;  // of a head
  const bool wide = head_dim % N == 0 && is_wide(dz, d_out, z);
  const float gate = plan[(long long)tile.row * heads + h].gate;
  const int lane = threadIdx.x % WARP;
  float sum = 0;
#pragma unroll 2
  for (int i = lane; i < count * packs; i += WARP) {
    const long long start = ((long long)(first + i / packs) * heads + h) * head_dim;
    const int at = i % packs * N;
    Pack<T, N> d = load_pack<N>(d_out + start, at, head_dim, wide);
    const Pack<T, N> value = load_pack<N>(z + start, at, head_dim, wide);
#pragma unroll
    for (int j = 0; j < N; j++) {
      sum = fmaf(to_float(d.at[j]), to_float(value.at[j]), sum);
      d.at[j] = gate == 0.f ? T() : from_float<T>(to_float(d.at[j]) * gate);
    }
    store_pack(dz + start, at, head_dim, wide, d);
  }
  sum = warp_sum(sum);
  if (lane == 0) {
    partial[(first_tile(rows, tile.row) + tile.first / TILE) * heads + h] = sum;
  }
}

extern "C" __global__ void __launch_bounds__(256) head_gate_backward_f32(
    float* dz,
    float* partial,
    const float* d_out,
    const float* z,
    const BatchRow* rows,
    const TokenTile* tiles,
    const PlannedHead* plan,
    int heads,
    int head_dim) {
  head_gate_backward(dz, partial, d_out, z, rows, tiles, plan, heads, head_dim);
}
EXPORT_KERNEL(head_gate_backward_f32)

extern "C" __global__ void __launch_bounds__(256) head_gate_backward_bf16(
    bf16* dz,
    float* partial,
    const bf16* d_out,
    const bf16* z,
    const BatchRow* rows,
    const TokenTile* tiles,
    const PlannedHead* plan,
    int heads,
    int head_dim) {
  head_gate_backward(dz, partial, d_out, z, rows, tiles, plan, heads, head_dim);
}
EXPORT_KERNEL(head_gate_backward_bf16)

// One warp adds the tiles of one row and head.
extern "C" __global__ void __launch_bounds__(256) head_gate_gradient(
    float* d_gates, const float* partial, const BatchRow* rows, int heads) {
  const int row = blockIdx.x;
  const int h = blockIdx.y * (blockDim.x / WARP) + threadIdx.x / WARP;
  if (h >= heads) {
    return;
  }
  const int lane = threadIdx.x % WARP;
  const int tiles = (rows[row].length + TILE - 1) / TILE;
  const long long start = first_tile(rows, row);
  float sum = 0;
  for (int t = lane; t < tiles; t += WARP) {
    sum += partial[(start + t) * heads + h];
  }
  sum = warp_sum(sum);
  if (lane == 0) {
    d_gates[(long long)row * heads + h] += sum;
  }
}
EXPORT_KERNEL(head_gate_gradient)
