package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Backend;
import io.github.retmask.backend.Kernels;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import org.jspecify.annotations.Nullable;

/// Multi-threaded SIMD kernels on `jdk.incubator.vector`.
public final class VectorBackend implements Backend {
  private static final String MODULE = "jdk.incubator.vector";

  public VectorBackend() {}

  @Override
  public String name() {
    return "vector";
  }

  @Override
  public int rank() {
    return 10;
  }

  /// Touches no class of the incubator module, which may be missing.
  @Override
  public @Nullable String whyUnavailable() {
    if (ModuleLayer.boot().findModule(MODULE).isEmpty()) {
      return "module " + MODULE + " is not in this JVM; start java with --add-modules " + MODULE;
    }
    return hasFusedMultiplyAdd(System.getProperty("os.arch", ""), Path.of("/proc/cpuinfo"))
        ? null
        : "this processor has no fused multiply-add, which Java would emulate hundreds of times slower";
  }

  /// Arm has it always; on x86 Linux says so; elsewhere the answer is taken to be yes, as for every
  /// x86 processor since 2013.
  static boolean hasFusedMultiplyAdd(String architecture, Path cpuInfo) {
    boolean x86 = architecture.equals("amd64") || architecture.equals("x86_64");
    if (!x86 || !Files.isReadable(cpuInfo)) {
      return true;
    }
    try (var lines = Files.lines(cpuInfo)) {
      return lines
          .filter(line -> line.startsWith("flags"))
          .findFirst()
          .map(line -> (line + " ").toLowerCase(Locale.ROOT).contains(" fma "))
          .orElse(true);
    } catch (IOException | java.io.UncheckedIOException e) {
      return true;
    }
  }

  @Override
  public Kernels open(int threads) {
    return new VectorKernels(threads);
  }
}
