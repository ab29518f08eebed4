package io.github.retmask.benchmarks;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.TreeSet;
import jdk.incubator.vector.FloatVector;

/// What this machine can do at most through the Vector API: multiply-adds in registers, and reading
/// memory that no cache holds. Measured on the spot, since a virtual machine's share of its host
/// changes from minute to minute.
public final class Roofline {
  private static final int YMM_BITS = 256;

  private Roofline() {}

  /// The two limits.
  ///
  /// @param gflops billions of additions and multiplications a second
  /// @param gbytes billions of bytes read a second
  public record Roof(double gflops, double gbytes) {
    /// The least time that some work can take.
    ///
    /// @param gflop billions of additions and multiplications
    /// @param gbyte billions of bytes moved
    /// @return seconds
    public double seconds(double gflop, double gbyte) {
      return Math.max(gflop / gflops, gbyte / gbytes);
    }
  }

  /// Measures for about two seconds per vector width: the widest and, above 256 bits, also 256, as
  /// some processors lower their clock for the widest. The better figure of each kind counts.
  ///
  /// @throws IllegalStateException when the measuring JVM fails
  public static Roof measure(int threads) {
    int widest = FloatVector.SPECIES_PREFERRED.vectorBitSize();
    Set<Integer> widths = new TreeSet<>(List.of(widest, Math.min(widest, YMM_BITS)));
    Roof best = new Roof(0, 0);
    for (int bits : widths) {
      Roof one = probe(threads, bits);
      best = new Roof(Math.max(best.gflops, one.gflops), Math.max(best.gbytes, one.gbytes));
    }
    return best;
  }

  private static Roof probe(int threads, int bits) {
    try {
      Process process =
          new ProcessBuilder(
                  Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                  "--add-modules",
                  "jdk.incubator.vector",
                  "-XX:+UseTransparentHugePages", // less of the reading is looking up pages
                  "-Dbits=" + bits,
                  "-cp",
                  System.getProperty("java.class.path"),
                  RooflineProbe.class.getName(),
                  Integer.toString(threads))
              .start();
      String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      String said = new String(process.getErrorStream().readAllBytes(), StandardCharsets.UTF_8);
      if (process.waitFor() != 0) {
        throw new IllegalStateException("roofline: " + said);
      }
      String[] figures = out.strip().split(" ");
      return new Roof(Double.parseDouble(figures[0]), Double.parseDouble(figures[1]));
    } catch (IOException e) {
      throw new IllegalStateException("roofline: no JVM to measure in", e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("roofline: interrupted", e);
    }
  }

  static void main() {
    int cores = Runtime.getRuntime().availableProcessors();
    System.out.printf(
        Locale.ROOT,
        "vectors up to %d bits, %d cores, Java %s%n",
        FloatVector.SPECIES_PREFERRED.vectorBitSize(),
        cores,
        System.getProperty("java.version"));
    for (int threads : new TreeSet<>(List.of(1, cores))) {
      Roof roof = measure(threads);
      System.out.printf(
          Locale.ROOT,
          "%d threads: %.1f GFLOP/s multiply-add, %.1f GB/s read%n",
          threads,
          roof.gflops,
          roof.gbytes);
    }
  }
}
