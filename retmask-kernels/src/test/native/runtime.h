// Between the driver and the emulator: how a kernel is run.
#pragma once
#include <string>
#include "emulator.h"

namespace emulator {

enum Order { ASCENDING, DESCENDING, RANDOM, ALL };

// How threads and blocks take turns, and whether copies land at once or late. ALL is for the driver,
// which then runs each kernel in each of the others.
struct Schedule {
  Order order;
  bool eager;
};

struct Launch {
  const Kernel* kernel;
  uint3 grid, block;
  unsigned shared_bytes;
  void* const* arguments;
  Schedule schedule;
};

// The kernel of that name among all linked in, or null.
const Kernel* find_kernel(const std::string& name);

// Runs all blocks; "" or what went wrong.
std::string run(const Launch& launch);

// Seconds after which a kernel has failed.
extern int time_limit;

// What is known of an address that faulted, such as the allocation before it: the driver's.
std::string describe_address(const void* address);

}  // namespace emulator
