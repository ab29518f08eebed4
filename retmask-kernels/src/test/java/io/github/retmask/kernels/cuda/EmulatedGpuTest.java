package io.github.retmask.kernels.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Consumer;
import jcuda.Pointer;
import jcuda.cudaDataType;
import jcuda.driver.CUdeviceptr;
import jcuda.driver.CUgraphExec;
import jcuda.driver.CUmodule;
import jcuda.driver.CUresult;
import jcuda.driver.CUstream;
import jcuda.driver.JCudaDriver;
import jcuda.jcublas.JCublas2;
import jcuda.jcublas.cublasComputeType;
import jcuda.jcublas.cublasGemmAlgo;
import jcuda.jcublas.cublasHandle;
import jcuda.jcublas.cublasOperation;
import jcuda.jcublas.cublasStatus;
import jcuda.runtime.cudaStream_t;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// The emulated device itself: right kernels have the same right bits in all orders, and faults are
/// found and named. The kernels are in `src/test/native/probes.cu`.
@SuppressWarnings("restricted") // the stand-ins are native code
class EmulatedGpuTest {
  private static CudaDriver driver;
  private static CUmodule probes;
  private static Map<String, PtxEntry> entries;

  @BeforeAll
  static void open() {
    Assumptions.assumeFalse(TestGpu.isReal(), "tests the emulated device, this one is real");
    CudaLibrary.load(EmulatedGpu.driver());
    driver = CudaDriver.take();
    byte[] ptx =
        ptx(
            "probe_block_sum .u64 .u64 .u32",
            "probe_reverse .u64 .u64 .u32",
            "probe_product .u64 .u64 .u64",
            "probe_votes .u64",
            "probe_write .u64 .u32",
            "probe_write_wide .u64 .u32",
            "probe_index .u64 .u32",
            "probe_shared .u64 .u32",
            "probe_diverge .u64 .u32",
            "probe_endless .u64 .u32");
    probes = driver.loadModule(ptx, "probes");
    entries = PtxEntry.parse(new String(ptx, StandardCharsets.UTF_8));
  }

  @AfterEach
  void recover() {
    EmulatedGpu.recover();
    EmulatedGpu.timeLimit(600);
    EmulatedGpu.schedule(EmulatedGpu.Order.ASCENDING, EmulatedGpu.Copies.LATE);
  }

  @AfterAll
  static void close() {
    if (driver != null) {
      driver.close();
    }
  }

  @Test
  void saysWhatItIs() {
    assertEquals("host emulation", driver.deviceName());
  }

  // --- graphs ---------------------------------------------------------------------------------

  @Test
  void aGraphRunsWhatWasCapturedWithTheArgumentsOfThenOnTheMemoryOfNow() {
    long in = upload(numbers(256));
    long out = driver.allocate(4 * 32);
    int before = EmulatedGpu.graphsMade();
    CUgraphExec graph =
        driver.capture(
            stream -> {
              driver.zero(out, 4 * 32, stream);
              driver.copy(out + 8, in + 16, 8, stream);
            },
            2);
    assertEquals(before + 1, EmulatedGpu.graphsMade());
    for (int run = 1; run < 4; run++) {
      float[] x = new float[256];
      Arrays.fill(x, run);
      driver.copyToDevice(in, MemorySegment.ofBuffer(direct(x)));
      driver.launch(graph, 2);
      float[] want = new float[32];
      want[2] = run;
      want[3] = run;
      assertArrayEquals(want, download(out, 32));
    }
    driver.drop(graph);
    driver.free(in);
    driver.free(out);
  }

  @Test
  void aCaptureIsSpoiltByWhatMustNotHappenMeanwhile() {
    long memory = upload(numbers(4));
    Map<String, Consumer<CUstream>> spoilers =
        Map.of(
            "a wait,", JCudaDriver::cuStreamSynchronize,
            "a question for its state", JCudaDriver::cuStreamQuery,
            "an allocation,", s -> JCudaDriver.cuMemAllocAsync(new CUdeviceptr(), 8, s),
            "an allocation out of the order", s -> JCudaDriver.cuMemAlloc(new CUdeviceptr(), 8),
            "a wait for the context", s -> JCudaDriver.cuCtxSynchronize(),
            "memory that is not pinned",
                s ->
                    JCudaDriver.cuMemcpyHtoDAsync(
                        device(memory), Pointer.to(direct(new float[2])), 8, s),
            "waited for",
                s -> JCudaDriver.cuMemcpyHtoD(device(memory), Pointer.to(new float[2]), 8));
    spoilers.forEach(
        (words, spoiler) -> {
          IllegalStateException e =
              assertThrows(
                  IllegalStateException.class,
                  () ->
                      driver.capture(
                          stream -> {
                            driver.zero(memory, 4, stream);
                            spoiler.accept(stream);
                          },
                          1));
          assertTrue(e.getMessage().contains(words), words + ": " + e.getMessage());
          assertTrue(e.getMessage().contains("cannot capture 1 calls in a graph"), e.getMessage());
        });
    assertArrayEquals(numbers(4), download(memory, 4)); // nothing of all that ran
    driver.free(memory);
  }

  @Test
  void aGraphOfMemoryThatIsGoneFails() {
    long out = driver.allocate(4L * 256);
    long in = upload(numbers(256));
    CUgraphExec graph =
        driver.capture(
            stream -> {
              Launch.Kernel kernel =
                  new Launch.Kernel(
                      driver.function(probes, "probe_reverse"), entries.get("probe_reverse"));
              Step step = new Step(0, MemorySegment.NULL);
              new Launch(driver, () -> step)
                  .begin(kernel)
                  .address(out)
                  .address(in)
                  .integer(128)
                  .run(1, 1, 1, 32, 512);
              step.calls().getFirst().queue().accept(stream);
            },
            1);
    driver.launch(graph, 1);
    driver.synchronize();
    driver.free(out);
    driver.launch(graph, 1);
    IllegalStateException e = assertThrows(IllegalStateException.class, driver::synchronize);
    assertTrue(e.getMessage().contains("argument 0 points to"), e.getMessage());
    EmulatedGpu.recover();
    driver.drop(graph);
    driver.free(in);
  }

  private static java.nio.FloatBuffer direct(float... values) {
    return java.nio.ByteBuffer.allocateDirect(4 * values.length)
        .order(java.nio.ByteOrder.nativeOrder())
        .asFloatBuffer()
        .put(values)
        .flip();
  }

  // --- right kernels --------------------------------------------------------------------------

  @Test
  void barriersAndShufflesAddTheSameBitsInEveryOrder() {
    float[] x = numbers(256);
    List<float[]> results = inAllOrders(() -> run("probe_block_sum", 32, 256, 64, 0, x));
    assertAllEqual(results);
    double sum = 0;
    for (float v : x) {
      sum += v;
    }
    assertEquals(sum, results.getFirst()[0], 1e-5);
  }

  @Test
  void copiesInTheBackgroundLandBeforeTheirWait() {
    float[] x = numbers(128);
    List<float[]> results = inAllOrders(() -> run("probe_reverse", 128, 32, 512, 0, x));
    assertAllEqual(results);
    for (int i = 0; i < 128; i++) {
      assertEquals(x[127 - i], results.getFirst()[i]);
    }
  }

  @Test
  void tensorCoresMultiply() {
    Random random = new Random(5);
    float[] a = new float[256];
    float[] b = new float[128];
    for (int i = 0; i < a.length; i++) {
      a[i] = random.nextInt(-20, 20);
    }
    for (int i = 0; i < b.length; i++) {
      b[i] = random.nextInt(-20, 20);
    }
    float[] want = new float[128];
    for (int i = 0; i < 16; i++) {
      for (int j = 0; j < 8; j++) {
        for (int k = 0; k < 16; k++) {
          want[i * 8 + j] += a[i * 16 + k] * b[k * 8 + j];
        }
      }
    }
    inAllOrders(
        () -> {
          long deviceA = upload(a);
          long deviceB = upload(b);
          long out = driver.allocate(512);
          launch("probe_product")
              .address(out)
              .address(deviceA)
              .address(deviceB)
              .run(1, 1, 1, 32, 1024);
          float[] result = download(out, 128);
          assertArrayEquals(want, result);
          List.of(deviceA, deviceB, out).forEach(driver::free);
          return result;
        });
  }

  @Test
  void halvesOfAWarpTakePartInOperationsOfTheirOwn() {
    inAllOrders(
        () -> {
          long out = driver.allocate(128);
          launch("probe_votes").address(out).run(1, 32);
          float[] result = download(out, 32);
          for (int lane = 0; lane < 32; lane++) {
            int want =
                lane % 2 == 0 ? 2 * (lane / 4) : (lane ^ 2) + (lane ^ 4) + (lane ^ 8) + (lane ^ 16);
            assertEquals(want, Float.floatToRawIntBits(result[lane]));
          }
          driver.free(out);
          return result;
        });
  }

  @Test
  void cublasMultipliesInTheOrderOfTheStream() {
    loadCublas();
    // Row-major out[5,3] = x[5,4] w[3,4]^T is column-major out[3,5] = w[4,3]^T x[4,5].
    float[] x = numbers(20);
    float[] w = numbers(12);
    long deviceX = upload(x);
    long deviceW = upload(w);
    long out = driver.allocate(60);
    cublasHandle handle = new cublasHandle();
    assertEquals(0, JCublas2.cublasCreate(handle));
    assertEquals(0, JCublas2.cublasSetStream(handle, new cudaStream_t(driver.stream())));
    int[] ranges = {4, 3}; // the second leading dimension is too small
    for (int leading : ranges) {
      int rc =
          JCublas2.cublasGemmEx_new(
              handle,
              cublasOperation.CUBLAS_OP_T,
              cublasOperation.CUBLAS_OP_N,
              3,
              5,
              4,
              Pointer.to(new float[] {1}),
              device(deviceW),
              cudaDataType.CUDA_R_32F,
              leading,
              device(deviceX),
              cudaDataType.CUDA_R_32F,
              4,
              Pointer.to(new float[] {0}),
              device(out),
              cudaDataType.CUDA_R_32F,
              3,
              cublasComputeType.CUBLAS_COMPUTE_32F,
              cublasGemmAlgo.CUBLAS_GEMM_DEFAULT);
      assertEquals(
          leading == 4
              ? cublasStatus.CUBLAS_STATUS_SUCCESS
              : cublasStatus.CUBLAS_STATUS_INVALID_VALUE,
          rc);
    }
    float[] result = download(out, 15);
    for (int i = 0; i < 5; i++) {
      for (int j = 0; j < 3; j++) {
        float want = 0;
        for (int k = 0; k < 4; k++) {
          want += x[i * 4 + k] * w[j * 4 + k];
        }
        assertEquals(want, result[i * 3 + j]);
      }
    }
    assertEquals(0, JCublas2.cublasDestroy(handle));
    List.of(deviceX, deviceW, out).forEach(driver::free);
  }

  // --- faults ---------------------------------------------------------------------------------

  @Test
  void missingBarrierGivesOtherBitsInAnotherOrder() {
    assertDiffer(inAllOrders(() -> run("probe_block_sum", 32, 256, 64, 1, numbers(256))));
  }

  @Test
  void missingWaitGivesOtherBitsWhenCopiesLandLate() {
    assertDiffer(inAllOrders(() -> run("probe_reverse", 128, 32, 512, 1, numbers(128))));
  }

  @Test
  void kernelInAllOrdersFailsWhereBitsDiffer() {
    EmulatedGpu.schedule(EmulatedGpu.Order.ALL, EmulatedGpu.Copies.LATE);
    float[] x = numbers(256);
    run("probe_block_sum", 32, 256, 64, 0, x);
    run("probe_reverse", 128, 32, 512, 0, x);
    Executable noBarrier = () -> run("probe_block_sum", 32, 256, 64, 1, x);
    Executable noWait = () -> run("probe_reverse", 128, 32, 512, 1, x);
    for (Executable wrong : List.of(noBarrier, noWait)) {
      String message = assertThrows(IllegalStateException.class, wrong).getMessage();
      assertTrue(message.contains("depends on the order of the threads"), message);
      EmulatedGpu.recover();
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          probe_write      | 9    | past the end of an allocation of 36 bytes
          probe_write      | 12   | 12 bytes past the end of an allocation of 36 bytes
          probe_write      | -2000| before an allocation of 36 bytes
          probe_write_wide | 1    | not aligned to its type
          probe_index      | 4    | past the end of an array
          probe_shared     | 100  | past the end of 100 bytes of shared memory
          probe_shared     | -1   | before 100 bytes of shared memory
          probe_shared     | 128  | 28 bytes past the end of 100 bytes of shared memory
          probe_diverge    | 0    | stuck in the warp operation
          probe_diverge    | 1    | a shuffle: lane 0 reads lane 8, which takes no part
          probe_diverge    | 2    | the warp diverged
          probe_endless    | 1    | runs for more than 1 seconds
          """)
  void faultIsNamed(String kernel, int n, String words) {
    EmulatedGpu.timeLimit(1);
    int threads = kernel.equals("probe_diverge") ? 64 : 1;
    long out = driver.allocate(threads == 1 ? 36 : 256);
    launch(kernel).address(out).integer(n).run(1, 1, 1, threads, 100);
    String message = assertThrows(IllegalStateException.class, driver::synchronize).getMessage();
    assertTrue(message.contains(words), message);
    assertTrue(message.contains(kernel), message);
  }

  @Test
  void pointerThatIsNoneOfTheDeviceIsRefused() {
    Launch launch = launch("probe_write").address(4096).integer(0);
    assertThrows(IllegalStateException.class, () -> launch.run(1, 1));
  }

  @Test
  void kernelWithOtherParametersThanItsPtxIsRefused() {
    CUmodule stale = driver.loadModule(ptx("probe_write .u64 .u64"), "stale");
    assertThrows(IllegalStateException.class, () -> driver.function(stale, "probe_write"));
    assertThrows(IllegalStateException.class, () -> driver.function(stale, "probe_index"));
  }

  @Test
  void whatTheCompilerSaysOfPtxIsToldOn() {
    byte[] newer = ".version 8.5\n.target sm_80\n".getBytes(StandardCharsets.UTF_8);
    String message =
        assertThrows(IllegalStateException.class, () -> driver.loadModule(newer, "newer"))
            .getMessage();
    assertTrue(
        message.contains("kernels of newer (the compiler says: PTX of a version above 8.0)"),
        message);
  }

  @Test
  void pinnedMemoryIsReadWhenTheCopyRuns() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment host = arena.allocate(4096, 4096);
      driver.pin(host);
      long device = driver.allocate(4);
      driver.copyToDevice(device, host.asSlice(0, 4));
      host.set(ValueLayout.JAVA_FLOAT, 0, 7f); // too early
      assertEquals(7f, download(device, 1)[0]);
      driver.unpin(host);
      driver.free(device);
    }
  }

  @Test
  void threadsWithoutTheContextAreRefused() throws Exception {
    String[] messages = new String[1];
    Thread other =
        new Thread(
            () -> {
              messages[0] =
                  assertThrows(IllegalStateException.class, () -> driver.allocate(4)).getMessage();
              driver.enter();
              driver.free(driver.allocate(4));
            });
    other.start();
    other.join();
    assertTrue(messages[0].contains("the thread has no context"), messages[0]);
    driver.enter();
    driver.free(driver.allocate(4));
  }

  @Test
  void devicesThatTheKernelsAreNotForAreNotTaken() {
    System.setProperty(CudaLibrary.DRIVER_PROPERTY, EmulatedGpu.driver().toString());
    try {
      assertNull(CudaLibrary.whyUnavailable());
      EmulatedGpu.capability(7, 5);
      assertEquals(
          "the GPU has compute capability 7.5, want 8.0 or newer", CudaLibrary.whyUnavailable());
    } finally {
      EmulatedGpu.capability(8, 0);
      System.clearProperty(CudaLibrary.DRIVER_PROPERTY);
    }
  }

  /// Memory is given back in the order of the stream: who asks what is free, or for more than is, waits.
  @Test
  void memoryThatIsStillToBeFreedCounts() {
    long free = driver.freeBytes();
    long pieces = systemFreeBytes(); // the rest is between what is in use
    long most = driver.allocate(pieces);
    assertEquals(free - pieces, driver.freeBytes());
    driver.free(most);
    most = driver.allocate(pieces);
    assertThrows(OutOfMemoryError.class, () -> driver.allocate(pieces));
    driver.free(most);
    assertEquals(free, driver.freeBytes());
  }

  /// A new pool would give it back whenever someone waits.
  @Test
  void thePoolKeepsWhatIsFreedAndItCountsAsFree() {
    driver.trim();
    long free = driver.freeBytes();
    long bytes = 64L << 20;
    long system = systemFreeBytes();
    driver.free(driver.allocate(bytes));
    assertEquals(free, driver.freeBytes());
    driver.synchronize();
    assertEquals(system - bytes, systemFreeBytes());
    driver.free(driver.allocate(bytes)); // what the pool holds serves again
    assertEquals(system - bytes, systemFreeBytes());
    driver.trim();
    assertEquals(system, systemFreeBytes());
    assertEquals(free, driver.freeBytes());
  }

  /// What the pool keeps is in pieces, and a larger one than each is wanted.
  @Test
  void trimmingThePoolRescuesAnAllocation() {
    driver.trim();
    long half = systemFreeBytes() / 2 & -(2L << 20);
    long first = driver.allocate(half / 2);
    long second = driver.allocate(half / 2);
    driver.free(first);
    driver.free(second);
    driver.synchronize();
    assertEquals(
        CUresult.CUDA_ERROR_OUT_OF_MEMORY,
        JCudaDriver.cuMemAllocAsync(new CUdeviceptr(), 3 * half / 2, driver.stream()));
    long large = driver.allocate(3 * half / 2);
    OutOfMemoryError e = assertThrows(OutOfMemoryError.class, () -> driver.allocate(half));
    assertTrue(e.getMessage().contains("asked for %,d".formatted(half)), e.getMessage());
    driver.free(large);
    driver.trim();
  }

  /// Memory of a library is not of the pool.
  @Test
  void trimmingThePoolRescuesCublas() {
    loadCublas();
    driver.trim();
    driver.free(driver.allocate(systemFreeBytes() & -(2L << 20)));
    driver.synchronize();
    assertEquals(
        cublasStatus.CUBLAS_STATUS_ALLOC_FAILED, JCublas2.cublasCreate(new cublasHandle()));
    try (Gpu gpu = new Gpu(CudaDriver.take(), Gpu.Memory.POOLED, true);
        Gemm gemm = new CublasGemm(gpu)) {
      assertTrue(gemm.name().startsWith("cuBLAS"), gemm.name());
    }
    driver.trim();
  }

  /// A function of a module is the same for all who ask for it, and so is what it may use.
  @Test
  void whatOneMayUseIsNotTakenFromAnother() {
    long out = driver.allocate(4);
    List<Launch.Kernel> kernels = new ArrayList<>();
    for (int i = 0; i < 2; i++) {
      kernels.add(
          new Launch.Kernel(driver.function(probes, "probe_shared"), entries.get("probe_shared")));
    }
    for (int turn : new int[] {0, 1, 0}) {
      int bytes = turn == 0 ? 70_000 : 60_000;
      new Launch(driver, () -> null)
          .begin(kernels.get(turn))
          .address(out)
          .integer(0)
          .run(1, 1, 1, 1, bytes);
    }
    driver.synchronize();
    driver.free(out);
  }

  // --- helpers --------------------------------------------------------------------------------

  /// What the driver reads of PTX: names and parameters of entries.
  private static byte[] ptx(String... entries) {
    StringBuilder text = new StringBuilder(".version 8.0\n.target sm_80\n");
    for (String entry : entries) {
      List<String> words = List.of(entry.split(" "));
      List<String> parameters = new ArrayList<>();
      for (String type : words.subList(1, words.size())) {
        parameters.add("\t.param " + type + " p" + parameters.size());
      }
      text.append(
          ".visible .entry %s(\n%s\n)\n{\n}\n"
              .formatted(words.getFirst(), String.join(",\n", parameters)));
    }
    return text.toString().getBytes(StandardCharsets.UTF_8);
  }

  private static void loadCublas() {
    System.load(EmulatedGpu.cublas().toString());
    CudaLibrary.loadBinding("JCublas2", "jcuda.jcublas.JCublas2");
  }

  /// Bytes that the device has beside what the pool holds.
  private static long systemFreeBytes() {
    long[] free = new long[1];
    assertEquals(0, JCudaDriver.cuMemGetInfo(free, new long[1]));
    return free[0];
  }

  private static Launch launch(String kernel) {
    return new Launch(driver, () -> null)
        .begin(new Launch.Kernel(driver.function(probes, kernel), entries.get(kernel)));
  }

  private static CUdeviceptr device(long address) {
    return new CUdeviceptr().withByteOffset(address);
  }

  /// Runs a kernel of `(out, x, n)` on one block.
  private static float[] run(String kernel, int size, int threads, int shared, int n, float... x) {
    long in = upload(x);
    long out = driver.allocate(4L * size);
    launch(kernel).address(out).address(in).integer(n).run(1, 1, 1, threads, shared);
    float[] result = download(out, size);
    driver.free(in);
    driver.free(out);
    return result;
  }

  private static long upload(float... values) {
    long device = driver.allocate(4L * values.length);
    try (Arena arena = Arena.ofConfined()) {
      driver.copyToDevice(device, arena.allocateFrom(ValueLayout.JAVA_FLOAT, values));
      driver.synchronize();
    }
    return device;
  }

  private static float[] download(long device, int size) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment values = arena.allocate(ValueLayout.JAVA_FLOAT, size);
      driver.copyToHost(values, device);
      driver.synchronize();
      return values.toArray(ValueLayout.JAVA_FLOAT);
    }
  }

  private static float[] numbers(int n) {
    Random random = new Random(3);
    float[] x = new float[n];
    for (int i = 0; i < n; i++) {
      x[i] = random.nextFloat() - 0.5f;
    }
    return x;
  }

  private static List<float[]> inAllOrders(java.util.function.Supplier<float[]> call) {
    List<float[]> results = new ArrayList<>();
    for (EmulatedGpu.Order order : EnumSet.complementOf(EnumSet.of(EmulatedGpu.Order.ALL))) {
      for (EmulatedGpu.Copies copies : EmulatedGpu.Copies.values()) {
        EmulatedGpu.schedule(order, copies);
        results.add(call.get());
      }
    }
    return results;
  }

  private static void assertAllEqual(List<float[]> results) {
    results.forEach(r -> assertArrayEquals(results.getFirst(), r));
  }

  private static void assertDiffer(List<float[]> results) {
    assertFalse(
        results.stream().allMatch(r -> Arrays.equals(results.getFirst(), r)),
        "the fault is not to be seen");
  }
}
