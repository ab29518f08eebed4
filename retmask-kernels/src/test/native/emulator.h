// Runs the kernels of src/main/cuda on the processor, for tests: what a kernel may use of CUDA C++,
// as plain C++. device.cuh includes this file where RETMASK_EMULATED is defined.
//
// A block runs on one host thread, one fiber for each of its threads that has to wait; a kernel
// without barriers is a loop over its threads. Within a block, threads run one after another, each to
// its next barrier or warp operation, in an order that can be chosen (ascending, descending, random),
// and so can the moment at which asynchronous copies land (at once, or late: at the wait for them).
// A kernel is free of races as far as this shows it when its bits are the same in all of them.
//
// Found on the way, each with the kernel, block, thread and line: barriers and warp operations that
// some thread of the block or mask never reaches, lanes that meet in different warp operations,
// shuffles from lanes that take no part, accesses outside of device memory (a page that faults follows
// each allocation), past the end of shared memory, past the end of an array, or not aligned to their
// type, and what was written right before shared memory. That holds NaN or huge numbers until written.
//
// Not shown: races between warp operations of one warp, blocks that wait for each other, missing
// fences, bank conflicts, coalescing, occupancy; the last bits of approximate functions and the order
// of sums in a tensor core.
#pragma once
#ifdef __FMA__
#include <immintrin.h>
#endif
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static_assert(false, "shared memory goes through SHARED_MEMORY(name)");

// --- vector types -----------------------------------------------------------------------------------

#define EMULATOR_VECTORS(type, name)                                                  \
  struct alignas(2 * sizeof(type)) name##2 {                                          \
    type x, y;                                                                        \
  };                                                                                  \
  struct name##3 {                                                                    \
    type x, y, z;                                                                     \
  };                                                                                  \
  struct alignas(sizeof(type) > 4 ? 16 : 4 * sizeof(type)) name##4 {                  \
    type x, y, z, w;                                                                  \
  };                                                                                  \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }                    \
  inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }         \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EMULATOR_VECTORS(float, float)
EMULATOR_VECTORS(double, double)
EMULATOR_VECTORS(signed char, char)
EMULATOR_VECTORS(unsigned char, uchar)
EMULATOR_VECTORS(short, short)
EMULATOR_VECTORS(unsigned short, ushort)
EMULATOR_VECTORS(int, int)
EMULATOR_VECTORS(unsigned, uint)
EMULATOR_VECTORS(long long, longlong)
EMULATOR_VECTORS(unsigned long long, ulonglong)
#undef EMULATOR_VECTORS

// --- 16-bit floats ----------------------------------------------------------------------------------

inline float __uint_as_float(unsigned bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}
inline float __int_as_float(int bits) { return __uint_as_float((unsigned)bits); }
inline unsigned __float_as_uint(float f) {
  unsigned bits;
  std::memcpy(&bits, &f, 4);
  return bits;
}
inline int __float_as_int(float f) { return (int)__float_as_uint(f); }

struct __nv_bfloat16 {
  uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
struct __half {
  _Float16 value;
};
struct alignas(4) __half2 {
  __half x, y;
};

inline float __bfloat162float(__nv_bfloat16 b) { return __uint_as_float((unsigned)b.bits << 16); }
inline __nv_bfloat16 __float2bfloat16_rn(float f) {
  const unsigned bits = __float_as_uint(f);
  if (f != f) {
    return {0x7fff};
  }
  return {(uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
inline __nv_bfloat16 __float2bfloat16(float f) { return __float2bfloat16_rn(f); }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return __floats2bfloat162_rn(v.x, v.y); }
inline float2 __bfloat1622float2(__nv_bfloat162 v) {
  return {__bfloat162float(v.x), __bfloat162float(v.y)};
}
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return {bits}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 b) { return b.bits; }

inline float __half2float(__half h) { return (float)h.value; }
inline __half __float2half_rn(float f) { return {(_Float16)f}; }
inline __half __float2half(float f) { return __float2half_rn(f); }
inline float2 __half22float2(__half2 v) { return {__half2float(v.x), __half2float(v.y)}; }
inline __half2 __floats2half2_rn(float x, float y) {
  return {__float2half_rn(x), __float2half_rn(y)};
}
inline __half __ushort_as_half(unsigned short bits) {
  __half h;
  std::memcpy(&h, &bits, 2);
  return h;
}
inline unsigned short __half_as_ushort(__half h) {
  unsigned short bits;
  std::memcpy(&bits, &h, 2);
  return bits;
}

// --- functions that the device has and <cmath> lacks ------------------------------------------------

#define EMULATOR_MIN_MAX(type)                                      \
  inline type min(type a, type b) { return b < a ? b : a; }         \
  inline type max(type a, type b) { return a < b ? b : a; }
EMULATOR_MIN_MAX(int)
EMULATOR_MIN_MAX(unsigned)
EMULATOR_MIN_MAX(long)
EMULATOR_MIN_MAX(unsigned long)
EMULATOR_MIN_MAX(long long)
EMULATOR_MIN_MAX(unsigned long long)
#undef EMULATOR_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __int2float_rn(int i) { return (float)i; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll((unsigned long long)x); }
template <class T>
inline T __ldg(const T* p) {
  return *p;
}
template <class T>
inline T __ldcg(const T* p) {
  return *p;
}
template <class T>
inline T __ldcs(const T* p) {
  return *p;
}
template <class T>
inline void __stcg(T* p, T v) {
  *p = v;
}
template <class T>
inline void __stcs(T* p, T v) {
  *p = v;
}

// --- the machine ------------------------------------------------------------------------------------

// Kernels may come from another library than the emulator.
namespace emulator __attribute__((visibility("default"))) {

// A copy from global to shared memory that has not landed.
struct Copy {
  void* dst;
  const void* src;
  int bytes;  // of 16; zeros after them
};

static constexpr int MAX_COPIES = 512, MAX_GROUPS = 16;

// The asynchronous copies of one thread, in order of issue; group i ends before copy ends[i].
struct Copies {
  int count = 0, groups = 0;
  int ends[MAX_GROUPS];
  Copy copy[MAX_COPIES];
};

struct Thread {
  uint3 index;
  int warp, lane;
  void* context;  // where its fiber waits; null before it first ran
  int line;       // of the operation that it waits in
  bool done;
  Copies* copies;
};

// One warp operation under way, if a lane has arrived: completed by the last lane of its mask.
struct Meeting {
  unsigned mask, arrived;
  int line;
  void (*finish)(struct Warp& warp, unsigned lanes);
};

static constexpr int GIVEN = 16, TAKEN = 8, MEETINGS = 8;

// Operands and product of a tensor core: pairs of 16-bit elements, and F32.
struct Product {
  alignas(32) unsigned a[16][8];  // [i, k / 2]
  alignas(32) unsigned b[8][8];   // [k / 2, j]
  alignas(32) float c[16][8];
};

struct Warp {
  unsigned live, ready;  // lanes that have not returned; of these, those that do not wait
  Meeting meetings[MEETINGS];  // first that of all lanes
  alignas(16) unsigned char given[32][GIVEN];  // what each lane brings to a meeting
  alignas(16) unsigned char taken[32][TAKEN];  // what it takes from it
  Product product;
  alignas(16) uint16_t matrices[4][8][8];      // what load_matrix has read
};

// A block in execution.
struct Block {
  uint3 index, size, grid;
  unsigned char* shared;
  unsigned shared_bytes;
  bool eager;  // copies land at once
  Warp* warps;
};

extern __thread Thread* thread;
extern __thread Block* block;

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
// Lets other threads of the block run, until this one is ready.
void wait();
// Wakes the lanes of a meeting that all have reached, after its finish.
void complete(Warp& warp, Meeting& meeting);
void barrier(int line);
void copy_async(void* dst, const void* src, int bytes);
void copy_async_commit();
void copy_async_wait(int groups);
void multiply_bf16(Warp& warp, unsigned lanes);
void load_matrices(Warp& warp, unsigned lanes);

inline unsigned char* shared_memory() { return block->shared; }

// The meeting of the lanes of `mask`, begun or not.
inline Meeting& meeting_of(Warp& warp, unsigned mask) {
  if (mask == ~0u) {
    return warp.meetings[0];
  }
  Meeting* free = nullptr;
  for (Meeting* m = warp.meetings + 1; m < warp.meetings + MEETINGS; m++) {
    if (m->arrived == 0) {
      free = m;
    } else if (m->mask == mask) {
      return *m;
    }
  }
  if (free == nullptr) {
    fail("more than %d masks in one warp at once", MEETINGS);
  }
  return *free;
}

// This lane's part in a warp operation of `mask`: brings `given`; `finish` runs once, when all lanes
// are there, and writes what each takes.
template <class G>
inline void meet(
    unsigned mask, int line, const G& given, void (*finish)(Warp& warp, unsigned lanes)) {
  static_assert(sizeof(G) <= GIVEN);
  Thread& me = *thread;
  Warp& warp = block->warps[me.warp];
  const unsigned bit = 1u << me.lane;
  if ((mask & bit) == 0) {
    fail("line %d: lane %d is not in its own mask %08x", line, me.lane, mask);
  }
  Meeting& meeting = meeting_of(warp, mask);
  if (meeting.arrived == 0) {
    meeting.mask = mask;
    meeting.line = line;
    meeting.finish = finish;
  } else if (meeting.line != line || meeting.finish != finish) {
    fail("the warp diverged: its lanes meet in different warp operations, at lines %d and %d",
         meeting.line, line);
  }
  std::memcpy(warp.given[me.lane], &given, sizeof(G));
  meeting.arrived |= bit;
  me.line = line;
  if (meeting.arrived == (mask & warp.live)) {
    complete(warp, meeting);
  } else {
    warp.ready &= ~bit;
  }
  wait();
}

template <class T>
inline T taken() {
  static_assert(sizeof(T) <= TAKEN);
  T value;
  std::memcpy(&value, block->warps[thread->warp].taken[thread->lane], sizeof(T));
  return value;
}

struct Nothing {};
inline void finish_nothing(Warp&, unsigned) {}

template <class T>
struct Shuffled {
  T value;
  int source;
};

template <class T>
void finish_shuffle(Warp& warp, unsigned lanes) {
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    Shuffled<T> mine, source;
    std::memcpy(&mine, warp.given[lane], sizeof mine);
    if ((lanes >> mine.source & 1) == 0) {
      fail("a shuffle: lane %d reads lane %d, which takes no part", lane, mine.source);
    }
    std::memcpy(&source, warp.given[mine.source], sizeof source);
    std::memcpy(warp.taken[lane], &source.value, sizeof(T));
  }
}

template <class T>
inline T shuffle(unsigned mask, T value, int source, int line) {
  static_assert(sizeof(T) <= 8, "the device shuffles up to 8 bytes");
  meet(mask, line, Shuffled<T>{value, source}, finish_shuffle<T>);
  return taken<T>();
}

inline void finish_ballot(Warp& warp, unsigned lanes) {
  unsigned votes = 0;
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    votes |= (unsigned)(warp.given[lane][0] != 0) << lane;
  }
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    std::memcpy(warp.taken[__builtin_ctz(rest)], &votes, 4);
  }
}

// --- kernels by name ---

struct Parameter {
  int bytes;
  bool pointer, writable;
};

struct Kernel {
  const char* name;
  void (*call)(void* const* arguments);
  int parameters;
  const Parameter* parameter;
  Kernel* next;
  // Among kernels of one name, the last one made is found.
  Kernel(const char* name, void (*call)(void* const*), int parameters, const Parameter* parameter);
  ~Kernel();
  Kernel(const Kernel&) = delete;
};

template <auto K>
struct Entry;
template <class... A, void (*K)(A...)>
struct Entry<K> {
  static constexpr Parameter PARAMETERS[] = {
      {(int)sizeof(A), std::is_pointer_v<A>, !std::is_const_v<std::remove_pointer_t<A>>}...,
      {0, false, false}};

  template <size_t... I>
  static void apply(void* const* arguments, std::index_sequence<I...>) {
    K(*(std::remove_cv_t<A>*)arguments[I]...);
  }
  static void call(void* const* arguments) {
    apply(arguments, std::index_sequence_for<A...>());
  }
  static Kernel kernel(const char* name) { return {name, call, sizeof...(A), PARAMETERS}; }
};

}  // namespace emulator

#define EMULATOR_EXPORT(kernel_name) \
  static emulator::Kernel emulated_##kernel_name = \
      emulator::Entry<kernel_name>::kernel(#kernel_name);

#define threadIdx (emulator::thread->index)
#define blockIdx (emulator::block->index)
#define blockDim (emulator::block->size)
#define gridDim (emulator::block->grid)
static constexpr int warpSize = 32;

// --- barriers, fences, warp operations --------------------------------------------------------------

inline void __syncthreads(int line = __builtin_LINE()) { emulator::barrier(line); }
inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) {
  emulator::meet(mask, line, emulator::Nothing(), emulator::finish_nothing);
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() {}

// Lanes outside of the section of `width` lanes read themselves, as on the device.
template <class T>
inline T __shfl_sync(
    unsigned mask, T v, int source, int width = 32, int line = __builtin_LINE()) {
  const int lane = emulator::thread->lane;
  return emulator::shuffle(mask, v, (lane & -width) | (source & (width - 1)), line);
}
template <class T>
inline T __shfl_xor_sync(
    unsigned mask, T v, int bits, int width = 32, int line = __builtin_LINE()) {
  const int lane = emulator::thread->lane, source = lane ^ bits;
  return emulator::shuffle(mask, v, source > (lane | (width - 1)) ? lane : source, line);
}
template <class T>
inline T __shfl_down_sync(
    unsigned mask, T v, unsigned delta, int width = 32, int line = __builtin_LINE()) {
  const int lane = emulator::thread->lane, source = lane + (int)delta;
  return emulator::shuffle(mask, v, source > (lane | (width - 1)) ? lane : source, line);
}
template <class T>
inline T __shfl_up_sync(
    unsigned mask, T v, unsigned delta, int width = 32, int line = __builtin_LINE()) {
  const int lane = emulator::thread->lane, source = lane - (int)delta;
  return emulator::shuffle(mask, v, source < (lane & -width) ? lane : source, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  emulator::meet(mask, line, predicate != 0, emulator::finish_ballot);
  return emulator::taken<unsigned>();
}
inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  return __ballot_sync(mask, predicate, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  return __ballot_sync(mask, predicate == 0, line) == 0;
}

// --- atomics ----------------------------------------------------------------------------------------

template <class T>
inline T atomicAdd(T* p, T v) {
  static_assert(std::is_integral_v<T>, "sums of floats in no fixed order are not the same twice");
  return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}

// --- copies and tensor cores: the forms of device.cuh -----------------------------------------------

inline void copy_async16(void* dst, const void* src, bool valid = true) {
  emulator::copy_async(dst, src, valid ? 16 : 0);
}
inline void copy_async16_upto(void* dst, const void* src, int bytes) {
  emulator::copy_async(dst, src, bytes);
}
inline void copy_async_commit() { emulator::copy_async_commit(); }
template <int N>
inline void copy_async_wait() {
  emulator::copy_async_wait(N);
}

// Register m of a lane holds elements (i, j) and (i, j + 1) of matrix m, or (j, i) and (j + 1, i).
inline void load_matrix_x4(unsigned (&r)[4], const void* row, int line = __builtin_LINE()) {
  emulator::meet(~0u, line, row, emulator::load_matrices);
  const auto& matrices = emulator::block->warps[emulator::thread->warp].matrices;
  const int i = emulator::thread->lane / 4, j = emulator::thread->lane % 4 * 2;
  for (int m = 0; m < 4; m++) {
    std::memcpy(&r[m], &matrices[m][i][j], 4);
  }
}
inline void load_matrix_x4_transposed(
    unsigned (&r)[4], const void* row, int line = __builtin_LINE()) {
  emulator::meet(~0u, line, row, emulator::load_matrices);
  const auto& matrices = emulator::block->warps[emulator::thread->warp].matrices;
  const int i = emulator::thread->lane / 4, j = emulator::thread->lane % 4 * 2;
  for (int m = 0; m < 4; m++) {
    r[m] = matrices[m][j][i] | (unsigned)matrices[m][j + 1][i] << 16;
  }
}

inline void multiply_add_bf16(
    float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, int line = __builtin_LINE()) {
  emulator::Product& p = emulator::block->warps[emulator::thread->warp].product;
  const int i = emulator::thread->lane / 4, j = emulator::thread->lane % 4;
  p.a[i][j] = a[0];
  p.a[i + 8][j] = a[1];
  p.a[i][j + 4] = a[2];
  p.a[i + 8][j + 4] = a[3];
  p.b[j][i] = b0;
  p.b[j + 4][i] = b1;
  emulator::meet(~0u, line, emulator::Nothing(), emulator::multiply_bf16);
  const float *top = p.c[i] + 2 * j, *bottom = p.c[i + 8] + 2 * j;
  d[0] += top[0];
  d[1] += top[1];
  d[2] += bottom[0];
  d[3] += bottom[1];
}

// In SIMD registers, which the checks of addresses around it would forbid the compiler.
template <int N>
inline void multiply_add(float (&c)[N], float a, const float (&b)[N]) {
  int i = 0;
#ifdef __FMA__
  for (; i + 8 <= N; i += 8) {
    const __m256 sum =
        _mm256_fmadd_ps(_mm256_set1_ps(a), _mm256_loadu_ps(b + i), _mm256_loadu_ps(c + i));
    _mm256_storeu_ps(c + i, sum);
  }
#endif
  for (; i < N; i++) {
    c[i] = fmaf(a, b[i], c[i]);
  }
}

inline float exp2_fast(float x) {
  const float y = exp2f(x);
  return y < 1.17549435e-38f ? 0.0f : y;
}
