package io.github.retmask.kernels.cuda;

import io.github.retmask.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.IntSupplier;
import jcuda.Pointer;
import jcuda.driver.CUcontext;
import jcuda.driver.CUdevice;
import jcuda.driver.CUdevice_attribute;
import jcuda.driver.CUdeviceptr;
import jcuda.driver.CUfunction;
import jcuda.driver.CUfunction_attribute;
import jcuda.driver.CUgraph;
import jcuda.driver.CUgraphExec;
import jcuda.driver.CUjit_option;
import jcuda.driver.CUmodule;
import jcuda.driver.CUresult;
import jcuda.driver.CUstream;
import jcuda.driver.CUstreamCaptureMode;
import jcuda.driver.CUstream_flags;
import jcuda.driver.JCudaDriver;
import org.jspecify.annotations.Nullable;

/// Every call of the CUDA driver: one device, its primary context and one stream, in whose order all
/// work is done, captured graphs included. Addresses are plain longs. Each call checks its return
/// code; a failure says what was asked for.
final class CudaDriver implements AutoCloseable {
  private static final int LOG_BYTES = 4096; // of the compiler

  private final CUdevice device = new CUdevice();
  private final CUcontext context = new CUcontext();
  private final CUstream stream;
  private @Nullable CUstream capturing; // for captures alone
  private final MemoryPool pool; // that allocations come from
  private final String name;
  private final Map<String, CUmodule> modules = new HashMap<>();
  private final Map<String, Integer> sharedBytesOf = new HashMap<>(); // kernels beyond 48 KiB
  private volatile String lastLaunch = "no kernel";
  private volatile Thread current = Thread.currentThread();

  /// A device address as JCuda wants it.
  private static final class Address extends CUdeviceptr {
    private static final CUdeviceptr ZERO = new CUdeviceptr();

    Address() {}

    Address(long address) {
      super(ZERO, address);
    }

    long value() {
      return getNativePointer() + getByteOffset();
    }
  }

  /// A device address as JCuda's libraries want it.
  static Pointer pointer(long address) {
    return new Address(address);
  }

  /// A host address as JCuda wants it.
  private static final class HostAddress extends Pointer {
    HostAddress(MemorySegment memory) {
      super(memory.address());
    }
  }

  private static @Nullable CudaDriver shared; // of those who use the device now
  private static int users;

  /// Takes the first device. JCuda is loaded before, see [CudaLibrary]. All who have taken it at a time
  /// share one stream, so that each finds what the others computed.
  static synchronized CudaDriver take() {
    CudaDriver driver = shared;
    if (driver == null) {
      driver = new CudaDriver(0);
      shared = driver;
    }
    users++;
    return driver;
  }

  private CudaDriver(int ordinal) {
    JCudaDriver.setExceptionsEnabled(false);
    check(JCudaDriver.cuInit(0), "start the driver");
    check(JCudaDriver.cuDeviceGet(device, ordinal), "take device " + ordinal);
    byte[] text = new byte[256];
    check(JCudaDriver.cuDeviceGetName(text, text.length, device), "name device " + ordinal);
    name = new String(text, StandardCharsets.UTF_8).trim();
    // The primary context: the one cuBLAS uses.
    check(JCudaDriver.cuDevicePrimaryCtxRetain(context, device), "open " + name);
    check(JCudaDriver.cuCtxSetCurrent(context), "use " + name);
    stream = newStream();
    pool = new MemoryPool(ordinal, this::check);
  }

  private CUstream newStream() {
    CUstream made = new CUstream();
    int flags = CUstream_flags.CU_STREAM_NON_BLOCKING;
    check(JCudaDriver.cuStreamCreate(made, flags), "make a stream");
    return made;
  }

  /// Name of the device.
  String deviceName() {
    return name;
  }

  /// The stream, for libraries that queue work on it.
  CUstream stream() {
    return stream;
  }

  /// Makes the context the calling thread's; every other method wants it so.
  void enter() {
    if (current != Thread.currentThread()) {
      check(JCudaDriver.cuCtxSetCurrent(context), "use " + name);
      current = Thread.currentThread();
    }
  }

  /// Streaming multiprocessors of the device.
  int multiprocessors() {
    return attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  }

  /// Bytes of shared memory that a block may ask for.
  int sharedBytes() {
    return attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
  }

  private int attribute(int which) {
    int[] value = new int[1];
    check(JCudaDriver.cuDeviceGetAttribute(value, which, device), "ask for attribute " + which);
    return value[0];
  }

  // --- memory ---------------------------------------------------------------------------------

  /// Device memory, 256-byte aligned, of undefined contents.
  ///
  /// @throws OutOfMemoryError saying what was asked for and what is free
  long allocate(long bytes) {
    Address address = new Address();
    int rc = takingMemory(() -> JCudaDriver.cuMemAllocAsync(address, bytes, stream));
    if (rc == CUresult.CUDA_ERROR_OUT_OF_MEMORY) {
      long[] free = new long[1];
      long[] total = new long[1];
      JCudaDriver.cuMemGetInfo(free, total);
      throw new OutOfMemoryError(
          "%s has %,d of %,d bytes free, asked for %,d".formatted(name, free[0], total[0], bytes));
    }
    check(rc, "allocate " + bytes + " bytes");
    return address.value();
  }

  /// Makes a call that takes device memory; where that is short, a second time after [#trim].
  private int takingMemory(IntSupplier call) {
    int rc = call.getAsInt();
    if (rc == CUresult.CUDA_ERROR_OUT_OF_MEMORY) {
      trim();
      rc = call.getAsInt();
    }
    return rc;
  }

  /// Gives memory that was freed, and that the pool keeps for allocations to come, back to the system:
  /// for one that fits into none of its pieces, and for what does not come from the pool, such as
  /// modules, graphs and the memory of libraries.
  void trim() {
    synchronize(); // or it would count as in use
    pool.trim();
  }

  /// Gives memory back once the work queued so far is done.
  void free(long address) {
    check(JCudaDriver.cuMemFreeAsync(new Address(address), stream), "free memory");
  }

  /// Bytes of device memory that are free once the work queued so far is done, for which it waits.
  long freeBytes() {
    synchronize();
    long[] free = new long[1];
    check(JCudaDriver.cuMemGetInfo(free, new long[1]), "ask for free memory");
    return free[0] + pool.unusedBytes();
  }

  /// Sets memory to zero.
  void zero(long address, long bytes, CUstream on) {
    if (bytes > 0) {
      check(
          JCudaDriver.cuMemsetD8Async(new Address(address), (byte) 0, bytes, on),
          "zero " + bytes + " bytes");
    }
  }

  /// Pins host memory, so that copies from it run in the background.
  void pin(MemorySegment memory) {
    check(
        JCudaDriver.cuMemHostRegister(new HostAddress(memory), memory.byteSize(), 0),
        "pin " + memory.byteSize() + " bytes");
  }

  /// Undoes [#pin].
  void unpin(MemorySegment memory) {
    check(JCudaDriver.cuMemHostUnregister(new HostAddress(memory)), "unpin memory");
  }

  /// Queues a copy to the device; `from` stays as it is until the copy is done.
  void copyToDevice(long to, MemorySegment from) {
    if (from.byteSize() > 0) {
      check(
          JCudaDriver.cuMemcpyHtoDAsync(
              new Address(to), new HostAddress(from), from.byteSize(), stream),
          "copy " + from.byteSize() + " bytes to the device");
    }
  }

  /// Queues a copy to the host.
  void copyToHost(MemorySegment to, long from) {
    if (to.byteSize() > 0) {
      check(
          JCudaDriver.cuMemcpyDtoHAsync(
              new HostAddress(to), new Address(from), to.byteSize(), stream),
          "copy " + to.byteSize() + " bytes to the host");
    }
  }

  /// Queues a copy within the device.
  void copy(long to, long from, long bytes, CUstream on) {
    if (bytes > 0) {
      check(
          JCudaDriver.cuMemcpyDtoDAsync(new Address(to), new Address(from), bytes, on),
          "copy " + bytes + " bytes");
    }
  }

  /// Waits until all queued work is done.
  void synchronize() {
    check(JCudaDriver.cuStreamSynchronize(stream), "run what was queued up to " + lastLaunch);
  }

  // --- kernels --------------------------------------------------------------------------------

  /// Loads a module of kernels, once for all who share the device.
  ///
  /// @param ptx its text
  /// @param what its name
  synchronized CUmodule loadModule(byte[] ptx, String what) {
    CUmodule module = modules.get(what);
    if (module == null) {
      Pointer image =
          Pointer.to(java.util.Arrays.copyOf(ptx, ptx.length + 1)); // ends in a zero byte
      module = new CUmodule();
      CUmodule loaded = module;
      int rc =
          takingMemory(
              () ->
                  JCudaDriver.cuModuleLoadDataEx(
                      loaded, image, 0, new int[0], Pointer.to(new int[0])));
      if (rc != 0) {
        check(rc, "load the kernels of %s (%s)".formatted(what, compilerLog(image)));
      }
      modules.put(what, module);
    }
    return module;
  }

  /// What the driver's compiler says of a module that it refuses.
  private static String compilerLog(Pointer image) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment log = arena.allocate(LOG_BYTES);
      MemorySegment values =
          arena.allocateFrom(ValueLayout.JAVA_LONG, log.address(), log.byteSize());
      int[] options = {
        CUjit_option.CU_JIT_ERROR_LOG_BUFFER, CUjit_option.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES
      };
      JCudaDriver.cuModuleLoadDataEx(
          new CUmodule(), image, options.length, options, new HostAddress(values));
      return log.getString(0).strip();
    }
  }

  /// A kernel of a module.
  CUfunction function(CUmodule module, String kernel) {
    CUfunction function = new CUfunction();
    check(
        takingMemory(() -> JCudaDriver.cuModuleGetFunction(function, module, kernel)),
        "find kernel " + kernel);
    return function;
  }

  /// Lets a kernel use more shared memory than the 48 KiB that every kernel may, and what it was let
  /// use before for others who share the device.
  synchronized void allowShared(CUfunction function, String kernel, int bytes) {
    int most = Math.max(bytes, sharedBytesOf.getOrDefault(kernel, 0));
    check(
        JCudaDriver.cuFuncSetAttribute(
            function, CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most),
        "let kernel %s use %d bytes of shared memory".formatted(kernel, most));
    sharedBytesOf.put(kernel, most);
  }

  /// Queues a kernel.
  ///
  /// @param kernel its name
  /// @param first its first tensor, for messages
  /// @param arguments an array of pointers to the arguments
  void launch(
      CUfunction function,
      String kernel,
      @Nullable Tensor first,
      int gridX,
      int gridY,
      int gridZ,
      int threads,
      int sharedBytes,
      Pointer arguments,
      CUstream on) {
    int rc =
        takingMemory( // the driver may load a kernel when it is first launched
            () ->
                JCudaDriver.cuLaunchKernel(
                    function,
                    gridX,
                    gridY,
                    gridZ,
                    threads,
                    1,
                    1,
                    sharedBytes,
                    on,
                    arguments,
                    null));
    if (rc != 0) {
      check(
          rc,
          "launch %s on %s with %d x %d x %d blocks of %d threads and %d bytes of shared memory"
              .formatted(kernel, first, gridX, gridY, gridZ, threads, sharedBytes));
    }
    lastLaunch = kernel;
  }

  // --- graphs ---------------------------------------------------------------------------------

  /// Makes a graph of what `work` queues on the stream that it is given; nothing of it runs. That stream
  /// is one of its own, so what other threads queue meanwhile stays out of the graph.
  ///
  /// @param calls their number, for messages
  synchronized CUgraphExec capture(Consumer<CUstream> work, int calls) {
    String what = "capture %d calls in a graph".formatted(calls);
    CUstream on = capturing;
    if (on == null) {
      on = newStream();
      capturing = on;
    }
    CUgraph graph = new CUgraph();
    int mode = CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    check(JCudaDriver.cuStreamBeginCapture(on, mode), what);
    int rc;
    try {
      work.accept(on);
    } finally {
      rc = JCudaDriver.cuStreamEndCapture(on, graph);
    }
    check(rc, what);
    CUgraphExec ready = new CUgraphExec();
    try {
      check(
          takingMemory(() -> JCudaDriver.cuGraphInstantiate(ready, graph, 0)),
          "make a graph of %d calls ready".formatted(calls));
    } finally {
      check(JCudaDriver.cuGraphDestroy(graph), "drop a captured graph");
    }
    return ready;
  }

  /// Queues a graph.
  ///
  /// @param calls in it, for messages
  void launch(CUgraphExec graph, int calls) {
    String what = "a graph of %d calls".formatted(calls);
    check(JCudaDriver.cuGraphLaunch(graph, stream), "launch " + what);
    lastLaunch = what;
  }

  /// Gives a graph back once it has run.
  void drop(CUgraphExec graph) {
    check(JCudaDriver.cuGraphExecDestroy(graph), "drop a graph");
  }

  private void check(int rc, String what) {
    if (rc == 0) {
      return;
    }
    String[] code = {"unknown"};
    String[] meaning = {"unknown"};
    JCudaDriver.cuGetErrorName(rc, code);
    JCudaDriver.cuGetErrorString(rc, meaning);
    throw new IllegalStateException(
        "cuda: cannot %s: %s (%d, %s); last kernel: %s"
            .formatted(what, code[0], rc, meaning[0], lastLaunch));
  }

  /// Leaves the device; the last one to do so ends the stream.
  @Override
  public void close() {
    synchronized (CudaDriver.class) {
      enter();
      synchronize();
      if (--users > 0) {
        return;
      }
      shared = null;
      pool.trim();
      if (capturing != null) {
        check(JCudaDriver.cuStreamDestroy(capturing), "drop the stream of captures");
      }
      check(JCudaDriver.cuStreamDestroy(stream), "drop the stream");
      check(JCudaDriver.cuDevicePrimaryCtxRelease(device), "leave " + name);
    }
  }
}
