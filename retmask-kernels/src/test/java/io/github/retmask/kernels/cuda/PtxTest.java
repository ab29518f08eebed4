package io.github.retmask.kernels.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayDeque;
import java.util.HexFormat;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Queue;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/// The committed PTX, checked by the PTX compiler of CUDA 12.0 that comes with JCuda: no driver, no GPU
/// and no nvcc needed. That each launch passes what its kernel takes is checked where it happens, in
/// [Launch].
class PtxTest {
  private static final Path CUDA = Path.of("src", "main", "cuda");
  private static final List<String> TARGETS = List.of("sm_80", "sm_89", "sm_90");
  private static final int REGISTERS = 65536; // of a multiprocessor
  private static final Pattern INCLUDE = Pattern.compile("(?m)^#include \"(.*\\.cuh)\"$");

  @BeforeAll
  static void load() {
    Assumptions.assumeFalse(TestGpu.isReal(), "skipped: needs the sources, no GPU");
  }

  static List<String> stems() throws IOException {
    return stems(CUDA, ".cu");
  }

  @Test
  void everyKernelFileHasItsPtx() throws IOException {
    assertThat(stems(CUDA.resolve("ptx"), ".ptx")).isEqualTo(stems());
  }

  @ParameterizedTest
  @MethodSource("stems")
  void ptxIsMadeFromTheSources(String stem) throws Exception {
    String flags =
        Files.readAllLines(Path.of("..", "dev", "ptx")).stream()
            .filter(line -> line.startsWith("FLAGS=\""))
            .map(line -> line.substring(7, line.length() - 1))
            .findFirst()
            .orElseThrow();
    assertThat(ptx(stem).lines().findFirst().orElseThrow())
        .as("changed since dev/ptx")
        .isEqualTo("// %s.cu by dev/ptx, sources %s".formatted(stem, sourceHash(stem, flags)));
  }

  /// A number above 8.0 would shut out drivers of CUDA 12.
  @ParameterizedTest
  @MethodSource("stems")
  void ptxAsksForCuda12(String stem) throws IOException {
    assertThat(ptx(stem)).contains("\n.version 8.0\n.target sm_80\n");
  }

  @ParameterizedTest
  @MethodSource("stems")
  void compilesWithoutSpillsToBlocksThatFit(String stem) throws IOException {
    for (String target : TARGETS) {
      Map<String, PtxCompiler.Usage> used = PtxCompiler.usage(ptx(stem), target);
      assertThat(used).as(target).isNotEmpty();
      used.forEach(
          (kernel, usage) -> {
            assertThat(usage.spilledBytes()).as("%s: bytes %s spills", target, kernel).isZero();
            assertThat(usage.registers() * usage.mostThreads())
                .as("%s: registers of a block of %s", target, kernel)
                .isLessThanOrEqualTo(REGISTERS);
          });
    }
  }

  private static String ptx(String stem) throws IOException {
    return Files.readString(
        CUDA.resolve("ptx").resolve(stem + ".ptx"), StandardCharsets.ISO_8859_1);
  }

  private static List<String> stems(Path folder, String ending) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files
          .map(f -> Objects.requireNonNull(f.getFileName()).toString())
          .filter(name -> name.endsWith(ending))
          .map(name -> name.substring(0, name.length() - ending.length()))
          .sorted()
          .toList();
    }
  }

  /// SHA-256 of the compiler's flags, the kernel file and the headers that it includes, as dev/ptx
  /// takes it.
  private static String sourceHash(String stem, String flags)
      throws IOException, NoSuchAlgorithmException {
    MessageDigest hash = MessageDigest.getInstance("SHA-256");
    hash.update((flags + "\n").getBytes(StandardCharsets.UTF_8));
    Set<String> seen = new LinkedHashSet<>();
    Queue<String> queue = new ArrayDeque<>(List.of(stem + ".cu"));
    while (!queue.isEmpty()) {
      String file = queue.remove();
      if (seen.add(file)) {
        byte[] source = Files.readAllBytes(CUDA.resolve(file));
        hash.update(source);
        for (Matcher m = INCLUDE.matcher(new String(source, StandardCharsets.UTF_8)); m.find(); ) {
          queue.add(m.group(1));
        }
      }
    }
    return HexFormat.of().formatHex(hash.digest());
  }
}
