package io.github.retmask.examples.cli;

import io.github.retmask.eval.SyntheticLanguage;
import io.github.retmask.eval.TrainingRecipe;
import io.github.retmask.io.FormatException;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.scoring.NeedleGrid;
import io.github.retmask.scoring.NeedleTask;
import io.github.retmask.scoring.NeedleTrials;
import io.github.retmask.scoring.PromptForm;
import io.github.retmask.scoring.Trial;
import io.github.retmask.scoring.TrialsFile;
import io.github.retmask.scoring.WuCompatTrials;
import io.github.retmask.scoring.WuMethod;
import io.github.retmask.scoring.WuTrials;
import io.github.retmask.tokenizer.ChatTemplate;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/// Where needle trials come from: needle files, a file of trials, or the synthetic language that a
/// model was trained on.
final class TrialOptions {
  private static final String THINKING = "enable_thinking";
  private static final List<Integer> DEPTHS = NeedleGrid.evenly(0, 100, 10);
  private static final List<Integer> STRICT_LENGTHS = NeedleGrid.evenly(250, 5000, 20);
  private static final List<Integer> COMPAT_LENGTHS = NeedleGrid.evenly(0, 5000, 20);
  private static final List<Integer> PROBE_LENGTHS = List.of(64, 96, 128);

  @Option(
      names = "--needles",
      paramLabel = "PATH",
      description =
          "Needles in the published layout: a folder with needles.jsonl and part1, part2, ..., or a"
              + " .jsonl file of needle, question and real_needle.")
  private @Nullable Path needles;

  @Option(
      names = "--haystack",
      paramLabel = "PATH",
      description = "The text to hide needles in: a file, or a folder of .txt files or of parts.")
  private @Nullable Path haystack;

  @Option(
      names = "--trials",
      paramLabel = "FILE",
      description =
          "Trials, a JSON object a line: prompt_ids, prompt or chat; needle_span or needle.")
  private @Nullable Path trials;

  @Option(
      names = "--depths",
      paramLabel = "PERCENT",
      converter = NumberList.Converter.class,
      description = "Where needles go: 0,50,100 or FROM:TO:COUNT (default: 0:100:10).")
  private @Nullable NumberList depths;

  @Option(
      names = "--form",
      paramLabel = "FORM",
      description = "Prompts of needles: chat or plain (default: chat with a chat template).")
  private @Nullable String form;

  @Option(
      names = "--max-new-tokens",
      paramLabel = "N",
      description = "Tokens that a response may have (default: 50).")
  private @Nullable Integer maxNewTokens;

  @Option(
      names = "--provider",
      paramLabel = "NAME",
      description =
          "Whose token ids method wu-compat takes for a period: llama (as the script does for every"
              + " model), mistral, glm or other.")
  private @Nullable String provider;

  @Mixin private ProbeOptions probes = new ProbeOptions();
  @Mixin private ChatOptions template = new ChatOptions();

  /// Trials and what they were made from.
  ///
  /// @param trials at least one
  /// @param options by name
  record Made(List<Trial> trials, Map<String, String> options) {}

  ProbeOptions probes() {
    return probes;
  }

  /// Whether needle files or trials were named.
  boolean isGiven() {
    return needles != null || trials != null;
  }

  /// Fails when an option is given that only needle prompts have a use for.
  void requireProbesOnly() {
    boolean needleOptions =
        isGiven()
            || haystack != null
            || depths != null
            || form != null
            || provider != null
            || maxNewTokens != null;
    if (needleOptions || !template.variables().isEmpty()) {
      throw new UsageException(
          "--needles, --trials, --haystack, --depths, --form, --provider, --max-new-tokens and --template-var"
              + " belong to --suite niah");
    }
  }

  /// Makes the trials.
  ///
  /// @param thinks whether the model may think before it answers; else a chat template that knows
  ///   `enable_thinking` is told not to let it, unless `--template-var` says otherwise
  /// @param notes hears what the user should know about them
  Made make(PretrainedModel model, WuMethod method, boolean thinks, Console notes)
      throws IOException {
    requireConsistent(method);
    Map<String, Object> variables = template.variables();
    if (!thinks && knows(model, THINKING)) {
      variables.putIfAbsent(THINKING, false);
    }
    Map<String, String> options = new TreeMap<>();
    List<Trial> made;
    if (trials != null) {
      Tokenizer tokenizer = model.hasTokenizer() ? model.tokenizer() : null;
      made = TrialsFile.read(trials, tokenizer, model.config().vocabSize(), variables, newTokens());
    } else if (needles != null) {
      made = fromNeedles(model, method, variables, options, notes);
    } else {
      made = fromLanguage(model, options);
    }
    variables.forEach((name, value) -> options.put("template-var " + name, String.valueOf(value)));
    options.put("trials", digest(made));
    return new Made(made, options);
  }

  /// Whether the model's chat template has a use for a variable.
  private static boolean knows(PretrainedModel model, String variable) throws IOException {
    ChatTemplate known = model.hasTokenizer() ? model.tokenizer().chatTemplate() : null;
    return known != null && known.reads(variable);
  }

  private void requireConsistent(WuMethod method) {
    if (trials != null && needles != null) {
      throw new UsageException("--trials and --needles: give one of them");
    }
    if (needles == null && (haystack != null || depths != null || form != null)) {
      throw new UsageException("--haystack, --depths and --form belong to --needles");
    }
    if (isGiven()) {
      probes.requireNoProbes();
    }
    if (trials != null && probes.hasLengths()) {
      throw new UsageException("--lengths belongs to --needles, not to --trials");
    }
    if (method == WuMethod.COMPAT && maxNewTokens != null) {
      throw new UsageException(
          "--max-new-tokens: method wu-compat always generates " + WuMethod.SCRIPT_TOKENS);
    }
    if (provider != null && (method != WuMethod.COMPAT || needles == null)) {
      throw new UsageException("--provider belongs to --needles with method wu-compat");
    }
    if (maxNewTokens != null && maxNewTokens < 1) {
      throw new UsageException("--max-new-tokens " + maxNewTokens + ": want at least 1");
    }
  }

  private int newTokens() {
    return maxNewTokens == null ? WuMethod.SCRIPT_TOKENS : maxNewTokens;
  }

  private List<Trial> fromNeedles(
      PretrainedModel model,
      WuMethod method,
      Map<String, ?> variables,
      Map<String, String> options,
      Console notes)
      throws IOException {
    boolean compat = method == WuMethod.COMPAT;
    WuCompatTrials.Provider periods = periods();
    PromptForm prompts = form(model, compat);
    List<Integer> lengths = probes.lengths(compat ? COMPAT_LENGTHS : STRICT_LENGTHS);
    NeedleGrid grid = grid(lengths);
    List<NeedleTask> tasks = tasks();
    NeedleTrials built;
    try {
      built =
          compat
              ? new WuCompatTrials(model.tokenizer(), prompts, periods, variables)
                  .build(tasks, grid)
              : new WuTrials(model.tokenizer(), prompts, variables, newTokens()).build(tasks, grid);
    } catch (IllegalArgumentException e) {
      throw new FormatException(needles + ": " + e.getMessage(), e);
    }
    if (!built.repeats().isEmpty()) {
      notes.note(
          "%d of %d grid points have the prompt of an earlier one (the first: %s); %s"
              .formatted(
                  built.repeats().size(),
                  lengths.size() * grid.depths().size() * tasks.size(),
                  built.repeats().getFirst().id(),
                  compat ? "the method averages them all the same" : "they are left out"));
    }
    options.put("lengths", new NumberList(lengths).toString());
    options.put("depths", new NumberList(grid.depths()).toString());
    options.put("form", prompts.name().toLowerCase(Locale.ROOT));
    if (compat) {
      options.put("provider", periods.name().toLowerCase(Locale.ROOT));
    }
    return built.trials();
  }

  private WuCompatTrials.Provider periods() {
    try {
      return provider == null
          ? WuCompatTrials.Provider.LLAMA
          : WuCompatTrials.Provider.valueOf(provider.toUpperCase(Locale.ROOT));
    } catch (IllegalArgumentException e) {
      throw new UsageException(
          "--provider \"%s\": want llama, mistral, glm or other".formatted(provider));
    }
  }

  private NeedleGrid grid(List<Integer> lengths) {
    try {
      return new NeedleGrid(lengths, depths == null ? DEPTHS : depths.numbers());
    } catch (IllegalArgumentException e) {
      throw new UsageException("--depths: " + e.getMessage());
    }
  }

  private PromptForm form(PretrainedModel model, boolean compat) throws IOException {
    if (form != null) {
      return switch (form) {
        case "chat" -> PromptForm.CHAT;
        case "plain" -> PromptForm.PLAIN;
        default -> throw new UsageException("--form \"%s\": want chat or plain".formatted(form));
      };
    }
    if (compat) {
      return PromptForm.ofScript(String.valueOf(model.folder().toAbsolutePath().getFileName()));
    }
    return model.tokenizer().chatTemplate() == null ? PromptForm.PLAIN : PromptForm.CHAT;
  }

  private List<NeedleTask> tasks() throws IOException {
    Path named = java.util.Objects.requireNonNull(needles);
    if (!Files.exists(named)) {
      throw new NoSuchFileException(named.toString());
    }
    Path file = Files.isDirectory(named) ? named.resolve("needles.jsonl") : named;
    Path texts = haystack;
    if (texts == null) {
      Path folder = file.toAbsolutePath().getParent();
      if (folder == null || !Files.isDirectory(folder.resolve("part1"))) {
        throw new UsageException(
            "--needles %s: no part1 beside it; name the text to hide needles in with --haystack"
                .formatted(named));
      }
      texts = folder;
    }
    if (!Files.isDirectory(texts.resolve("part1"))) {
      return NeedleTask.read(file, NeedleTask.readText(texts));
    }
    List<NeedleTask> tasks = new ArrayList<>();
    for (NeedleTask task : NeedleTask.read(file, "")) {
      String text = NeedleTask.readText(texts.resolve("part" + (tasks.size() + 1)));
      tasks.add(new NeedleTask(task.name(), task.needle(), task.question(), task.answer(), text));
    }
    return tasks;
  }

  private List<Trial> fromLanguage(PretrainedModel model, Map<String, String> options)
      throws IOException {
    SyntheticLanguage language = TrainingRecipe.languageOf(model.folder());
    if (language == null) {
      throw new UsageException(
          "no trials: give --needles or --trials (%s has no %s)"
              .formatted(model.folder(), TrainingRecipe.LANGUAGE_FILE));
    }
    List<Integer> lengths = probes.lengths(PROBE_LENGTHS);
    int perLength = probes.perLength(200);
    long seed = probes.seed(1);
    List<Trial> made = new ArrayList<>();
    for (int length : lengths) {
      for (int i = 0; i < perLength; i++) {
        SyntheticLanguage.Probe probe = probe(language, seed, i, length);
        made.add(
            new Trial(
                "length %d, probe %d".formatted(length, i),
                probe.prompt(),
                probe.valueStart(),
                probe.valueEnd(),
                null,
                maxNewTokens == null ? probe.answer().length + 1 : maxNewTokens,
                new TreeMap<>(Map.of("length", Integer.toString(length)))));
      }
    }
    options.put("lengths", new NumberList(lengths).toString());
    options.put("per-length", Integer.toString(perLength));
    options.put("seed", Long.toString(seed));
    return made;
  }

  private static SyntheticLanguage.Probe probe(
      SyntheticLanguage language, long seed, int index, int length) {
    try {
      return language.probe(seed, index, length, SyntheticLanguage.Kind.CONTEXT);
    } catch (IllegalArgumentException e) {
      throw new UsageException("--lengths: " + e.getMessage());
    }
  }

  /// SHA-256 over everything in the trials that determines their outcomes.
  private static String digest(List<Trial> trials) {
    try {
      MessageDigest sha = MessageDigest.getInstance("SHA-256");
      for (Trial trial : trials) {
        int[] numbers = Arrays.copyOf(trial.prompt(), trial.prompt().length + 4);
        numbers[trial.prompt().length] = trial.prompt().length;
        numbers[trial.prompt().length + 1] = trial.needleStart();
        numbers[trial.prompt().length + 2] = trial.needleEnd();
        numbers[trial.prompt().length + 3] = trial.maxNewTokens();
        ByteBuffer bytes = ByteBuffer.allocate(numbers.length * Integer.BYTES);
        bytes.asIntBuffer().put(numbers);
        sha.update(bytes);
        sha.update((trial.answer() + "\n").getBytes(StandardCharsets.UTF_8));
      }
      return trials.size() + " " + HexFormat.of().formatHex(sha.digest());
    } catch (NoSuchAlgorithmException e) {
      throw new IllegalStateException("every Java platform has SHA-256", e);
    }
  }
}
