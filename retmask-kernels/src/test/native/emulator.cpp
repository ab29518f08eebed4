// The machine under emulator.h: fibers, turns, barriers, warp operations, copies, faults.
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>
#include "runtime.h"

namespace emulator {

__thread Thread* thread = nullptr;
__thread Block* block = nullptr;

// --- fibers -----------------------------------------------------------------------------------------

#if !defined(__x86_64__)
#error "switch_context is written for x86-64 alone"
#endif
// Saves the callee-saved registers on the stack and its address in *from; goes on at `to`. It jumps
// rather than returns: where it goes on is not what the processor expects of a return.
extern "C" void emulator_switch(void** from, void* to) __attribute__((visibility("hidden")));
asm(R"(.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch,@function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size emulator_switch, .-emulator_switch
)");

static constexpr size_t PAGE = 4096, STACK = 256 << 10;
static constexpr int MAX_THREADS = 1024, MAX_WARPS = 32;
static constexpr size_t MAX_SHARED = 256 << 10;
static constexpr int CANARY = 0xa5;
static constexpr size_t GUARD = 128;  // bytes before shared memory that nothing may write

static char* map(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    perror("emulated GPU: mmap");
    abort();
  }
  return (char*)p;
}

// Order in which the members of a set of up to 32 take turns: ascending from `first` around the set,
// or descending.
struct Turns {
  int first = 0;
  bool down = false;

  static unsigned rotate(unsigned set, int by) { return set >> by | set << (-by & 31); }
  int member(unsigned rotated) const {
    return ((down ? 31 - __builtin_clz(rotated) : __builtin_ctz(rotated)) + first) & 31;
  }
  // The first member of a set that is not empty.
  int start(unsigned set) const { return member(rotate(set, first)); }
  // The next one after `i`, around the end.
  int after(unsigned set, int i) const {
    const unsigned rotated = rotate(set, first);
    const int place = (i - first) & 31;
    const unsigned later = rotated & (down ? (1u << place) - 1 : ~1u << place);
    return member(later != 0 ? later : rotated);
  }
};

// A host thread's means to run blocks.
struct Worker : Block {
  const Launch* launch = nullptr;
  Thread threads[MAX_THREADS];
  Warp all_warps[MAX_WARPS];
  Turns lane_turns[MAX_WARPS], warp_turns;
  unsigned ready_warps = 0;  // those with ready lanes
  int count = 0, live = 0, at_barrier = 0, barrier_line = 0;
  // After a meeting the warp goes on, in random order another one; after a barrier the block.
  enum { ONWARD, WARP_AGAIN, OTHER_WARP, BLOCK_AGAIN } turn = ONWARD;
  unsigned random = 0;
  void* main_context = nullptr;
  std::vector<void*> idle;   // contexts of fibers between two threads
  std::vector<char*> stacks;
  size_t used_stacks = 0;
  std::vector<Copies*> copies;
  char* shared_end = nullptr;
  unsigned char unwritten = 0;  // what shared memory holds at first
  std::string failure;

  Worker() {
    warps = all_warps;
    idle.reserve(MAX_THREADS);
    char* memory = map(MAX_SHARED + PAGE);
    shared_end = memory + MAX_SHARED;
    mprotect(shared_end, PAGE, PROT_NONE);
  }

  unsigned next_random() {
    random = random * 1664525u + 1013904223u;
    return random >> 8;
  }
  Turns new_turns() {
    switch (launch->schedule.order) {
      case ASCENDING:
        return {0, false};
      case DESCENDING:
        return {0, true};
      default:
        const unsigned r = next_random();
        return {(int)(r & 31), (r & 32) != 0};
    }
  }

  // The thread whose turn it is; null when none is ready.
  Thread* next_turn() {
    if (ready_warps == 0) {
      return nullptr;
    }
    int w = thread->warp;
    if (turn == ONWARD && all_warps[w].ready != 0) {
      return &threads[w * 32 + lane_turns[w].after(all_warps[w].ready, thread->lane)];
    }
    if (turn == BLOCK_AGAIN) {
      w = warp_turns.start(ready_warps);
    } else if (turn == OTHER_WARP || all_warps[w].ready == 0) {
      if (all_warps[w].ready == 0) {
        ready_warps &= ~(1u << w);
      }
      if (ready_warps == 0) {
        return nullptr;
      }
      w = warp_turns.after(ready_warps, w);
    }
    turn = ONWARD;
    return &threads[w * 32 + lane_turns[w].start(all_warps[w].ready)];
  }

  // The context that thread `t` goes on in: its own, or a fiber that begins it.
  void* context_of(Thread* t);
  void release_barrier();
  void start_block(uint3 at);
  void run_block(uint3 at);
  void run_thread();
  void end_thread();
  [[noreturn]] void abandon(const std::string& why);
  [[noreturn]] void stuck();
};

static Worker* worker() { return (Worker*)block; }

// All fibers begin here: each runs threads until none is left that has not begun.
static void run_fiber() {
  Worker* const w = worker();
  for (;;) {
    w->run_thread();
    Thread* next = w->next_turn();
    if (next == nullptr && w->live > 0) {
      w->stuck();
    }
    if (next != nullptr && next->context == nullptr) {
      thread = next;
      continue;
    }
    w->idle.push_back(nullptr);
    void* const to = next == nullptr ? w->main_context : next->context;
    thread = next;
    emulator_switch(&w->idle.back(), to);
  }
}

void* Worker::context_of(Thread* t) {
  if (t->context != nullptr) {
    return t->context;
  }
  if (!idle.empty()) {
    void* const context = idle.back();
    idle.pop_back();
    return context;
  }
  const size_t i = used_stacks++;
  if (i == stacks.size()) {
    char* memory = map(STACK + PAGE);
    mprotect(memory, PAGE, PROT_NONE);
    stacks.push_back(memory + PAGE);
  }
  // Stacks begin at different places of a page, or they would all share a few cache lines.
  void** top = (void**)(stacks[i] + STACK - 64 - i % 61 * 64);
  *--top = nullptr;
  *--top = (void*)run_fiber;
  for (int saved = 0; saved < 6; saved++) {
    *--top = nullptr;
  }
  return top;
}

__attribute__((noinline)) void wait() {
  Worker* const w = worker();
  Thread* const me = thread;
  Thread* const next = w->next_turn();
  if (next == nullptr) {
    w->stuck();
  }
  if (next != me) {
    void* const to = w->context_of(next);
    thread = next;
    emulator_switch(&me->context, to);
  }
}

// Leaves the block, and with it all of its fibers.
void Worker::abandon(const std::string& why) {
  failure = std::string(launch->kernel->name) + " block (" + std::to_string(index.x) + "," +
            std::to_string(index.y) + "," + std::to_string(index.z) + ")";
  if (thread != nullptr) {
    failure += " thread (" + std::to_string(thread->index.x) + "," +
               std::to_string(thread->index.y) + "," + std::to_string(thread->index.z) + ")";
  }
  failure += ": " + why;
  idle.clear();
  used_stacks = 0;
  void* nowhere;
  emulator_switch(&nowhere, main_context);
  __builtin_unreachable();
}

void fail(const char* format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  worker()->abandon(text);
}

void Worker::stuck() {
  for (int i = 0; i < count; i++) {
    Thread& t = threads[i];
    if (!t.done && (all_warps[t.warp].ready >> t.lane & 1) == 0) {
      for (const Meeting& m : all_warps[t.warp].meetings) {
        if (m.arrived >> t.lane & 1) {
          thread = &t;
          fail("stuck in the warp operation at line %d: lanes %08x of mask %08x never reach it",
               m.line, m.mask & all_warps[t.warp].live & ~m.arrived, m.mask);
        }
      }
    }
  }
  fail("stuck: %d of %d threads wait at the barrier at line %d, the others never reach it",
       at_barrier, live, barrier_line);
}

// --- barriers and warp operations -------------------------------------------------------------------

void complete(Warp& warp, Meeting& meeting) {
  meeting.finish(warp, meeting.arrived);
  Worker* const w = worker();
  const int i = (int)(&warp - w->all_warps);
  warp.ready |= meeting.arrived;
  meeting.arrived = 0;
  w->ready_warps |= 1u << i;
  w->lane_turns[i] = w->new_turns();
  w->turn = w->launch->schedule.order == RANDOM ? Worker::OTHER_WARP : Worker::WARP_AGAIN;
}

void Worker::release_barrier() {
  at_barrier = 0;
  ready_warps = 0;
  for (int w = 0; w < (count + 31) / 32; w++) {
    all_warps[w].ready = all_warps[w].live;
    lane_turns[w] = new_turns();
    if (all_warps[w].live != 0) {
      ready_warps |= 1u << w;
    }
  }
  warp_turns = new_turns();
  turn = BLOCK_AGAIN;
}

void barrier(int line) {
  Worker* const w = worker();
  if (w->at_barrier == 0) {
    w->barrier_line = line;
  } else if (w->barrier_line != line) {
    fail("threads of one block are at barriers of lines %d and %d", w->barrier_line, line);
  }
  Thread& me = *thread;
  me.line = line;
  w->all_warps[me.warp].ready &= ~(1u << me.lane);
  if (++w->at_barrier == w->live) {
    w->release_barrier();
  }
  wait();
}

// --- threads and blocks -----------------------------------------------------------------------------

void Worker::run_thread() {
  launch->kernel->call(launch->arguments);
  end_thread();
}

void Worker::end_thread() {
  Thread& me = *thread;
  if (me.copies != nullptr) {
    emulator::copy_async_commit();
    emulator::copy_async_wait(0);
  }
  Warp& warp = all_warps[me.warp];
  const unsigned bit = 1u << me.lane;
  me.done = true;
  warp.live &= ~bit;
  warp.ready &= ~bit;
  live--;
  if (live > 0 && at_barrier == live) {
    release_barrier();
    return;
  }
  if (warp.ready != warp.live) {
    for (Meeting& m : warp.meetings) {
      if (m.arrived != 0 && m.arrived == (m.mask & warp.live)) {
        complete(warp, m);
      }
    }
  }
}

void Worker::start_block(uint3 at) {
  index = at;
  size = launch->block;
  grid = launch->grid;
  eager = launch->schedule.eager;
  shared_bytes = launch->shared_bytes;
  count = live = (int)(size.x * size.y * size.z);
  const size_t reserved = ((size_t)shared_bytes + 127) & ~(size_t)127;
  shared = (unsigned char*)shared_end - reserved;
  // NaN to all types of floats; or huge, where a maximum would pass over NaN.
  unwritten = launch->schedule.order == RANDOM ? 0x7f : 0xff;
  memset(shared - GUARD, unwritten, GUARD + shared_bytes);
  memset(shared + shared_bytes, CANARY, reserved - shared_bytes);
  for (int i = 0; i < count; i++) {
    Thread& t = threads[i];
    const unsigned n = (unsigned)i;
    t.index = {n % size.x, n / size.x % size.y, n / (size.x * size.y)};
    t.warp = i / 32;
    t.lane = i % 32;
    t.context = nullptr;
    t.done = false;
    t.copies = nullptr;
  }
  for (int w = 0; w < (count + 31) / 32; w++) {
    const int lanes = std::min(32, count - w * 32);
    all_warps[w].live = lanes == 32 ? ~0u : (1u << lanes) - 1;
    for (Meeting& m : all_warps[w].meetings) {
      m.arrived = 0;
    }
  }
  release_barrier();
}

// False after a failure.
void Worker::run_block(uint3 at) {
  start_block(at);
  thread = &threads[0];
  Thread* const first = next_turn();
  void* const to = context_of(first);
  thread = first;
  emulator_switch(&main_context, to);
  thread = nullptr;
  if (!failure.empty()) {
    return;
  }
  const auto differs = [](int value) { return [value](unsigned char c) { return c != value; }; };
  const bool before = std::any_of(shared - GUARD, shared, differs(unwritten));
  if (before || std::any_of(shared + shared_bytes, (unsigned char*)shared_end, differs(CANARY))) {
    failure = std::string(launch->kernel->name) + ": wrote " +
              (before ? "before" : "past the end of") + " " + std::to_string(shared_bytes) +
              " bytes of shared memory";
  }
}

// --- asynchronous copies ----------------------------------------------------------------------------

static void check_shared(const void* p, size_t bytes, const char* what) {
  const unsigned char* at = (const unsigned char*)p;
  if (at < block->shared || at + bytes > block->shared + block->shared_bytes) {
    fail("%s: not an address of the block's shared memory", what);
  }
  if ((uintptr_t)p % bytes != 0) {
    fail("%s: shared address is not a multiple of %zu", what, bytes);
  }
}

static void land(const Copy& c) {
  memcpy(c.dst, c.src, (size_t)c.bytes);
  memset((char*)c.dst + c.bytes, 0, (size_t)(16 - c.bytes));
}

static Copies& copies_of(Thread& t) {
  if (t.copies == nullptr) {
    Worker* const w = worker();
    const size_t i = (size_t)(&t - w->threads);
    if (w->copies.empty()) {
      w->copies.resize(MAX_THREADS);
    }
    if (w->copies[i] == nullptr) {
      w->copies[i] = new Copies();
    }
    t.copies = w->copies[i];
    t.copies->count = t.copies->groups = 0;
  }
  return *t.copies;
}

void copy_async(void* dst, const void* src, int bytes) {
  check_shared(dst, 16, "copy_async16");
  if ((uintptr_t)src % 16 != 0) {
    fail("copy_async16: source address is not a multiple of 16");
  }
  if (block->eager) {
    land({dst, src, bytes});
    return;
  }
  Copies& c = copies_of(*thread);
  if (c.count == MAX_COPIES) {
    fail("copy_async16: more than %d copies of one thread under way", MAX_COPIES);
  }
  c.copy[c.count++] = {dst, src, bytes};
}

void copy_async_commit() {
  if (block->eager) {
    return;
  }
  Copies& c = copies_of(*thread);
  if (c.groups == MAX_GROUPS) {
    fail("copy_async_commit: more than %d groups of one thread under way", MAX_GROUPS);
  }
  c.ends[c.groups++] = c.count;
}

void copy_async_wait(int groups) {
  if (block->eager || thread->copies == nullptr || thread->copies->groups <= groups) {
    return;
  }
  Copies& c = *thread->copies;
  const int landing = c.groups - groups, n = c.ends[landing - 1];
  for (int i = 0; i < n; i++) {
    land(c.copy[i]);
  }
  c.count -= n;
  memmove(c.copy, c.copy + n, (size_t)c.count * sizeof(Copy));
  for (int i = landing; i < c.groups; i++) {
    c.ends[i - landing] = c.ends[i] - n;
  }
  c.groups = groups;
}

// --- matrices of a warp -----------------------------------------------------------------------------

void load_matrices(Warp& warp, unsigned) {
  for (int lane = 0; lane < 32; lane++) {
    const void* row;
    memcpy(&row, warp.given[lane], sizeof row);
    check_shared(row, 16, "load_matrix");
    memcpy(warp.matrices[lane / 8][lane % 8], row, 16);
  }
}

typedef float Floats __attribute__((vector_size(32)));
typedef unsigned Words __attribute__((vector_size(32)));

// The first and the second elements of eight pairs of BF16.
static void unpack(const unsigned* pairs, Floats& first, Floats& second) {
  Words words;
  memcpy(&words, pairs, sizeof words);
  first = (Floats)(words << 16);
  second = (Floats)(words & 0xffff0000u);
}

// mma.m16n8k16
void multiply_bf16(Warp& warp, unsigned) {
  Product& p = warp.product;
  Floats b[16];
  for (int k = 0; k < 16; k += 2) {
    unpack(p.b[k / 2], b[k], b[k + 1]);
  }
  for (int i = 0; i < 16; i++) {
    Floats even, odd, c = {};
    unpack(p.a[i], even, odd);
#pragma GCC unroll 8
    for (int k = 0; k < 16; k += 2) {
      c += even[k / 2] * b[k];
      c += odd[k / 2] * b[k + 1];
    }
    memcpy(p.c[i], &c, sizeof c);
  }
}

// --- faults -----------------------------------------------------------------------------------------

static struct sigaction previous[NSIG];
static __thread const void* fault_address;
static __thread int fault_signal;

int time_limit = 600;

static void report_fault() {
  switch (fault_signal) {
    case SIGILL:
      fail("an address that is not aligned to its type, or an index past the end of an array");
    case SIGFPE:
      fail("an integer division by zero");
    case 0:
      fail("runs for more than %d seconds; is there a loop without end?", time_limit);
    default:
      const unsigned char* at = (const unsigned char*)fault_address;
      Worker* const w = worker();
      if (at >= (unsigned char*)w->shared_end && at < (unsigned char*)w->shared_end + PAGE) {
        fail("access %zu bytes past the end of %u bytes of shared memory",
             (size_t)(at - w->shared) - w->shared_bytes, w->shared_bytes);
      }
      fail("illegal access: %s", describe_address(fault_address).c_str());
  }
}

// A fault in a kernel becomes its failure; any other goes to whoever was there before, the JVM.
static void on_fault(int signal, siginfo_t* info, void* context) {
  if (thread != nullptr) {
    greg_t* const r = ((ucontext_t*)context)->uc_mcontext.gregs;
    fault_address = info->si_addr;
    fault_signal = signal == SIGRTMIN + 6 ? 0 : signal;
    r[REG_RSP] = ((r[REG_RSP] - 256) & ~15LL) - 8;
    r[REG_RIP] = (greg_t)report_fault;
    return;
  }
  const struct sigaction& p = previous[signal];
  if (signal == SIGRTMIN + 6) {
    return;
  }
  if (p.sa_flags & SA_SIGINFO) {
    p.sa_sigaction(signal, info, context);
  } else if (p.sa_handler == SIG_DFL || p.sa_handler == SIG_IGN) {
    sigaction(signal, &p, nullptr);  // the fault comes again
  } else {
    p.sa_handler(signal);
  }
}

static void catch_faults() {
  static bool done;
  if (done) {
    return;
  }
  done = true;
  for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGRTMIN + 6}) {
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    sigaction(signal, &action, &previous[signal]);
  }
}

// Ends kernels that run for too long: a signal to the threads that run blocks.
class Watchdog {
 public:
  void begin(const std::vector<pthread_t>& running) {
    std::lock_guard<std::mutex> hold(lock);
    threads = running;
    deadline = std::chrono::steady_clock::now() + std::chrono::seconds(time_limit);
    if (!started) {
      started = true;
      std::thread([this] { loop(); }).detach();
    }
  }

  void end() {
    std::lock_guard<std::mutex> hold(lock);
    threads.clear();
  }

 private:
  std::mutex lock;
  std::vector<pthread_t> threads;
  std::chrono::steady_clock::time_point deadline;
  bool started = false;

  void loop() {
    for (;;) {
      std::this_thread::sleep_for(std::chrono::seconds(1));
      std::lock_guard<std::mutex> hold(lock);
      if (std::chrono::steady_clock::now() > deadline) {
        for (pthread_t t : threads) {
          pthread_kill(t, SIGRTMIN + 6);
        }
      }
    }
  }
};

// --- grids ------------------------------------------------------------------------------------------

// Blocks of one launch, handed out one by one.
struct Grid {
  const Launch& launch;
  const unsigned long long blocks;
  unsigned long long step = 1, offset = 0;
  std::atomic<unsigned long long> next{0};
  std::mutex lock;
  std::string failure;

  explicit Grid(const Launch& launch)
      : launch(launch),
        blocks((unsigned long long)launch.grid.x * launch.grid.y * launch.grid.z) {
    if (launch.schedule.order == DESCENDING) {
      step = blocks - 1;
      offset = blocks - 1;
    } else if (launch.schedule.order == RANDOM) {
      for (step = blocks * 5 / 8 + 1; std::__gcd(step, blocks) != 1;) {
        step++;
      }
      offset = blocks / 3;
    }
  }

  void work(Worker& w) {
    w.launch = &launch;
    w.failure.clear();
    block = &w;
    for (unsigned long long i; (i = next++) < blocks;) {
      const unsigned long long id = (offset + (i % blocks) * (step % blocks)) % blocks;
      w.random = (unsigned)id * 2654435761u + 12345;
      w.run_block({(unsigned)(id % launch.grid.x), (unsigned)(id / launch.grid.x % launch.grid.y),
                   (unsigned)(id / launch.grid.x / launch.grid.y)});
      if (!w.failure.empty()) {
        next = blocks;
        std::lock_guard<std::mutex> hold(lock);
        if (failure.empty()) {
          failure = w.failure;
        }
      }
    }
    block = nullptr;
  }
};

// Host threads beside the caller's that run blocks of large grids.
class Helpers {
 public:
  Helpers() {
    const char* text = getenv("RETMASK_EMULATED_THREADS");
    const int wanted = text != nullptr ? atoi(text) : (int)std::thread::hardware_concurrency();
    for (int i = 1; i < std::min(wanted, 16); i++) {
      std::thread helper([this] { loop(); });
      threads.push_back(helper.native_handle());
      helper.detach();
      size++;
    }
  }

  const std::vector<pthread_t>& all() const { return threads; }

  void run(Grid& g, Worker& own) {
    if (size == 0 || g.blocks < 4) {
      g.work(own);
      return;
    }
    {
      std::lock_guard<std::mutex> hold(lock);
      grid = &g;
      round++;
      busy = size;
    }
    wake.notify_all();
    g.work(own);
    std::unique_lock<std::mutex> hold(lock);
    done.wait(hold, [this] { return busy == 0; });
    grid = nullptr;
  }

 private:
  std::mutex lock;
  std::condition_variable wake, done;
  std::vector<pthread_t> threads;
  Grid* grid = nullptr;
  unsigned round = 0;
  int size = 0, busy = 0;

  void loop() {
    Worker* const own = new Worker();
    for (unsigned seen = 0;;) {
      Grid* mine;
      {
        std::unique_lock<std::mutex> hold(lock);
        wake.wait(hold, [&] { return round != seen; });
        seen = round;
        mine = grid;
      }
      mine->work(*own);
      std::lock_guard<std::mutex> hold(lock);
      if (--busy == 0) {
        done.notify_all();
      }
    }
  }
};

std::string run(const Launch& launch) {
  static std::mutex lock;
  std::lock_guard<std::mutex> hold(lock);
  static Worker* const own = new Worker();
  static Helpers* const helpers = new Helpers();
  catch_faults();
  static Watchdog* const watchdog = new Watchdog();
  std::vector<pthread_t> threads = helpers->all();
  threads.push_back(pthread_self());
  watchdog->begin(threads);
  Grid grid(launch);
  helpers->run(grid, *own);
  watchdog->end();
  return grid.failure;
}

// --- kernels by name --------------------------------------------------------------------------------

static Kernel* kernels;  // zero before any constructor runs

Kernel::Kernel(
    const char* name, void (*call)(void* const*), int parameters, const Parameter* parameter)
    : name(name), call(call), parameters(parameters), parameter(parameter), next(kernels) {
  kernels = this;
}

Kernel::~Kernel() {
  for (Kernel** k = &kernels; *k != nullptr; k = &(*k)->next) {
    if (*k == this) {
      *k = next;
      return;
    }
  }
}

const Kernel* find_kernel(const std::string& name) {
  for (const Kernel* k = kernels; k != nullptr; k = k->next) {
    if (name == k->name) {
      return k;
    }
  }
  return nullptr;
}

}  // namespace emulator
