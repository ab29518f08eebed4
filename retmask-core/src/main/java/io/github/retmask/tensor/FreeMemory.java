package io.github.retmask.tensor;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;

/// How much host memory this process can still take without swapping or being killed.
public final class FreeMemory {
  private FreeMemory() {}

  /// Bytes free now; files that are mapped, a checkpoint's weights for one, count as free, since the
  /// system gives up their memory on demand. The system's plain "free" counts the page cache, memory-mapped checkpoints
  /// included, as taken, though it is given back on demand; Linux also says what is available.
  public static long bytes() {
    var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    long limit = system.getTotalMemorySize(); // of the container, when there is one
    long installed = field(Path.of("/proc/meminfo"), "MemTotal:");
    long available = field(Path.of("/proc/meminfo"), "MemAvailable:");
    if (installed < 0 || available < 0) {
      return system.getFreeMemorySize();
    }
    if (limit >= installed) {
      return available;
    }
    long own = Math.max(0, field(Path.of("/proc/self/status"), "RssAnon:"));
    return Math.clamp(limit - own, 0, available);
  }

  /// Bytes that should stay free for what comes later, where something can do without: an eighth of the
  /// memory.
  public static long reserve() {
    var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    return system.getTotalMemorySize() / 8;
  }

  /// A `Name:  123 kB` line of a file in bytes, -1 when there is none.
  private static long field(Path file, String name) {
    try {
      for (String line : Files.readAllLines(file)) {
        if (line.startsWith(name)) {
          return 1024 * Long.parseLong(line.replaceAll("[^0-9]", ""));
        }
      }
    } catch (IOException e) {
      // not Linux
    }
    return -1;
  }

  /// `1.5 GiB` or `340.0 MiB`.
  public static String text(long bytes) {
    return bytes >= 1L << 30
        ? "%.1f GiB".formatted(bytes / (double) (1L << 30))
        : "%.1f MiB".formatted(bytes / (double) (1L << 20));
  }
}
