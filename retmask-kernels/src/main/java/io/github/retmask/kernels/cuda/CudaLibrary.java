package io.github.retmask.kernels.cuda;

import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;

/// Finds the NVIDIA driver without a word and without JCuda, whose first touch fails loudly where
/// there is none, and then loads JCuda's native library from a directory of our own.
@SuppressWarnings("restricted") // native code is what this class is about, and is asked for first
final class CudaLibrary {
  /// System property that names a driver library to use instead of the system's.
  static final String DRIVER_PROPERTY = "retmask.cuda.driver";

  /// The same as an environment variable.
  static final String DRIVER_VARIABLE = "RETMASK_CUDA_DRIVER";

  private static final String DRIVER = "libcuda.so.1";
  private static final int OLDEST_DRIVER =
      12_000; // of CUDA 12.0, the first with all that JCuda binds
  private static final int OLDEST_GPU = 8; // compute capability, whose PTX ours is
  private static final int COMPUTE_CAPABILITY_MAJOR = 75; // of CUdevice_attribute
  private static final int COMPUTE_CAPABILITY_MINOR = 76;
  private static final List<String> USUAL_PLACES =
      List.of(
          "/usr/lib/x86_64-linux-gnu",
          "/usr/lib64",
          "/usr/lib",
          "/lib/x86_64-linux-gnu",
          "/usr/local/nvidia/lib64",
          "/usr/lib/wsl/lib",
          "/run/opengl-driver/lib");

  private static @Nullable SymbolLookup loaded; // the driver, once JCuda is bound to it
  private static boolean usesNamedDriver;

  private CudaLibrary() {}

  /// Null when there is a driver and a GPU that it can use, else why not, in one line.
  static @Nullable String whyUnavailable() {
    String system = System.getProperty("os.name") + " " + System.getProperty("os.arch");
    if (!system.equals("Linux amd64")) {
      return "runs on Linux amd64, this is " + system;
    }
    Path named = named();
    if (named != null && !Files.isRegularFile(named)) {
      return "no file at %s, which -D%s or %s names as NVIDIA driver"
          .formatted(named, DRIVER_PROPERTY, DRIVER_VARIABLE);
    }
    if (named == null && !isInstalled()) {
      return "no NVIDIA driver (" + DRIVER + ") on this machine";
    }
    if (!CudaLibrary.class.getModule().isNativeAccessEnabled()) {
      return "native code is not allowed in this JVM; start java with --enable-native-access="
          + (CudaLibrary.class.getModule().isNamed()
              ? CudaLibrary.class.getModule().getName() + ",jcuda,jcublas"
              : "ALL-UNNAMED");
    }
    try {
      return probe(lookup(named));
    } catch (IllegalArgumentException _) {
      return "the NVIDIA driver (" + (named == null ? DRIVER : named) + ") cannot be loaded";
    }
  }

  /// The driver asked for by name, or null for the system's.
  static @Nullable Path named() {
    String name = System.getProperty(DRIVER_PROPERTY, System.getenv(DRIVER_VARIABLE));
    return name == null ? null : Path.of(name);
  }

  /// Whether the loader would find a driver, as far as files tell: spares machines without one the
  /// cost of asking it.
  private static boolean isInstalled() {
    List<String> places = new ArrayList<>(USUAL_PLACES);
    String path = System.getenv("LD_LIBRARY_PATH");
    if (path != null) {
      places.addAll(List.of(path.split(":")));
    }
    for (String place : places) {
      if (!place.isEmpty() && Files.exists(Path.of(place, DRIVER))) {
        return true;
      }
    }
    try {
      byte[] cache = Files.readAllBytes(Path.of("/etc/ld.so.cache"));
      return new String(cache, StandardCharsets.ISO_8859_1).contains(DRIVER);
    } catch (IOException _) {
      return false;
    }
  }

  private static SymbolLookup lookup(@Nullable Path named) {
    return named == null
        ? SymbolLookup.libraryLookup(DRIVER, Arena.global())
        : SymbolLookup.libraryLookup(named, Arena.global());
  }

  private static @Nullable String probe(SymbolLookup driver) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment number = arena.allocate(ValueLayout.JAVA_INT);
      int rc = (int) intFunction(driver, "cuDriverGetVersion", true).invoke(number);
      int version = number.get(ValueLayout.JAVA_INT, 0);
      if (rc != 0 || version < OLDEST_DRIVER) {
        return "the NVIDIA driver is for CUDA %d.%d, want 12.0 or newer: update it"
            .formatted(version / 1000, version % 1000 / 10);
      }
      rc = (int) intFunction(driver, "cuInit", false).invoke(0);
      if (rc != 0) {
        return "the NVIDIA driver has no GPU it can use (cuInit: error " + rc + ")";
      }
      rc = (int) intFunction(driver, "cuDeviceGetCount", true).invoke(number);
      if (rc != 0 || number.get(ValueLayout.JAVA_INT, 0) == 0) {
        return "no GPU";
      }
      int major = firstDevice(driver, COMPUTE_CAPABILITY_MAJOR, number);
      int minor = firstDevice(driver, COMPUTE_CAPABILITY_MINOR, number);
      return major >= OLDEST_GPU
          ? null
          : "the GPU has compute capability %d.%d, want %d.0 or newer"
              .formatted(major, minor, OLDEST_GPU);
    } catch (Throwable e) {
      return "the NVIDIA driver cannot be asked: " + e.getMessage();
    }
  }

  /// An attribute of the first device.
  private static int firstDevice(SymbolLookup driver, int attribute, MemorySegment number)
      throws Throwable {
    FunctionDescriptor type =
        FunctionDescriptor.of(
            ValueLayout.JAVA_INT, ValueLayout.ADDRESS, ValueLayout.JAVA_INT, ValueLayout.JAVA_INT);
    int rc = (int) function(driver, "cuDeviceGetAttribute", type).invoke(number, attribute, 0);
    return rc == 0 ? number.get(ValueLayout.JAVA_INT, 0) : 0;
  }

  /// A driver function of one argument, a pointer or an int.
  private static MethodHandle intFunction(SymbolLookup driver, String name, boolean pointer) {
    return function(
        driver,
        name,
        FunctionDescriptor.of(
            ValueLayout.JAVA_INT, pointer ? ValueLayout.ADDRESS : ValueLayout.JAVA_INT));
  }

  private static MethodHandle function(SymbolLookup driver, String name, FunctionDescriptor type) {
    return Linker.nativeLinker()
        .downcallHandle(
            driver
                .find(name)
                .orElseThrow(() -> new IllegalStateException("it has no function " + name)),
            type);
  }

  /// Makes JCuda's driver binding usable. Call only after [#whyUnavailable] said null.
  ///
  /// @param driver a driver library to use instead of the system's, or null
  static synchronized void load(@Nullable Path driver) {
    if (loaded != null) {
      return;
    }
    if (driver != null) {
      System.load(driver.toAbsolutePath().toString()); // what is loaded is found by its name
      usesNamedDriver = true;
    }
    loadBinding("JCudaDriver", "jcuda.driver.JCudaDriver");
    loaded = lookup(driver);
  }

  /// A function of the driver that was loaded, where JCuda has no binding for it.
  static synchronized MethodHandle function(String name, FunctionDescriptor type) {
    return function(Objects.requireNonNull(loaded, "no driver is loaded"), name, type);
  }

  /// Whether the driver that was loaded is another than the system's.
  static synchronized boolean usesNamedDriver() {
    return usesNamedDriver;
  }

  /// Loads a class of JCuda with its native library.
  static void loadBinding(String library, String className) {
    loadBinding(library, className, UnaryOperator.identity());
  }

  /// Loads a class of JCuda with its native library. JCuda unpacks it into a file of fixed name in the
  /// temporary directory and loads whatever lies there already; so it is given a directory that nobody
  /// else can write, for the moment of loading.
  ///
  /// @param changed what is made of the library's bytes first
  static void loadBinding(String library, String className, UnaryOperator<byte[]> changed) {
    String file = "lib" + library + "-12.6.0-linux-x86_64.so";
    String property = "java.io.tmpdir";
    String temporary = System.getProperty(property);
    try {
      FileAttribute<?> ours =
          PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"));
      Path directory = Files.createTempDirectory("retmask-cuda-", ours);
      Path unpacked = directory.resolve(file);
      try {
        try (InputStream packed = CudaLibrary.class.getResourceAsStream("/lib/" + file)) {
          if (packed != null) {
            Files.write(unpacked, changed.apply(packed.readAllBytes()));
          }
        }
        System.setProperty(property, directory.toString());
        Class.forName(className, true, CudaLibrary.class.getClassLoader());
      } finally {
        System.setProperty(property, temporary);
        Files.deleteIfExists(unpacked); // once loaded it is no longer needed
        Files.deleteIfExists(directory);
      }
    } catch (IOException | ClassNotFoundException | LinkageError e) {
      throw new IllegalStateException("cuda: cannot load JCuda's " + file + ": " + e, e);
    }
  }
}
