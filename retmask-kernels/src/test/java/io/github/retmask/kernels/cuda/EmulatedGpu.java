package io.github.retmask.kernels.cuda;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.Assumptions;

/// The device of the tests where there is no GPU: a stand-in for NVIDIA's driver that runs the kernels
/// on the processor. See `src/test/native/emulator.h` for what it finds and what it cannot show; none
/// of its results is one of a GPU.
///
/// It is built with g++ and make when its sources or a kernel changed. Where these are missing the
/// tests are skipped and say so, unless the environment variable `CI` is set.
@SuppressWarnings("restricted") // the stand-in is native code
final class EmulatedGpu {
  /// The order in which the threads of a block, and the blocks, take turns. Shared memory holds NaN
  /// at first, in the random order huge numbers.
  enum Order {
    ASCENDING,
    DESCENDING,
    RANDOM,
    /// Each kernel runs in each order, with early and late copies, and fails where the bits differ.
    ALL
  }

  /// When asynchronous copies land, and when the work of a stream is done.
  enum Copies {
    /// When they are waited for.
    LATE,
    /// At once.
    EAGER
  }

  private static @Nullable Path folder; // of what is built

  private EmulatedGpu() {}

  /// Path of the stand-in driver, built if need be.
  static Path driver() {
    return build().resolve("libcuda.so.1");
  }

  /// Path of the stand-in for cuBLAS; the driver is loaded before it.
  static Path cublas() {
    return cublas(12);
  }

  /// The same under the name that it has in CUDA 12 or 13.
  static Path cublas(int major) {
    return build().resolve("libcublas.so." + major);
  }

  /// Chooses how the calls from now on run; nothing on a real device.
  static void schedule(Order order, Copies copies) {
    tell("emulator_schedule", order.ordinal(), copies.ordinal());
  }

  /// Makes the device usable again after a kernel that failed, which on a real one ends the context.
  static void recover() {
    tell("emulator_recover");
  }

  /// From now on calls are checked and nothing is done, on a device of so many gigabytes, whose results
  /// are zero: for shapes that are too large to compute here. With 0 all is done again.
  static void idle(int gigabytes) {
    tell("emulator_idle", gigabytes);
  }

  /// The compute capability that the device says it has, 8.0 at first.
  static void capability(int major, int minor) {
    tell("emulator_capability", major, minor);
  }

  /// Seconds after which a kernel has failed.
  static void timeLimit(int seconds) {
    tell("emulator_time_limit", seconds);
  }

  /// CUDA graphs that were made ready so far.
  static int graphsMade() {
    return (int) call("emulator_graphs_made", ValueLayout.JAVA_INT);
  }

  /// Kernels that take the place of those of the same names.
  record OtherKernels(MemorySegment library) implements AutoCloseable {
    @Override
    public void close() {
      int rc = (int) call("emulator_unload_kernels", ValueLayout.JAVA_INT, library);
      Assertions.assertEquals(0, rc);
    }
  }

  /// Loads kernels from a library.
  static OtherKernels load(Path library) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment path = arena.allocateFrom(library.toString());
      MemorySegment handle =
          (MemorySegment) call("emulator_load_kernels", ValueLayout.ADDRESS, path);
      Assertions.assertNotEquals(MemorySegment.NULL, handle, "cannot load " + library);
      return new OtherKernels(handle);
    }
  }

  private static void tell(String function, int... arguments) {
    if (!TestGpu.isReal()) {
      call(function, null, Arrays.stream(arguments).boxed().toArray());
    }
  }

  private static Object call(String function, @Nullable MemoryLayout result, Object... arguments) {
    MemoryLayout[] types =
        Arrays.stream(arguments)
            .map(a -> a instanceof Integer ? ValueLayout.JAVA_INT : ValueLayout.ADDRESS)
            .toArray(MemoryLayout[]::new);
    try {
      return Linker.nativeLinker()
          .downcallHandle(
              SymbolLookup.libraryLookup(driver(), Arena.global()).find(function).orElseThrow(),
              result == null
                  ? FunctionDescriptor.ofVoid(types)
                  : FunctionDescriptor.of(result, types))
          .invokeWithArguments(arguments);
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  private static synchronized Path build() {
    if (folder == null) {
      folder = folder();
      if (!make("all")) {
        throw new AssertionError("the emulated GPU does not build");
      }
    }
    return folder;
  }

  /// Folder of what is built.
  static Path folder() {
    return Path.of("target", "emulated-gpu").toAbsolutePath();
  }

  /// Builds targets of the Makefile as far as they can be built; false when some cannot.
  static boolean make(String... targets) {
    Path folder = folder();
    for (String tool : new String[] {"g++", "make", "flock"}) {
      if (Arrays.stream(System.getenv("PATH").split(":"))
          .noneMatch(p -> Files.isExecutable(Path.of(p, tool)))) {
        String text = "NOT TESTED: the CUDA kernels, as the emulated GPU needs " + tool;
        System.err.println(text);
        Assertions.assertNull(System.getenv("CI"), text);
        Assumptions.abort(text);
      }
    }
    try {
      Files.createDirectories(folder);
      List<String> command = new ArrayList<>(List.of("flock", folder.resolve("lock").toString()));
      command.addAll(List.of("make", "-s", "-k", "-j2", "-C", "src/test/native", "OUT=" + folder));
      command.addAll(List.of(targets));
      Process make = new ProcessBuilder(command).redirectErrorStream(true).start();
      String output = new String(make.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      System.err.print(output);
      return make.waitFor() == 0;
    } catch (IOException e) {
      throw new AssertionError(e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new AssertionError(e);
    }
  }
}
