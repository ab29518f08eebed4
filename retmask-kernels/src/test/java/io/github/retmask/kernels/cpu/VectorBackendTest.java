package io.github.retmask.kernels.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.Backend;
import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.OpBits;
import io.github.retmask.probe.BackendProbe;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class VectorBackendTest {

  @Test
  void isFoundAndRunsHere() {
    Backend vector =
        Backends.all().stream().filter(b -> b.name().equals("vector")).findFirst().orElseThrow();
    assertThat(vector.rank()).isEqualTo(10);
    assertThat(vector.whyUnavailable()).isNull();
    try (Kernels kernels = Backends.open("vector", 3)) {
      assertThat(kernels.name()).isEqualTo("vector");
      assertThat(kernels.threads()).isEqualTo(3);
    }
  }

  @Test
  void everyWidthOfVectorsGivesTheSameBits() throws Exception {
    List<String> want = OpBits.inFreshJvm("vector", "-D" + Lanes.BITS_PROPERTY + "=128");
    assertThat(want).hasSizeGreaterThan(5);
    for (int bits = 256; bits <= Lanes.FLOAT.vectorBitSize(); bits *= 2) {
      assertThat(OpBits.inFreshJvm("vector", "-D" + Lanes.BITS_PROPERTY + "=" + bits))
          .as("%d bits", bits)
          .isEqualTo(want);
    }
  }

  private static List<String> probe(String... options) throws Exception {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of(options));
    command.add(BackendProbe.class.getName());
    Process process =
        new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
    String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertThat(process.waitFor()).as("exit of %s", command).isZero();
    return out.lines().toList();
  }

  @Test
  void aJvmWithoutTheModuleFallsBackAndSaysWhy() throws Exception {
    assertThat(probe("-cp", System.getProperty("java.class.path")))
        .containsExactly(
            "why: module jdk.incubator.vector is not in this JVM; start java with --add-modules"
                + " jdk.incubator.vector",
            "opened: reference");
  }

  @Test
  void isFoundOnTheModulePathToo() throws Exception {
    List<String> modules = new ArrayList<>();
    List<String> rest = new ArrayList<>();
    for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
      Path path = Path.of(entry);
      boolean ours = Files.exists(path.resolve("module-info.class"));
      boolean tests = path.endsWith("test-classes") || entry.endsWith("-tests.jar");
      boolean testing =
          path.toString().matches(".*(junit|opentest4j|apiguardian|assertj|jqwik|surefire).*");
      (ours || !tests && !testing ? modules : rest).add(entry);
    }
    assertThat(
            probe(
                "--module-path",
                String.join(File.pathSeparator, modules),
                "--add-modules",
                "io.github.retmask.kernels",
                "-cp",
                String.join(File.pathSeparator, rest)))
        .containsExactly("why: null", "opened: vector");
  }

  @Test
  void aProcessorWithoutFusedMultiplyAddIsRecognised(@TempDir Path dir) throws Exception {
    Path with = Files.writeString(dir.resolve("with"), "processor\t: 0\nflags\t\t: fpu avx2 fma\n");
    Path without = Files.writeString(dir.resolve("without"), "flags\t\t: fpu sse2 fma4 avx\n");
    Path silent = Files.writeString(dir.resolve("silent"), "processor\t: 0\n");
    assertThat(VectorBackend.hasFusedMultiplyAdd("amd64", with)).isTrue();
    assertThat(VectorBackend.hasFusedMultiplyAdd("amd64", without)).isFalse();
    assertThat(VectorBackend.hasFusedMultiplyAdd("aarch64", without)).isTrue();
    assertThat(VectorBackend.hasFusedMultiplyAdd("amd64", silent)).isTrue();
    assertThat(VectorBackend.hasFusedMultiplyAdd("amd64", dir.resolve("none"))).isTrue();
  }
}
