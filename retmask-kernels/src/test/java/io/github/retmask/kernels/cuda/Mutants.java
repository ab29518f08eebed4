package io.github.retmask.kernels.cuda;

import static org.junit.platform.engine.discovery.DiscoverySelectors.selectClass;
import static org.junit.platform.engine.discovery.DiscoverySelectors.selectNestedClass;

import io.github.retmask.backend.KernelsContract;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.junit.jupiter.api.Nested;
import org.junit.platform.engine.DiscoverySelector;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;
import org.junit.platform.launcher.listeners.SummaryGeneratingListener;
import org.junit.platform.launcher.listeners.TestExecutionSummary.Failure;

/// Shows that the tests on the emulated device find bugs: runs them with kernel files into which known
/// bugs have been put, one at a time. `dev/mutants` starts it. Exit code 1 when a bug was not found, or
/// the tests fail without any.
///
/// A list of bugs holds blocks of the form
///
/// ```
/// == rms_norm: what is wrong
/// -lines of rms_norm.cu, which occur once
/// +lines instead; may be left out
/// == matmul, weights.cuh: what is wrong in a header, as matmul.cu uses it
/// ```
public final class Mutants {
  private static final Path CUDA = Path.of("src", "main", "cuda");
  private static final Path FOLDER = EmulatedGpu.folder().resolve("mutants");
  private static final int SECONDS = 20; // for a kernel

  private Mutants() {}

  /// One bug.
  ///
  /// @param stem of the kernels to compile
  /// @param file that it is in
  private record Mutant(
      int number, String stem, String file, String title, String text, String instead) {
    /// The file with it.
    String source() throws IOException {
      String source = Files.readString(CUDA.resolve(file));
      int at = source.indexOf(text);
      if (at < 0 || source.indexOf(text, at + 1) >= 0) {
        throw new IllegalArgumentException(
            "mutants: %s: %s: text %s in %s:%n%s"
                .formatted(stem, title, at < 0 ? "does not occur" : "occurs twice", file, text));
      }
      return source.substring(0, at) + instead + source.substring(at + text.length());
    }

    Path folder() {
      return FOLDER.resolve(String.valueOf(number));
    }

    Path library() {
      return folder().resolve("kernels.so");
    }

    /// Writes the kernel file, as `kernels.cu`, and its headers.
    void write() throws IOException {
      Files.createDirectories(folder());
      boolean same = true;
      try (Stream<Path> files = Files.list(CUDA)) {
        for (Path path : files.toList()) {
          String name = Objects.requireNonNull(path.getFileName()).toString();
          if (name.endsWith(".cuh") || name.equals(stem + ".cu")) {
            String text = name.equals(file) ? source() : Files.readString(path);
            Path to = folder().resolve(name.endsWith(".cuh") ? name : "kernels.cu");
            if (!Files.exists(to) || !Files.readString(to).equals(text)) {
              Files.writeString(to, text);
              same = false;
            }
          }
        }
      }
      if (!same) {
        Files.deleteIfExists(library());
      }
    }
  }

  /// @param args the list of bugs, then words of which one must occur in the title line of a bug to try
  static void main(String[] args) throws IOException {
    List<Mutant> mutants =
        parse(Files.readAllLines(Path.of(args[0]))).stream()
            .filter(
                m ->
                    args.length == 1
                        || Arrays.stream(args)
                            .skip(1)
                            .anyMatch(word -> (m.stem + ": " + m.title).contains(word)))
            .toList();
    build(mutants);
    EmulatedGpu.timeLimit(SECONDS);
    int missed = 0;
    Set<String> clean = new TreeSet<>();
    for (Mutant mutant : mutants) {
      if (clean.add(mutant.stem)) {
        Failure alarm = run(testsOf(mutant.stem));
        if (alarm != null) {
          System.out.printf("%s: FALSE ALARM: %s%n", mutant.stem, words(alarm));
          missed++;
        }
      }
      if (!Files.exists(mutant.library())) {
        System.out.printf("%s: %s: DOES NOT COMPILE%n", mutant.stem, mutant.title);
        missed++;
        continue;
      }
      try (EmulatedGpu.OtherKernels _ = EmulatedGpu.load(mutant.library())) {
        Failure failure = run(testsOf(mutant.stem));
        EmulatedGpu.recover();
        System.out.printf(
            "%s: %s: %s%n",
            mutant.stem,
            mutant.title,
            failure == null ? "NOT FOUND" : "found by " + words(failure));
        missed += failure == null ? 1 : 0;
      }
    }
    System.out.printf("%d bugs, %d not found%n", mutants.size(), missed);
    System.exit(missed == 0 ? 0 : 1);
  }

  private static String words(Failure failure) {
    String message = String.valueOf(failure.getException().getMessage());
    String line = message.strip().lines().findFirst().orElse("");
    return failure.getTestIdentifier().getLegacyReportingName()
        + ": "
        + line.substring(0, Math.min(line.length(), 160));
  }

  private static List<Mutant> parse(List<String> lines) {
    List<Mutant> mutants = new ArrayList<>();
    for (int i = 0; i < lines.size(); i++) {
      String line = lines.get(i);
      if (line.startsWith("== ")) {
        int colon = line.indexOf(": ");
        StringBuilder text = new StringBuilder();
        StringBuilder instead = new StringBuilder();
        while (i + 1 < lines.size() && lines.get(i + 1).matches("[-+].*")) {
          String next = lines.get(++i);
          (next.startsWith("-") ? text : instead).append(next.substring(1)).append('\n');
        }
        String[] place = line.substring(3, colon).split(", ");
        mutants.add(
            new Mutant(
                mutants.size(),
                place[0],
                place.length == 1 ? place[0] + ".cu" : place[1],
                line.substring(colon + 2),
                text.toString(),
                instead.toString()));
      }
    }
    return mutants;
  }

  /// Compiles each of them to a library, those that are there already not again.
  private static void build(List<Mutant> mutants) throws IOException {
    List<String> libraries = new ArrayList<>(List.of("all"));
    for (Mutant m : mutants) {
      m.write();
      libraries.add(m.library().toString());
    }
    EmulatedGpu.make(libraries.toArray(String[]::new));
  }

  // --- tests ----------------------------------------------------------------------------------

  /// What tests a kernel file, beside models: parts of the contract, and a class of this package.
  private static List<DiscoverySelector> testsOf(String stem) {
    return switch (stem) {
      case "rows", "elementwise" -> tests(CudaRowOpsTest.class, "Rows");
      case "rms_norm" -> tests(CudaRowOpsTest.class, "RmsNorm");
      case "rope" -> tests(CudaRowOpsTest.class, "Rope");
      case "norm_rope" -> tests(CudaRowOpsTest.class, "NormRope");
      case "swiglu" -> tests(CudaRowOpsTest.class, "Swiglu");
      case "head_gate" -> tests(CudaRowOpsTest.class, "HeadGate");
      case "adamw" -> tests(CudaRowOpsTest.class, "AdamW");
      case "attention" -> tests(CudaAttentionTest.class, "Attention", "AttentionRead");
      case "attention_backward" -> tests(CudaAttentionTest.class, "AttentionBackward");
      case "flash_attention", "flash_attention_backward", "flash_decoding" ->
          tests(CudaAttentionTest.class);
      case "matmul", "matmul_blocks", "matmul_backward" ->
          tests(CudaMatmulTest.class, "Matmul", "BlockWeights");
      case "matmul_bf16" -> tests(CudaGemmTest.class);
      case "token_log_probs" -> tests(CudaMatmulTest.class, "TokenLogProbs");
      case "sampler" -> tests(CudaSamplerTest.class);
      default -> throw new IllegalArgumentException("mutants: no tests are named for " + stem);
    };
  }

  private static List<DiscoverySelector> tests(Class<?> own, String... ofContract) {
    List<DiscoverySelector> selectors = new ArrayList<>();
    for (Class<?> part : KernelsContract.class.getDeclaredClasses()) {
      if (part.isAnnotationPresent(Nested.class)
          && List.of(ofContract).contains(part.getSimpleName())) {
        selectors.add(selectNestedClass(List.of(CudaKernelsTest.class), part));
      }
    }
    selectors.add(selectClass(own));
    return selectors;
  }

  /// Null when all pass, else the first failure.
  private static Failure run(List<DiscoverySelector> selectors) {
    StopAfterFailure.reset();
    SummaryGeneratingListener listener = new SummaryGeneratingListener();
    LauncherDiscoveryRequest request =
        LauncherDiscoveryRequestBuilder.request()
            .selectors(selectors)
            .configurationParameter("junit.jupiter.extensions.autodetection.enabled", "true")
            .build();
    LauncherFactory.create().execute(request, listener);
    return listener.getSummary().getFailures().stream().findFirst().orElse(null);
  }
}
