package io.github.retmask.benchmarks;

import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Generator;
import io.github.retmask.generate.MemoryPlan;
import io.github.retmask.io.SafeTensors;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.scoring.RetrievalHeadScorer;
import io.github.retmask.scoring.Trial;
import io.github.retmask.scoring.WuMethod;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/// What a checkpoint takes in this process against what was planned: opens it, generates, scores some
/// trials, and prints the resident memory after each step as the system counts it (Linux).
///
/// `MemoryReport FOLDER [PROMPT_TOKENS] [NEW_TOKENS] [TRIALS]`. Exit code 1 when more was ever resident than
/// the weight files, the keys and values, and 1 GiB hold.
public final class MemoryReport {
  private static final long GIB = 1L << 30;
  private final long started = System.nanoTime();

  private MemoryReport() {}

  static void main(String[] args) throws IOException {
    if (args.length < 1 || args.length > 4) {
      System.err.println("usage: MemoryReport FOLDER [PROMPT_TOKENS] [NEW_TOKENS] [TRIALS]");
      System.exit(2);
    }
    boolean kept =
        new MemoryReport()
            .run(Path.of(args[0]), number(args, 1, 64), number(args, 2, 8), number(args, 3, 2));
    System.exit(kept ? 0 : 1);
  }

  private static int number(String[] args, int at, int otherwise) {
    return at < args.length ? Integer.parseInt(args[at]) : otherwise;
  }

  private boolean run(Path folder, int promptTokens, int newTokens, int trials) throws IOException {
    System.out.printf(
        "%-22s %9s %9s %9s %9s %9s%n", "", "seconds", "VmRSS", "RssAnon", "RssFile", "VmHWM");
    report("started");
    try (Kernels kernels = Backends.open();
        PretrainedModel model = PretrainedModel.open(folder, new Ops(kernels))) {
      report("opened");
      int[] text = model.tokenizer().encode("the quick brown fox ".repeat(promptTokens), true);
      int[] prompt = Arrays.copyOf(text, promptTokens);
      report("tokenizer");
      int positions = promptTokens + newTokens;
      Generator.Options limits = Generator.Options.defaults().withMaxRows(1);
      MemoryPlan plan = MemoryPlan.of(model.transformer(), 1, positions, limits.prefillTokens());
      try (Generator generator = new Generator(model.transformer(), limits)) {
        var _ =
            generator.generate(
                GenerationRequest.greedy(prompt, model.transformer().noMask(), newTokens),
                (_, position, _) -> {
                  if (position == 0 || position == newTokens - 1) {
                    report("token " + (position + 1));
                  }
                });
      }
      List<Trial> all = new ArrayList<>();
      for (int t = 0; t < trials; t++) {
        all.add(Trial.of("trial " + t, prompt, t, t + 8, newTokens));
      }
      if (trials > 0) {
        var _ =
            new RetrievalHeadScorer(model.transformer(), null, WuMethod.STRICT).score(all, limits);
        report(trials + " trials");
      }
      long files = 0;
      for (SafeTensors file : model.checkpoint().files()) {
        files += Files.size(file.file());
      }
      long most = status("VmHWM:");
      long bound = files + plan.keysValues() + GIB;
      System.out.printf(
          Locale.ROOT,
          "planned %s%npeak %.2f GiB; files + keys and values + 1 GiB = %.2f GiB: %s%n",
          plan,
          most / (double) GIB,
          bound / (double) GIB,
          most <= bound ? "kept" : "EXCEEDED");
      return most <= bound;
    }
  }

  private void report(String what) {
    System.out.printf(
        Locale.ROOT,
        "%-22s %9.2f %9.2f %9.2f %9.2f %9.2f%n",
        what,
        (System.nanoTime() - started) / 1e9,
        status("VmRSS:") / (double) GIB,
        status("RssAnon:") / (double) GIB,
        status("RssFile:") / (double) GIB,
        status("VmHWM:") / (double) GIB);
  }

  /// A line of this process's status in bytes, such as `VmHWM:`.
  ///
  /// @throws IllegalStateException where there is no such line, or no Linux
  public static long status(String name) {
    try {
      for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
        if (line.startsWith(name)) {
          return 1024 * Long.parseLong(line.replaceAll("[^0-9]", ""));
        }
      }
      throw new IllegalStateException("/proc/self/status has no " + name);
    } catch (IOException e) {
      throw new IllegalStateException("resident memory is known on Linux only", e);
    }
  }
}
