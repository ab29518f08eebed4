package io.github.retmask.kernels.cuda;

import static org.junit.platform.engine.discovery.DiscoverySelectors.selectClass;
import static org.junit.platform.engine.discovery.DiscoverySelectors.selectMethod;
import static org.junit.platform.engine.discovery.DiscoverySelectors.selectNestedClass;

import io.github.retmask.backend.KernelsContract;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Queue;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
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
  private static final int SECONDS_OF_TESTS = 1500; // even where others use the machine
  private static final String RESULT = "result: ";

  private Mutants() {}

  /// One bug.
  ///
  /// @param stem of the kernels to compile
  /// @param file that it is in
  private record Mutant(String stem, String file, String title, String text, String instead) {
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
      return FOLDER.resolve(stem + "-" + Integer.toHexString(hashCode()));
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

  /// @param args the list of bugs, then words of which one must occur in the title line of a bug to
  ///     try; none in a worker
  static void main(String[] args) throws IOException, InterruptedException {
    if (args.length == 0) {
      work();
      return;
    }
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
    Queue<Task> tasks = new ConcurrentLinkedQueue<>();
    for (String stem : new TreeSet<>(mutants.stream().map(Mutant::stem).toList())) {
      tasks.add(new Task(stem, null));
    }
    mutants.forEach(m -> tasks.add(new Task(m.stem, m)));
    AtomicInteger missed = new AtomicInteger();
    List<Thread> threads = new ArrayList<>();
    for (int i = 0; i < Math.min(4, Runtime.getRuntime().availableProcessors()); i++) {
      threads.add(Thread.ofPlatform().start(() -> run(tasks, missed)));
    }
    for (Thread thread : threads) {
      thread.join();
    }
    System.out.printf("%d bugs, %d not found%n", mutants.size(), missed.get());
    System.exit(missed.get() == 0 ? 0 : 1);
  }

  // --- workers --------------------------------------------------------------------------------

  /// @param mutant null for the tests of a stem without a bug
  private record Task(String stem, @Nullable Mutant mutant) {}

  private static void run(Queue<Task> tasks, AtomicInteger missed) {
    try (Worker worker = new Worker()) {
      for (Task task; (task = tasks.poll()) != null; ) {
        Mutant mutant = task.mutant;
        String title = task.stem + ": " + (mutant == null ? "" : mutant.title + ": ");
        if (mutant != null && !Files.exists(mutant.library())) {
          missed.incrementAndGet();
          System.out.println(title + "DOES NOT COMPILE");
          continue;
        }
        String failure = worker.test(task.stem, mutant == null ? "" : mutant.library().toString());
        if (failure.isEmpty() != (mutant == null)) {
          missed.incrementAndGet();
        }
        if (mutant != null) {
          System.out.println(title + (failure.isEmpty() ? "NOT FOUND" : "found by " + failure));
        } else if (!failure.isEmpty()) {
          System.out.println(title + "FALSE ALARM: " + failure);
        }
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /// A JVM that runs tests; another one after a bug that ended it.
  private static final class Worker implements AutoCloseable {
    private @Nullable Process process;
    private @Nullable BufferedReader results;

    /// The failure of a stem's tests in words, empty when all pass.
    String test(String stem, String library) throws IOException {
      Process own = process;
      BufferedReader from = results;
      boolean fresh = own == null;
      if (own == null || from == null) {
        own = start();
        from = own.inputReader(StandardCharsets.UTF_8);
        process = own;
        results = from;
      }
      try {
        String task = stem + '\t' + library + '\n';
        own.getOutputStream().write(task.getBytes(StandardCharsets.UTF_8));
        own.getOutputStream().flush();
      } catch (IOException e) {
        if (fresh) {
          throw e;
        } // else it has ended, and gives no result
      }
      CompletableFuture<Boolean> end =
          new CompletableFuture<Boolean>()
              .completeOnTimeout(true, SECONDS_OF_TESTS, TimeUnit.SECONDS);
      Process late = own;
      end.thenAccept(reached -> stop(late, reached));
      for (String line; (line = from.readLine()) != null; ) {
        if (line.startsWith(RESULT)) {
          end.complete(false);
          return line.substring(RESULT.length());
        }
      }
      boolean ended = end.complete(false);
      close();
      if (ended && !fresh) { // may be the doing of a bug before
        return test(stem, library);
      }
      return ended ? "the end of the JVM" : "no end within " + SECONDS_OF_TESTS + " s";
    }

    private static void stop(Process process, boolean reached) {
      if (reached) {
        process.destroyForcibly();
      }
    }

    private static Process start() throws IOException {
      List<String> command = new ArrayList<>();
      command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
      command.addAll(ManagementFactory.getRuntimeMXBean().getInputArguments());
      command.addAll(List.of("-XX:-CreateCoredumpOnCrash", "-XX:ErrorFile=/dev/null"));
      command.addAll(List.of("-cp", System.getProperty("java.class.path")));
      command.add(Mutants.class.getName());
      ProcessBuilder builder =
          new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.DISCARD);
      builder.environment().put("RETMASK_EMULATED_THREADS", "1");
      return builder.start();
    }

    @Override
    public void close() {
      if (process != null) {
        process.destroyForcibly();
      }
      process = null;
      results = null;
    }
  }

  /// Runs the tests that lines of the standard input ask for: a stem and a library.
  private static void work() throws IOException {
    EmulatedGpu.timeLimit(SECONDS);
    BufferedReader tasks =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = tasks.readLine()) != null; ) {
      int tab = line.indexOf('\t');
      String stem = line.substring(0, tab);
      String library = line.substring(tab + 1);
      Failure failure;
      if (library.isEmpty()) {
        failure = run(testsOf(stem));
      } else {
        try (EmulatedGpu.OtherKernels _ = EmulatedGpu.load(Path.of(library))) {
          failure = run(testsOf(stem));
          EmulatedGpu.recover();
        }
      }
      System.out.println(RESULT + (failure == null ? "" : words(failure)));
    }
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
      case "matmul", "matmul_blocks" -> tests(CudaMatmulTest.class, "Matmul", "BlockWeights");
      case "matmul_backward" ->
          and(
              selectMethod(CudaGemmTest.class, "biasGradientsOfManyRows"),
              tests(CudaMatmulTest.class, "Matmul", "BlockWeights"));
      case "matmul_bf16" -> tests(CudaGemmTest.class);
      case "token_log_probs" ->
          and(
              selectMethod(CudaGemmTest.class, "logProbabilitiesOfBf16States"),
              tests(CudaMatmulTest.class, "TokenLogProbs"));
      case "sampler" -> tests(CudaSamplerTest.class);
      default -> throw new IllegalArgumentException("mutants: no tests are named for " + stem);
    };
  }

  private static List<DiscoverySelector> and(
      DiscoverySelector one, List<DiscoverySelector> others) {
    List<DiscoverySelector> all = new ArrayList<>(others);
    all.add(one);
    return all;
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
