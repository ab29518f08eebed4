package io.github.retmask.kernels.cuda;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;

/// The pool that a device's stream-ordered allocations come from, for [CudaDriver]: the calls that
/// JCuda 12.6 has no binding for, through the foreign-function API.
///
/// A pool as the driver makes it gives what it holds unused back to the system whenever something is
/// waited for, and must map memory anew for what comes next. Ours keeps it until [#trim].
@SuppressWarnings("restricted") // native code is what this class is about
final class MemoryPool {
  private static final int RELEASE_THRESHOLD = 4; // of CUmemPool_attribute
  private static final int RESERVED = 5;
  private static final int USED = 7;
  private static final long ALL = -1; // as unsigned

  private static final FunctionDescriptor ATTRIBUTE =
      FunctionDescriptor.of(
          ValueLayout.JAVA_INT, ValueLayout.ADDRESS, ValueLayout.JAVA_INT, ValueLayout.ADDRESS);

  /// What gets a driver's return code and what was asked of it, and throws where that failed.
  interface Check {
    void check(int rc, String what);
  }

  private final Check check;
  private final MemorySegment pool;
  private final MethodHandle get = CudaLibrary.function("cuMemPoolGetAttribute", ATTRIBUTE);
  private final MethodHandle trimTo =
      CudaLibrary.function(
          "cuMemPoolTrimTo",
          FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.ADDRESS, ValueLayout.JAVA_LONG));

  /// The pool in use of a device, which keeps what it holds from now on.
  MemoryPool(int device, Check check) {
    this.check = check;
    MethodHandle find =
        CudaLibrary.function(
            "cuDeviceGetMemPool",
            FunctionDescriptor.of(ValueLayout.JAVA_INT, ValueLayout.ADDRESS, ValueLayout.JAVA_INT));
    MethodHandle set = CudaLibrary.function("cuMemPoolSetAttribute", ATTRIBUTE);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment found = arena.allocate(ValueLayout.ADDRESS);
      check.check(call(find, found, device), "find the memory pool");
      pool = found.get(ValueLayout.ADDRESS, 0);
      MemorySegment threshold = arena.allocateFrom(ValueLayout.JAVA_LONG, ALL);
      check.check(call(set, pool, RELEASE_THRESHOLD, threshold), "keep memory in the pool");
    }
  }

  /// Bytes that the pool holds and no allocation takes.
  long unusedBytes() {
    return attribute(RESERVED) - attribute(USED);
  }

  private long attribute(int which) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment value = arena.allocate(ValueLayout.JAVA_LONG);
      check.check(call(get, pool, which, value), "ask the memory pool for attribute " + which);
      return value.get(ValueLayout.JAVA_LONG, 0);
    }
  }

  /// Gives back to the system what the pool holds unused, as far as what is in use lies elsewhere.
  /// Memory whose free has not been waited for may count as in use.
  void trim() {
    check.check(call(trimTo, pool, 0L), "trim the memory pool");
  }

  private static int call(MethodHandle function, Object... arguments) {
    try {
      return (int) function.invokeWithArguments(arguments);
    } catch (Throwable e) {
      throw new IllegalStateException("cuda: cannot call the driver: " + e, e);
    }
  }
}
