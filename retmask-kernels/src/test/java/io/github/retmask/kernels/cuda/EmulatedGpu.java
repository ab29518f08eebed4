package io.github.retmask.kernels.cuda;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
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
    return build().resolve("libcublas.so.12");
  }

  /// Chooses how the calls from now on run; nothing on a real device.
  static void schedule(Order order, Copies copies) {
    call("emulator_schedule", order.ordinal(), copies.ordinal());
  }

  /// Makes the device usable again after a kernel that failed, which on a real one ends the context.
  static void recover() {
    call("emulator_recover");
  }

  /// Seconds after which a kernel has failed.
  static void timeLimit(int seconds) {
    call("emulator_time_limit", seconds);
  }

  private static void call(String function, int... arguments) {
    if (TestGpu.isReal()) {
      return;
    }
    MemoryLayout[] types = new MemoryLayout[arguments.length];
    Arrays.fill(types, ValueLayout.JAVA_INT);
    try {
      Linker.nativeLinker()
          .downcallHandle(
              SymbolLookup.libraryLookup(driver(), Arena.global()).find(function).orElseThrow(),
              FunctionDescriptor.ofVoid(types))
          .invokeWithArguments(Arrays.stream(arguments).boxed().toList());
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  private static synchronized Path build() {
    if (folder == null) {
      folder = Path.of("target", "emulated-gpu").toAbsolutePath();
      make(folder);
    }
    return folder;
  }

  private static void make(Path folder) {
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
      Process make =
          new ProcessBuilder(
                  "flock",
                  folder.resolve("lock").toString(),
                  "make",
                  "-s",
                  "-j2",
                  "-C",
                  Path.of("src", "test", "native").toString(),
                  "OUT=" + folder)
              .redirectErrorStream(true)
              .start();
      String output = new String(make.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      if (make.waitFor() != 0) {
        throw new AssertionError("the emulated GPU does not build:\n" + output);
      }
      System.err.print(output); // warnings
    } catch (IOException e) {
      throw new AssertionError(e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new AssertionError(e);
    }
  }
}
