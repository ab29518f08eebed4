// A libcuda.so.1 for machines without a GPU: the calls of the driver that the CUDA backend makes, over
// host memory and the emulator. The device calls itself "host emulation", and no result of it is one of
// a GPU.
//
// Work on a stream is done at once, or late: when something waits for it. Copies from and to pinned
// memory take part in that; pageable memory is read at the call, as the driver does. Device memory is
// NaN until written, ends at a page that faults, and is looked up for every copy and every pointer that
// a kernel is given. A kernel is found only if the loaded PTX has an entry of that name with the same
// parameters. Calls want the context in the thread that makes them.
//
// Allocations in the order of a stream come from a pool. It takes memory of the device in pieces, an
// allocation lies in one of them, and what is freed stays the pool's: a piece of which nothing is in use
// goes back when someone waits and the pool holds more than its threshold, 0 at first, or trims it.
//
// A graph holds what was queued while a stream was captured, with the arguments of then; waits,
// allocations, copies of pageable memory and use of the null stream spoil a capture. What a driver takes
// into a graph and we have no use for, such as nodes that allocate, is refused.
//
//   RETMASK_EMULATED_ORDER    ascending, descending or random: the order of threads and blocks; or all:
//                             each kernel runs in each of them, and fails where the bits differ
//   RETMASK_EMULATED_COPIES   eager or late
//   RETMASK_EMULATED_MEMORY   bytes of device memory (4 GiB)
//   RETMASK_EMULATED_THREADS  host threads that run blocks (all)
//   RETMASK_EMULATED_IDLE     gigabytes: calls are checked and nothing is done, all that comes from the
//                             device is zero; it has so much memory and else the size of an H200
//   RETMASK_EMULATED_LAUNCHES file to which every launch is added: kernel, grid, threads, shared bytes
#include <dlfcn.h>
#include <sys/mman.h>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>
#include "runtime.h"

#define API extern "C" __attribute__((visibility("default")))

namespace {

typedef unsigned long long Address;

enum Result {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  UNSUPPORTED_PTX_VERSION = 222,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  LAUNCH_FAILED = 719,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
  CAPTURE_IMPLICIT = 906,
  CAPTURE_WRONG_THREAD = 908,
};

enum { SHARED_DEFAULT = 48 << 10 };

struct Device {
  int multiprocessors, shared, shared_of_block, l2, major, minor;
};
// What an sm_80 to sm_90 device has at the least, so that what runs here runs on all of them.
constexpr Device SMALL = {4, 100 << 10, 99 << 10, 4 << 20, 8, 0};
constexpr Device H200 = {132, 228 << 10, 227 << 10, 50 << 20, 9, 0};

size_t gigabytes_of_environment(const char* name) {
  const char* text = getenv(name);
  return text != nullptr ? strtoull(text, nullptr, 10) << 30 : 0;
}

// Whether nothing is done, only checked; then all that comes from the device is zero.
size_t idle_memory = gigabytes_of_environment("RETMASK_EMULATED_IDLE");
bool idle = idle_memory > 0;
Device device = idle ? H200 : SMALL;

std::recursive_mutex api;  // one call at a time
#define CALL std::lock_guard<std::recursive_mutex> hold(api)

char last_error[1024] = "";
int broken = SUCCESS;  // a context is lost with its first failed kernel

__attribute__((format(printf, 2, 3))) int refuse(int result, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
  return result;
}

// The primary context lives while someone retains it; a thread is in one of its lives, or in none.
int context, retained = 0, lives = 0;
thread_local int current = 0;

bool has_context() { return retained > 0 && current == lives; }

// Begins a call that wants a context.
#define CALL_IN_CONTEXT                                                         \
  CALL;                                                                         \
  if (!has_context()) {                                                         \
    return refuse(INVALID_CONTEXT, "%s: the thread has no context", __func__);  \
  }

bool equals(const char* text, const char* wanted) {
  return text != nullptr && strcmp(text, wanted) == 0;
}

emulator::Schedule schedule_of_environment() {
  const char* order = getenv("RETMASK_EMULATED_ORDER");
  const char* copies = getenv("RETMASK_EMULATED_COPIES");
  return {equals(order, "descending") ? emulator::DESCENDING
          : equals(order, "random")   ? emulator::RANDOM
          : equals(order, "all")      ? emulator::ALL
                                      : emulator::ASCENDING,
          equals(copies, "eager")};
}
emulator::Schedule schedule = schedule_of_environment();

// --- memory -----------------------------------------------------------------------------------------

constexpr size_t PAGE = 4096, ALIGNMENT = 16, FILLED = 64 << 20;
constexpr size_t COUNTED = 256, PIECE = 2 << 20;  // an allocation, and a piece of the pool, are multiples
constexpr unsigned short CANARY = 0xffa5;  // NaN to every type of floats

// Memory of the device that the pool holds. What is freed counts for a trim once someone has waited.
struct Piece {
  size_t bytes, used = 0, freed = 0;
};

struct Block {
  size_t bytes, mapped;
  char* map;
  size_t counted;
  Piece* piece;  // null where it is not of the pool
};
std::map<Address, Block> allocations;
std::map<const char*, size_t> pinned;
size_t outside = 0;  // bytes of allocations outside of the pool

struct Pool {
  std::list<Piece> pieces;
  unsigned long long threshold = 0;

  size_t reserved() const {
    size_t sum = 0;
    for (const Piece& p : pieces) {
      sum += p.bytes;
    }
    return sum;
  }

  size_t used() const {
    size_t sum = 0;
    for (const Piece& p : pieces) {
      sum += p.used;
    }
    return sum;
  }

  void trim(unsigned long long keep) {
    size_t held = reserved();
    for (auto p = pieces.begin(); p != pieces.end() && held > keep;) {
      const bool unused = p->used + p->freed == 0;
      held -= unused ? p->bytes : 0;
      p = unused ? pieces.erase(p) : std::next(p);
    }
  }
} pool;

size_t total_memory() {
  if (idle) {
    return idle_memory;
  }
  const char* text = getenv("RETMASK_EMULATED_MEMORY");
  return text != nullptr ? strtoull(text, nullptr, 10) : 4ull << 30;
}

// The last allocation that begins at or before an address.
const std::pair<const Address, Block>* allocation_before(Address a) {
  auto i = allocations.upper_bound(a);
  return i == allocations.begin() ? nullptr : &*--i;
}

bool inside(Address a, size_t bytes) {
  const auto* before = allocation_before(a);
  return before != nullptr && a + bytes <= before->first + before->second.bytes;
}

bool is_pinned(const void* p, size_t bytes) {
  auto i = pinned.upper_bound((const char*)p);
  return i != pinned.begin() && (--i, (const char*)p + bytes <= i->first + i->second);
}

size_t free_memory() { return total_memory() - pool.reserved() - outside; }

size_t multiple(size_t bytes, size_t of) { return (bytes + of - 1) / of * of; }

int allocate(Address* out, size_t bytes, bool pooled) {
  if (bytes == 0) {
    return refuse(INVALID_VALUE, "an allocation of no bytes");
  }
  const size_t counted = multiple(bytes, COUNTED);
  auto piece = pool.pieces.begin();
  while (pooled && piece != pool.pieces.end() && counted > piece->bytes - piece->used) {
    piece++;
  }
  const bool grows = pooled && piece == pool.pieces.end();
  if ((grows ? multiple(bytes, PIECE) : pooled ? 0 : counted) > free_memory()) {
    return OUT_OF_MEMORY;
  }
  const size_t taken = multiple(bytes, ALIGNMENT);
  const size_t data = multiple(taken, PAGE);
  char* map = (char*)mmap(nullptr, data + 2 * PAGE, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED || mprotect(map + PAGE, data, PROT_READ | PROT_WRITE) != 0) {
    return refuse(OUT_OF_MEMORY, "no host memory for %zu bytes", bytes);
  }
  char* start = map + PAGE + data - taken;
  if (!idle) {
    memset(start, 0xff, std::min(bytes, FILLED));
  }
  for (size_t i = bytes; i < taken; i++) {
    start[i] = ((const char*)&CANARY)[i & 1];
  }
  *out = (Address)start;
  if (grows) {
    piece = pool.pieces.insert(pool.pieces.end(), {multiple(bytes, PIECE)});
  }
  (pooled ? piece->used : outside) += counted;
  allocations[*out] = {bytes, data + 2 * PAGE, map, counted, pooled ? &*piece : nullptr};
  return SUCCESS;
}

// Whether the bytes between the end of an allocation and that of its page are untouched.
bool is_whole(const std::pair<const Address, Block>& allocation) {
  const char* start = (const char*)allocation.first;
  for (size_t k = allocation.second.bytes; k % ALIGNMENT != 0; k++) {
    if (start[k] != ((const char*)&CANARY)[k & 1]) {
      return false;
    }
  }
  return true;
}

int release(Address a) {
  auto i = allocations.find(a);
  if (i == allocations.end()) {
    return refuse(INVALID_VALUE, "free of %llx, which is no allocation", a);
  }
  const Block b = i->second;
  const bool whole = is_whole(*i);
  if (b.piece == nullptr) {
    outside -= b.counted;
  } else {
    b.piece->used -= b.counted;
    b.piece->freed += b.counted;
  }
  munmap(b.map, b.mapped);
  allocations.erase(i);
  return whole ? SUCCESS
               : refuse(ILLEGAL_ADDRESS, "something wrote past the end of %zu bytes", b.bytes);
}

// --- streams ----------------------------------------------------------------------------------------

typedef std::function<int()> Work;

struct Graph {
  std::vector<Work> work;
};

// A capture under way. What must not happen meanwhile spoils it: its end says so.
struct Capture {
  Graph graph;
  int mode;  // whom it keeps from calls that are unsafe meanwhile: 0 everybody, 1 its thread, 2 nobody
  std::thread::id thread;
  bool spoilt = false;
};

struct Stream {
  bool blocking;  // takes turns with the null stream
  std::deque<Work> work;
  std::unique_ptr<Capture> capture;
};

struct Event {
  Stream* stream = nullptr;  // whose work it comes after, until it has happened
  std::chrono::steady_clock::time_point time;
};

Stream null_stream{true, {}, nullptr};
int graphs_made = 0;
std::set<Stream*> streams = {&null_stream};
constexpr size_t LATEST = 1024;  // so much work waits at most

// Null for what is no stream; handles 0, 1 and 2 are the null streams.
Stream* stream_of(void* handle) {
  if ((uintptr_t)handle <= 2) {
    return &null_stream;
  }
  return streams.count((Stream*)handle) != 0 ? (Stream*)handle : nullptr;
}

int drain(Stream* s) {
  while (!s->work.empty()) {
    Work next = std::move(s->work.front());
    s->work.pop_front();
    if (int result = broken != SUCCESS ? broken : next()) {
      broken = result;
      s->work.clear();
    }
  }
  return broken;
}

// Refuses a call that would wait for a stream that is captured.
int refuse_on(Stream* s, const char* call) {
  s->capture->spoilt = true;
  return refuse(CAPTURE_UNSUPPORTED, "%s, on a stream that is captured", call);
}

// What is unsafe while a stream is captured: calls that wait for all work, or that take or give memory
// out of the order of streams. `whole`: whatever the capture's mode says.
int unsafe(const char* call, bool whole = false) {
  int result = SUCCESS;
  for (Stream* s : streams) {
    const Capture* c = s->capture.get();
    if (c != nullptr &&
        (whole || c->mode == 0 || (c->mode == 1 && c->thread == std::this_thread::get_id()))) {
      result = refuse_on(s, call);
    }
  }
  return result;
}
#define UNSAFE(call)               \
  if (int result = unsafe(call)) { \
    return result;                 \
  }

int drain_all() {
  for (Stream* s : streams) {
    drain(s);
  }
  return broken;
}

// Somebody has waited for work, with this result.
int waited(int result) {
  for (Piece& p : pool.pieces) {
    p.freed = 0;
  }
  pool.trim(pool.threshold);
  return result;
}

int enqueue(void* handle, Work work) {
  Stream* s = stream_of(handle);
  if (s == nullptr) {
    return refuse(INVALID_HANDLE, "a stream that does not exist");
  }
  if (broken != SUCCESS) {
    return broken;
  }
  if (s->capture != nullptr) {
    if (s->capture->spoilt) {
      return refuse(CAPTURE_INVALIDATED, "a capture that is spoilt");
    }
    s->capture->graph.work.push_back(std::move(work));
    return SUCCESS;
  }
  if (s == &null_stream) {
    for (Stream* other : streams) {
      if (other->blocking && other->capture != nullptr) {
        other->capture->spoilt = true;
        return refuse(CAPTURE_IMPLICIT, "the null stream would wait for one that is captured");
      }
    }
  }
  s->work.push_back(std::move(work));
  if (s == &null_stream) {
    for (Stream* other : streams) {
      if (other->blocking) {
        drain(other);
      }
    }
    return broken;
  }
  return schedule.eager || s->work.size() > LATEST ? drain(s) : SUCCESS;
}

int copy(Address dst, Address src, size_t bytes) {
  if (!idle) {
    memmove((void*)dst, (const void*)src, bytes);
  }
  return SUCCESS;
}

bool check(Address a, size_t bytes, const char* what) {
  if (inside(a, bytes)) {
    return true;
  }
  refuse(INVALID_VALUE, "%s of %zu bytes at %s", what, bytes,
         emulator::describe_address((const void*)a).c_str());
  return false;
}

// --- modules and kernels ----------------------------------------------------------------------------

struct PtxEntry {
  std::vector<int> parameters;  // bytes
  unsigned most_threads = 1024;
};

struct Function {
  const emulator::Kernel* kernel;
  unsigned most_threads;
  int most_shared = SHARED_DEFAULT;
};

struct Module {
  std::map<std::string, PtxEntry> entries;
  std::map<std::string, std::unique_ptr<Function>> functions;  // the same for all who ask
};

// Bytes of a parameter such as ".param .u64 .ptr .align 1 name" or ".param .align 4 .b8 name[12]".
int parameter_bytes(const std::string& text) {
  for (const char* type = text.c_str(); (type = strchr(type, '.')) != nullptr; type++) {
    if (strchr("usbf", type[1]) != nullptr && type[2] >= '0' && type[2] <= '9') {
      const size_t bracket = text.find('[');
      const int count = bracket == std::string::npos ? 1 : atoi(text.c_str() + bracket + 1);
      return atoi(type + 2) / 8 * count;
    }
  }
  return 0;
}

Module* parse_ptx(const std::string& text) {
  Module* module = new Module();
  for (size_t at = 0; (at = text.find(".entry ", at)) != std::string::npos;) {
    at += 7;
    const size_t open = text.find('(', at), close = text.find(')', open);
    const size_t body = text.find('{', close);
    PtxEntry entry;
    for (size_t p = open; (p = text.find(".param", p)) < close; p++) {
      entry.parameters.push_back(parameter_bytes(text.substr(p + 6, text.find_first_of(",)", p) - p - 6)));
    }
    const size_t most = text.find(".maxntid ", close);
    if (most < body) {
      entry.most_threads = 1;
      for (const char* c = text.c_str() + most + 9;;) {
        char* end;
        entry.most_threads *= strtoul(c, &end, 10);
        if (*end != ',') {
          break;
        }
        c = end + 1;
      }
    }
    module->entries[text.substr(at, text.find_last_not_of(" \n", open - 1) + 1 - at)] = entry;
    at = body;
  }
  return module;
}

struct Call {
  Function* function;
  uint3 grid, block;
  unsigned shared_bytes;
  std::vector<std::vector<char>> arguments;

  // The allocations that the arguments point into: those that the kernel may write to, or all.
  std::vector<const std::pair<const Address, Block>*> allocations_of(bool writable) const {
    std::set<const std::pair<const Address, Block>*> found;
    for (int i = 0; i < function->kernel->parameters; i++) {
      const emulator::Parameter& p = function->kernel->parameter[i];
      Address a = 0;
      if (p.pointer && (p.writable || !writable)) {
        memcpy(&a, arguments[i].data(), 8);
      }
      if (a != 0) {
        found.insert(allocation_before(a));
      }
    }
    return {found.begin(), found.end()};
  }

  // Those of a graph were looked up when it was captured.
  int check_pointers() const {
    for (int i = 0; i < function->kernel->parameters; i++) {
      Address a = 0;
      if (function->kernel->parameter[i].pointer) {
        memcpy(&a, arguments[i].data(), 8);
      }
      if (a != 0 && !inside(a, 0)) {
        return refuse(ILLEGAL_ADDRESS, "%s: argument %d points to %s", function->kernel->name, i,
                      emulator::describe_address((const void*)a).c_str());
      }
    }
    return SUCCESS;
  }

  int run(emulator::Schedule how) {
    if (int result = check_pointers()) {
      return result;
    }
    std::vector<void*> pointers;
    for (auto& a : arguments) {
      pointers.push_back(a.data());
    }
    const std::string failure =
        emulator::run({function->kernel, grid, block, shared_bytes, pointers.data(), how});
    if (!failure.empty()) {
      const bool access = failure.find("illegal access") != std::string::npos;
      return refuse(access ? ILLEGAL_ADDRESS : LAUNCH_FAILED, "%s", failure.c_str());
    }
    for (const auto* allocation : allocations_of(false)) {
      if (!is_whole(*allocation)) {
        return refuse(ILLEGAL_ADDRESS, "%s wrote past the end of an allocation of %zu bytes",
                      function->kernel->name, allocation->second.bytes);
      }
    }
    return SUCCESS;
  }

  int run_in_all_orders() {
    static const emulator::Schedule SCHEDULES[] = {{emulator::ASCENDING, false},
                                                   {emulator::DESCENDING, true},
                                                   {emulator::RANDOM, false}};
    const auto written = allocations_of(true);
    std::vector<std::vector<char>> before, after;
    for (const auto* a : written) {
      before.emplace_back((const char*)a->first, (const char*)a->first + a->second.bytes);
    }
    for (const emulator::Schedule& how : SCHEDULES) {
      for (size_t i = 0; i < written.size() && !after.empty(); i++) {
        memcpy((void*)written[i]->first, before[i].data(), before[i].size());
      }
      if (int result = run(how)) {
        return result;
      }
      if (after.empty()) {
        for (const auto* a : written) {
          after.emplace_back((const char*)a->first, (const char*)a->first + a->second.bytes);
        }
        continue;
      }
      for (size_t i = 0; i < written.size(); i++) {
        const char* now = (const char*)written[i]->first;
        const size_t at = std::mismatch(after[i].begin(), after[i].end(), now).first - after[i].begin();
        if (at < after[i].size()) {
          return refuse(LAUNCH_FAILED, "%s: byte %zu of %zu depends on the order of the threads",
                        function->kernel->name, at, after[i].size());
        }
      }
    }
    return SUCCESS;
  }

  int operator()() {
    return idle                            ? (int)SUCCESS
           : schedule.order == emulator::ALL ? run_in_all_orders() : run(schedule);
  }
};

}  // namespace

std::string emulator::describe_address(const void* address) {
  char text[160];
  const Address a = (Address)address;
  const auto* before = allocation_before(a);
  const auto after = allocations.upper_bound(a);
  if (before != nullptr && a < before->first + before->second.mapped) {
    const size_t offset = a - before->first;
    if (offset < before->second.bytes) {
      snprintf(text, sizeof text, "byte %zu of an allocation of %zu bytes", offset,
               before->second.bytes);
    } else {
      snprintf(text, sizeof text, "%zu bytes past the end of an allocation of %zu bytes",
               offset - before->second.bytes, before->second.bytes);
    }
  } else if (after != allocations.end() && after->first - a < 2 * PAGE) {
    snprintf(text, sizeof text, "%llu bytes before an allocation of %zu bytes", after->first - a,
             after->second.bytes);
  } else {
    snprintf(text, sizeof text, "address %p, far from any allocation", address);
  }
  return text;
}

// --- for the tests ----------------------------------------------------------------------------------

// Order 0 ascending, 1 descending, 2 random, 3 all; waits for all work before.
API void emulator_schedule(int order, int eager) {
  CALL;
  drain_all();
  schedule = {(emulator::Order)order, eager != 0};
}
API const char* emulator_last_error() { return last_error; }
// Makes the context whole again after a failed kernel.
API void emulator_recover() {
  CALL;
  broken = SUCCESS;
  last_error[0] = 0;
}
// Says whether calls are checked and nothing is done, on a device of so many gigabytes, or, 0, all is
// done again.
API void emulator_idle(int gigabytes) {
  CALL;
  waited(drain_all());
  pool.trim(0);  // it is another device's
  idle = gigabytes > 0;
  idle_memory = (size_t)gigabytes << 30;
}
API void emulator_capability(int major, int minor) {
  CALL;
  device.major = major;
  device.minor = minor;
}
API void emulator_time_limit(int seconds) { emulator::time_limit = seconds; }
API int emulator_graphs_made() {
  CALL;
  return graphs_made;
}

// Kernels of a library take the place of those linked in, until it is closed; null when it can't be
// loaded.
API void* emulator_load_kernels(const char* path) {
  CALL;
  return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}
API int emulator_unload_kernels(void* library) {
  CALL;
  drain_all();
  return dlclose(library);
}

// For the stand-in cuBLAS: work on a stream, and whether memory is the device's.
API int emulator_enqueue(void* stream, void (*work)(void*), std::shared_ptr<void>* data) {
  CALL_IN_CONTEXT;
  return enqueue(stream, [work, data = *data] {
    if (!idle) {
      work(data.get());
    }
    return SUCCESS;
  });
}
API int emulator_is_memory(const void* start, size_t bytes) {
  CALL;
  return inside((Address)start, bytes);
}

// --- device and context -----------------------------------------------------------------------------

API int cuInit(unsigned) { return SUCCESS; }
API int cuDriverGetVersion(int* version) {
  *version = 12000;
  return SUCCESS;
}
API int cuDeviceGetCount(int* count) {
  *count = 1;
  return SUCCESS;
}
API int cuDeviceGet(int* device, int ordinal) {
  *device = 0;
  return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}
API int cuDeviceGetName(char* name, int length, int) {
  snprintf(name, (size_t)length, "host emulation");
  return SUCCESS;
}
API int cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = total_memory();
  return SUCCESS;
}
API int cuDeviceGetAttribute(int* value, int attribute, int) {
  const std::map<int, int> VALUES = {
      {1, 1024},         // threads per block
      {2, 1024},         // and in x, y, z
      {3, 1024},
      {4, 64},
      {5, 0x7fffffff},   // grid in x, y, z
      {6, 65535},
      {7, 65535},
      {8, SHARED_DEFAULT},
      {10, 32},          // lanes of a warp
      {12, 65536},       // registers per block
      {16, device.multiprocessors},
      {38, device.l2},
      {39, 2048},        // threads per multiprocessor
      {75, device.major},
      {76, device.minor},
      {81, device.shared},           // per multiprocessor
      {97, device.shared_of_block},  // on demand
      {115, 1},          // memory pools
  };
  auto i = VALUES.find(attribute);
  *value = i == VALUES.end() ? 0 : i->second;
  return SUCCESS;
}
API int cuDevicePrimaryCtxRetain(void** out, int) {
  CALL;
  lives += retained++ == 0;
  *out = &context;
  return SUCCESS;
}
API int cuDevicePrimaryCtxRelease_v2(int) {
  CALL;
  return retained == 0 ? (int)INVALID_CONTEXT : (retained--, SUCCESS);
}
API int cuCtxSetCurrent(void* chosen) {
  CALL;
  if (chosen != nullptr && retained == 0) {
    return refuse(INVALID_CONTEXT, "a context that nobody retains");
  }
  current = chosen == nullptr ? 0 : lives;
  return SUCCESS;
}
API int cuCtxGetCurrent(void** out) {
  *out = current == 0 ? nullptr : &context;
  return SUCCESS;
}
API int cuCtxSynchronize() {
  CALL_IN_CONTEXT;
  if (int result = unsafe("a wait for the context", true)) {
    return result;
  }
  return waited(drain_all());
}

// --- modules and kernels ----------------------------------------------------------------------------

API int cuModuleLoadData(void** out, const void* image) {
  CALL_IN_CONTEXT;
  const std::string text((const char*)image);
  const size_t version = text.find(".version ");
  if (version == std::string::npos) {
    return refuse(INVALID_IMAGE, "the image of a module is not PTX");
  }
  if (atof(text.c_str() + version + 9) > 8.0) {
    return refuse(UNSUPPORTED_PTX_VERSION, "PTX of a version above 8.0");
  }
  *out = parse_ptx(text);
  return SUCCESS;
}
API int cuModuleLoadDataEx(void** out, const void* image, unsigned count, int* options, void** values) {
  const int result = cuModuleLoadData(out, image);
  for (unsigned i = 0; result != SUCCESS && i + 1 < count; i++) {
    if (options[i] == 5 && options[i + 1] == 6) {  // a buffer for errors, and its size
      snprintf((char*)values[i], (size_t)values[i + 1], "the compiler says: %s\n", last_error);
    }
  }
  return result;
}
API int cuModuleUnload(void* module) {
  delete (Module*)module;
  return SUCCESS;
}
API int cuModuleGetFunction(void** out, void* module, const char* name) {
  CALL_IN_CONTEXT;
  std::unique_ptr<Function>& known = ((Module*)module)->functions[name];
  if (known != nullptr) {
    *out = known.get();
    return SUCCESS;
  }
  const auto& entries = ((Module*)module)->entries;
  const auto entry = entries.find(name);
  if (entry == entries.end()) {
    return refuse(NOT_FOUND, "the PTX has no entry %s; has it been made from this source?", name);
  }
  const emulator::Kernel* kernel = emulator::find_kernel(name);
  if (kernel == nullptr) {
    return refuse(NOT_FOUND, "no kernel %s: does EXPORT_KERNEL(%s) follow it?", name, name);
  }
  const std::vector<int>& parameters = entry->second.parameters;
  bool same = (int)parameters.size() == kernel->parameters;
  for (int i = 0; same && i < kernel->parameters; i++) {
    same = parameters[i] == kernel->parameter[i].bytes;
  }
  if (!same) {
    return refuse(NOT_FOUND, "%s has other parameters in the PTX than in the source", name);
  }
  known.reset(new Function{kernel, entry->second.most_threads});
  *out = known.get();
  return SUCCESS;
}
API int cuFuncSetAttribute(void* function, int attribute, int value) {
  CALL_IN_CONTEXT;
  if (attribute == 8) {
    if (value > device.shared_of_block) {
      return refuse(INVALID_VALUE, "%s: %d bytes of shared memory, of %d",
                    ((Function*)function)->kernel->name, value, device.shared_of_block);
    }
    ((Function*)function)->most_shared = value;
  }
  return SUCCESS;
}
API int cuFuncGetAttribute(int* value, int attribute, void* function) {
  const Function* f = (const Function*)function;
  *value = attribute == 0 ? (int)f->most_threads : attribute == 8 ? f->most_shared : 0;
  return SUCCESS;
}

static void note_launch(const char* kernel, uint3 grid, unsigned threads, unsigned shared_bytes) {
  static const char* name = getenv("RETMASK_EMULATED_LAUNCHES");
  static FILE* file = name != nullptr ? fopen(name, "a") : nullptr;
  if (file != nullptr) {
    fprintf(file, "%s %u %u %u %u %u\n", kernel, grid.x, grid.y, grid.z, threads, shared_bytes);
    fflush(file);
  }
}

API int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                       unsigned bz, unsigned shared_bytes, void* stream, void** arguments, void**) {
  CALL_IN_CONTEXT;
  Function* f = (Function*)function;
  const emulator::Kernel& k = *f->kernel;
  const unsigned long long threads = (unsigned long long)bx * by * bz;
  if (gx == 0 || gy == 0 || gz == 0 || gx > 0x7fffffffu || gy > 65535 || gz > 65535 || threads == 0 ||
      threads > f->most_threads || bz > 64) {
    return refuse(INVALID_VALUE, "%s: grid (%u,%u,%u) of (%u,%u,%u) threads is out of range", k.name,
                  gx, gy, gz, bx, by, bz);
  }
  if ((int)shared_bytes > f->most_shared) {
    return refuse(INVALID_VALUE, "%s: %u bytes of shared memory, of %d allowed", k.name, shared_bytes,
                  f->most_shared);
  }
  note_launch(k.name, {gx, gy, gz}, bx * by * bz, shared_bytes);
  Call call{f, {gx, gy, gz}, {bx, by, bz}, shared_bytes, {}};
  for (int i = 0; i < k.parameters; i++) {
    const char* value = (const char*)arguments[i];
    call.arguments.emplace_back(value, value + k.parameter[i].bytes);
    if (k.parameter[i].pointer) {
      Address a;
      memcpy(&a, value, 8);
      if (a != 0 && !inside(a, 0)) {
        return refuse(INVALID_VALUE, "%s: argument %d points to %s", k.name, i,
                      emulator::describe_address((const void*)a).c_str());
      }
    }
  }
  return enqueue(stream, std::move(call));
}

// --- memory -----------------------------------------------------------------------------------------

API int cuMemAlloc_v2(Address* out, size_t bytes) {
  CALL_IN_CONTEXT;
  UNSAFE("an allocation out of the order of streams");
  return allocate(out, bytes, false);
}
API int cuMemFree_v2(Address a) {
  CALL_IN_CONTEXT;
  UNSAFE("a free out of the order of streams");
  drain_all();
  return release(a);
}
// A driver would make nodes of these two; no graph of ours has any.
API int cuMemAllocAsync(Address* out, size_t bytes, void* stream) {
  CALL_IN_CONTEXT;
  Stream* s = stream_of(stream);
  if (s == nullptr) {
    return refuse(INVALID_HANDLE, "a stream that does not exist");
  }
  if (s->capture != nullptr) {
    return refuse_on(s, "an allocation");
  }
  return allocate(out, bytes, true);
}
API int cuMemFreeAsync(Address a, void* stream) {
  CALL_IN_CONTEXT;
  Stream* s = stream_of(stream);
  if (s != nullptr && s->capture != nullptr) {
    return refuse_on(s, "a free");
  }
  if (allocations.count(a) == 0) {
    return refuse(INVALID_VALUE, "free of %llx, which is no allocation", a);
  }
  return enqueue(stream, [=] { return release(a); });
}
API int cuMemGetInfo_v2(size_t* free, size_t* total) {
  CALL_IN_CONTEXT;
  *total = total_memory();
  *free = free_memory();
  return SUCCESS;
}
API int cuDeviceGetMemPool(void** out, int ordinal) {
  CALL;
  *out = &pool;
  return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}
API int cuMemPoolSetAttribute(void* of, int attribute, const void* value) {
  CALL;
  if (of != &pool || attribute != 4) {  // the release threshold
    return refuse(INVALID_VALUE, "setting attribute %d of a memory pool", attribute);
  }
  memcpy(&pool.threshold, value, 8);
  return SUCCESS;
}
API int cuMemPoolGetAttribute(void* of, int attribute, void* value) {
  CALL;
  if (of != &pool || (attribute != 4 && attribute != 5 && attribute != 7)) {
    return refuse(INVALID_VALUE, "asking for attribute %d of a memory pool", attribute);
  }
  const unsigned long long number = attribute == 4   ? pool.threshold
                                    : attribute == 5 ? pool.reserved()
                                                     : pool.used();
  memcpy(value, &number, 8);
  return SUCCESS;
}
API int cuMemPoolTrimTo(void* of, size_t keep) {
  CALL;
  if (of != &pool) {
    return refuse(INVALID_VALUE, "a memory pool that does not exist");
  }
  pool.trim(keep);
  return SUCCESS;
}
API int cuMemHostAlloc(void** out, size_t bytes, unsigned) {
  CALL_IN_CONTEXT;
  *out = aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
  pinned[(const char*)*out] = bytes;
  return SUCCESS;
}
API int cuMemAllocHost_v2(void** out, size_t bytes) { return cuMemHostAlloc(out, bytes, 0); }
API int cuMemFreeHost(void* p) {
  CALL_IN_CONTEXT;
  drain_all();
  if (pinned.erase((const char*)p) == 0) {
    return refuse(INVALID_VALUE, "free of host memory that was not pinned");
  }
  free(p);
  return SUCCESS;
}
API int cuMemHostRegister_v2(void* p, size_t bytes, unsigned) {
  CALL_IN_CONTEXT;
  UNSAFE("pinning memory");
  pinned[(const char*)p] = bytes;
  return SUCCESS;
}
API int cuMemHostUnregister(void* p) {
  CALL_IN_CONTEXT;
  drain_all();
  return pinned.erase((const char*)p) != 0 ? SUCCESS : INVALID_VALUE;
}

API int cuMemcpyHtoDAsync_v2(Address dst, const void* src, size_t bytes, void* stream) {
  CALL_IN_CONTEXT;
  if (!check(dst, bytes, "copy to the device")) {
    return INVALID_VALUE;
  }
  if (is_pinned(src, bytes)) {
    return enqueue(stream, [=] { return copy(dst, (Address)src, bytes); });
  }
  Stream* s = stream_of(stream);
  if (s != nullptr && s->capture != nullptr) {
    return refuse_on(s, "a copy from memory that is not pinned");
  }
  std::vector<char> staged((const char*)src, (const char*)src + bytes);
  return enqueue(stream, [=] { return copy(dst, (Address)staged.data(), bytes); });
}
API int cuMemcpyDtoHAsync_v2(void* dst, Address src, size_t bytes, void* stream) {
  CALL_IN_CONTEXT;
  if (!check(src, bytes, "copy from the device")) {
    return INVALID_VALUE;
  }
  Stream* s = stream_of(stream);
  if (s != nullptr && s->capture != nullptr && !is_pinned(dst, bytes)) {
    return refuse_on(s, "a copy to memory that is not pinned");
  }
  const int result = enqueue(stream, [=] {
    if (idle) {
      memset(dst, 0, bytes);
    }
    return copy((Address)dst, src, bytes);
  });
  return result != SUCCESS || s->capture != nullptr || is_pinned(dst, bytes) ? result : drain(s);
}
API int cuMemcpyDtoDAsync_v2(Address dst, Address src, size_t bytes, void* stream) {
  CALL_IN_CONTEXT;
  if (!check(dst, bytes, "copy") || !check(src, bytes, "copy")) {
    return INVALID_VALUE;
  }
  return enqueue(stream, [=] { return copy(dst, src, bytes); });
}
API int cuMemcpyHtoD_v2(Address dst, const void* src, size_t bytes) {
  CALL;
  UNSAFE("a copy that is waited for");
  return cuMemcpyHtoDAsync_v2(dst, src, bytes, nullptr);
}
API int cuMemcpyDtoH_v2(void* dst, Address src, size_t bytes) {
  CALL;
  UNSAFE("a copy that is waited for");
  return cuMemcpyDtoHAsync_v2(dst, src, bytes, nullptr);
}
API int cuMemcpyDtoD_v2(Address dst, Address src, size_t bytes) {
  CALL;
  UNSAFE("a copy on the null stream");
  return cuMemcpyDtoDAsync_v2(dst, src, bytes, nullptr);
}
API int cuMemsetD8Async(Address dst, unsigned char value, size_t bytes, void* stream) {
  CALL_IN_CONTEXT;
  if (!check(dst, bytes, "fill")) {
    return INVALID_VALUE;
  }
  return enqueue(stream, [=] {
    if (!idle) {
      memset((void*)dst, value, bytes);
    }
    return SUCCESS;
  });
}
API int cuMemsetD32Async(Address dst, unsigned value, size_t count, void* stream) {
  CALL_IN_CONTEXT;
  if (!check(dst, count * 4, "fill") || dst % 4 != 0) {
    return INVALID_VALUE;
  }
  return enqueue(stream, [=] {
    std::fill_n((unsigned*)dst, count, value);
    return SUCCESS;
  });
}
API int cuMemsetD8_v2(Address dst, unsigned char value, size_t bytes) {
  CALL;
  UNSAFE("a fill on the null stream");
  return cuMemsetD8Async(dst, value, bytes, nullptr);
}
API int cuMemsetD32_v2(Address dst, unsigned value, size_t count) {
  CALL;
  UNSAFE("a fill on the null stream");
  return cuMemsetD32Async(dst, value, count, nullptr);
}

// --- streams, events, graphs ------------------------------------------------------------------------

API int cuStreamCreate(void** out, unsigned flags) {
  CALL_IN_CONTEXT;
  Stream* s = new Stream{(flags & 1) == 0, {}, nullptr};
  streams.insert(s);
  *out = s;
  return SUCCESS;
}
API int cuStreamCreateWithPriority(void** out, unsigned flags, int) {
  return cuStreamCreate(out, flags);
}
API int cuStreamDestroy_v2(void* stream) {
  CALL_IN_CONTEXT;
  Stream* s = stream_of(stream);
  if (s == nullptr || s == &null_stream) {
    return refuse(INVALID_HANDLE, "a stream that does not exist");
  }
  drain(s);
  streams.erase(s);
  delete s;
  return SUCCESS;
}
API int cuStreamSynchronize(void* stream) {
  CALL_IN_CONTEXT;
  Stream* s = stream_of(stream);
  return s == nullptr ? refuse(INVALID_HANDLE, "a stream that does not exist")
         : s->capture != nullptr ? refuse_on(s, "a wait")
                                 : waited(drain(s));
}
API int cuStreamQuery(void* stream) {
  CALL_IN_CONTEXT;
  Stream* s = stream_of(stream);
  return s == nullptr            ? INVALID_HANDLE
         : s->capture != nullptr ? refuse_on(s, "a question for its state")
         : s->work.empty()       ? broken
                                 : NOT_READY;
}
API int cuStreamWaitEvent(void* stream, void* event, unsigned) {
  CALL_IN_CONTEXT;
  Event* e = (Event*)event;
  return enqueue(stream, [=] { return e->stream == nullptr ? (int)SUCCESS : drain(e->stream); });
}
API int cuEventCreate(void** out, unsigned) {
  *out = new Event();
  return SUCCESS;
}
API int cuEventDestroy_v2(void* event) {
  CALL_IN_CONTEXT;
  drain_all();
  delete (Event*)event;
  return SUCCESS;
}
API int cuEventRecord(void* event, void* stream) {
  CALL_IN_CONTEXT;
  Event* e = (Event*)event;
  e->stream = stream_of(stream);
  return enqueue(stream, [=] {
    e->stream = nullptr;
    e->time = std::chrono::steady_clock::now();
    return SUCCESS;
  });
}
API int cuEventSynchronize(void* event) {
  CALL_IN_CONTEXT;
  Event* e = (Event*)event;
  return waited(e->stream == nullptr ? broken : drain(e->stream));
}
API int cuEventQuery(void* event) {
  CALL_IN_CONTEXT;
  return ((Event*)event)->stream == nullptr ? broken : NOT_READY;
}
API int cuEventElapsedTime(float* milliseconds, void* start, void* end) {
  CALL_IN_CONTEXT;
  Event *a = (Event*)start, *b = (Event*)end;
  if (a->stream != nullptr || b->stream != nullptr) {
    return NOT_READY;
  }
  *milliseconds = std::chrono::duration<float, std::milli>(b->time - a->time).count();
  return SUCCESS;
}
API int cuStreamBeginCapture_v2(void* stream, int mode) {
  CALL_IN_CONTEXT;
  Stream* s = stream_of(stream);
  if (s == nullptr || s == &null_stream || s->capture != nullptr) {
    return refuse(CAPTURE_UNSUPPORTED, "a stream that can't be captured");
  }
  s->capture.reset(new Capture{{}, mode, std::this_thread::get_id()});
  return SUCCESS;
}
API int cuStreamEndCapture(void* stream, void** graph) {
  CALL_IN_CONTEXT;
  Stream* s = stream_of(stream);
  *graph = nullptr;
  if (s == nullptr || s->capture == nullptr) {
    return refuse(CAPTURE_UNSUPPORTED, "the end of a capture that never began");
  }
  if (s->capture->mode != 2 && s->capture->thread != std::this_thread::get_id()) {
    return refuse(CAPTURE_WRONG_THREAD, "the end of another thread's capture");
  }
  const std::unique_ptr<Capture> capture = std::move(s->capture);
  if (capture->spoilt) {
    return CAPTURE_INVALIDATED;  // the last error says why
  }
  *graph = new Graph(capture->graph);
  return SUCCESS;
}
API int cuGraphInstantiateWithFlags(void** out, void* graph, unsigned long long) {
  CALL_IN_CONTEXT;
  if (graph == nullptr) {
    return refuse(INVALID_VALUE, "no graph to make ready");
  }
  *out = new Graph(*(Graph*)graph);
  graphs_made++;
  return SUCCESS;
}
API int cuGraphLaunch(void* graph, void* stream) {
  CALL_IN_CONTEXT;
  Stream* s = stream_of(stream);
  if (s != nullptr && s->capture != nullptr) {
    return refuse_on(s, "the launch of another graph");
  }
  for (const Work& work : ((Graph*)graph)->work) {
    if (int result = enqueue(stream, work)) {
      return result;
    }
  }
  return SUCCESS;
}
API int cuGraphDestroy(void* graph) {
  delete (Graph*)graph;
  return SUCCESS;
}
API int cuGraphExecDestroy(void* graph) {
  delete (Graph*)graph;
  return SUCCESS;
}

// --- errors -----------------------------------------------------------------------------------------

static const char* error_name(int result) {
  switch (result) {
    case SUCCESS:
      return "CUDA_SUCCESS";
    case INVALID_VALUE:
      return "CUDA_ERROR_INVALID_VALUE";
    case OUT_OF_MEMORY:
      return "CUDA_ERROR_OUT_OF_MEMORY";
    case INVALID_DEVICE:
      return "CUDA_ERROR_INVALID_DEVICE";
    case INVALID_IMAGE:
      return "CUDA_ERROR_INVALID_IMAGE";
    case UNSUPPORTED_PTX_VERSION:
      return "CUDA_ERROR_UNSUPPORTED_PTX_VERSION";
    case INVALID_CONTEXT:
      return "CUDA_ERROR_INVALID_CONTEXT";
    case INVALID_HANDLE:
      return "CUDA_ERROR_INVALID_HANDLE";
    case NOT_FOUND:
      return "CUDA_ERROR_NOT_FOUND";
    case NOT_READY:
      return "CUDA_ERROR_NOT_READY";
    case ILLEGAL_ADDRESS:
      return "CUDA_ERROR_ILLEGAL_ADDRESS";
    case LAUNCH_FAILED:
      return "CUDA_ERROR_LAUNCH_FAILED";
    case CAPTURE_UNSUPPORTED:
      return "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED";
    case CAPTURE_INVALIDATED:
      return "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED";
    case CAPTURE_IMPLICIT:
      return "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT";
    case CAPTURE_WRONG_THREAD:
      return "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD";
    default:
      return "CUDA_ERROR_UNKNOWN";
  }
}
API int cuGetErrorName(int result, const char** out) {
  *out = error_name(result);
  return SUCCESS;
}
// The words of the emulator about the last failure: they say more than the driver's would.
API int cuGetErrorString(int result, const char** out) {
  *out = result == SUCCESS || last_error[0] == 0 ? error_name(result) : last_error;
  return SUCCESS;
}
