package io.github.retmask.examples.cli;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.eval.GreedyMatch;
import io.github.retmask.eval.SyntheticLanguage;
import io.github.retmask.eval.SyntheticLanguage.Kind;
import io.github.retmask.eval.TrainingRecipe;
import io.github.retmask.generate.Generator;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.CheckpointFingerprint;
import io.github.retmask.io.FinishedOptions;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.WorkJournal;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.scoring.NeedleRecall;
import io.github.retmask.scoring.Trial;
import io.github.retmask.scoring.WuMethod;
import io.github.retmask.stats.Interval;
import io.github.retmask.stats.Wilson;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SequencedMap;
import java.util.Set;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/// `retmask eval`: how well a model answers, intact and with heads switched.
@Command(
    name = "eval",
    description = "Evaluate a model, intact and, with --mask, with heads switched.",
    footer = {
      "",
      "Suite niah: needles from --needles or --trials. needle_recall is the mean ROUGE-1 "
          + "recall of the answers (by tokens where there is no text), needle_success the share of "
          + "prompts with more than half; by length, and by length and depth.",
      "Suite synthetic, for models of a synthetic language: context_exact is the share of "
          + "exact answers where the context has one, memory_exact where only memory has.",
      "Intervals are Wilson's, 95 %%. Run again, it goes on where it was.",
      "",
      "Examples:",
      "  retmask eval bundled:tiny --suite synthetic --mask @heads --out results.json",
      "  retmask eval MODEL --suite niah --needles niah --lengths 1000,4000,8000 \\",
      "    --out results.json"
    })
final class EvalCommand implements Callable<Integer> {
  private static final double NORMAL_97_5 = 1.959963984540054;
  private static final String BASE = "base";
  private static final List<Integer> SYNTHETIC_LENGTHS = List.of(48, 96, 128, 160, 224);
  private static final int SYNTHETIC_TRIALS = 400;
  private static final long SYNTHETIC_SEED = 2; // score takes another one

  private final Console console;

  @Mixin private final InferenceOptions model = new InferenceOptions();
  @Mixin private final MaskOptions mask = new MaskOptions();
  @Mixin private final MaskPhaseOption phase = new MaskPhaseOption();
  @Mixin private final TrialOptions source = new TrialOptions();
  @Mixin private final ResumeOptions resume = new ResumeOptions();

  @Option(
      names = "--suite",
      paramLabel = "SUITE",
      required = true,
      description = "niah or synthetic.")
  private String suite = "";

  @Option(
      names = "--arm",
      paramLabel = "NAME",
      description = "Name of the masked arm in the results (default: ablated).")
  private @Nullable String arm;

  @Option(names = "--out", paramLabel = "FILE", required = true, description = "File to write.")
  private Path out = Path.of("");

  EvalCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException {
    if (!suite.equals("niah") && !suite.equals("synthetic")) {
      throw new UsageException("--suite \"%s\": want niah or synthetic".formatted(suite));
    }
    if (arm != null && !mask.isGiven()) {
      throw new UsageException("--arm without --mask: only the masked arm can be named");
    }
    if (suite.equals("synthetic")) {
      source.requireProbesOnly();
    }
    if (suite.equals("niah") && !source.isGiven()) {
      throw new UsageException("--suite niah needs --needles or --trials");
    }
    try (Session session = model.open(console)) {
      Evaluation result = suite.equals("niah") ? niah(session.model()) : synthetic(session.model());
      print(result);
    }
    return ExitCode.OK;
  }

  /// The masks to evaluate, by arm.
  private SequencedMap<String, HeadMask> arms(PretrainedModel opened) throws IOException {
    HeadMask none = opened.transformer().noMask();
    HeadMask masked = mask.on(none).during(phase.phase(mask));
    SequencedMap<String, HeadMask> arms = new LinkedHashMap<>();
    arms.put(BASE, none);
    if (mask.isGiven()) {
      arms.put(arm == null ? "ablated" : arm, masked);
      if (arms.size() == 1) {
        throw new UsageException("--arm base: that is the name of the intact model");
      }
    }
    return arms;
  }

  private SortedMap<String, String> describe(
      PretrainedModel opened, SequencedMap<String, HeadMask> arms) throws IOException {
    SortedMap<String, String> options = new TreeMap<>();
    options.put(
        "model",
        CheckpointFingerprint.of(opened.files(), CheckpointFingerprint.Coverage.SAMPLED).text());
    options.put("suite", suite);
    model.describe(options);
    options.put("arms", String.join(",", arms.keySet()));
    options.put("backend", opened.transformer().ops().backend());
    mask.describe(options);
    phase.describe(mask, options);
    return options;
  }

  /// The result of an earlier run that ended, or null.
  private @Nullable Evaluation finished(SortedMap<String, String> options) throws IOException {
    if (resume.isRestart() || !Files.exists(out) || Files.exists(WorkJournal.path(out))) {
      return null;
    }
    Evaluation before = Evaluation.read(out);
    FinishedOptions.requireEqual(out, before.options(), options);
    console.note("retmask eval: " + out + " is finished already; --restart evaluates anew");
    return before;
  }

  /// Measures the cells of a suite.
  @FunctionalInterface
  private interface Work {
    List<Evaluation.Cell> run(WorkJournal journal, ProgressMeter meter) throws IOException;
  }

  private Evaluation run(
      SortedMap<String, String> options, List<Long> seeds, int units, String unit, Work work)
      throws IOException {
    Evaluation before = finished(options);
    if (before != null) {
      return before;
    }
    long begun = System.nanoTime();
    try (WorkJournal journal = WorkJournal.open(out, options, resume.journal());
        ProgressMeter meter = new ProgressMeter(console, "eval", unit, journal.size(), units);
        Interruption _ =
            Interruption.guard(
                console,
                "retmask eval: interrupted; what is finished is kept, the same command goes on",
                Interruption.Stop.AT_ONCE)) {
      List<Evaluation.Cell> cells = work.run(journal, meter);
      double seconds = (System.nanoTime() - begun) / 1e9;
      Evaluation result =
          new Evaluation(model.name(), suite, seeds, seconds, mask.heads(), cells, options);
      journal.finish(() -> result.write(out));
      return result;
    }
  }

  private Evaluation niah(PretrainedModel opened) throws IOException {
    SequencedMap<String, HeadMask> arms = arms(opened);
    TrialOptions.Made made = source.make(opened, WuMethod.STRICT, false, console);
    SortedMap<String, String> options = describe(opened, arms);
    options.putAll(made.options());
    options.put("eos", IdList.text(opened.eosIds()));
    NeedleRecall needles =
        new NeedleRecall(
            opened.transformer(),
            opened.hasTokenizer() ? opened.tokenizer() : null,
            opened.eosIds());
    List<Trial> trials = made.trials().stream().filter(needles::fits).toList();
    if (trials.size() < made.trials().size()) {
      console.note(
          "retmask eval: %d of %d prompts exceed the model's %d positions and are left out"
              .formatted(
                  made.trials().size() - trials.size(),
                  made.trials().size(),
                  opened.config().maxPositions()));
    }
    if (trials.isEmpty()) {
      throw new FormatException("no prompt fits the model: choose shorter --lengths");
    }
    return run(
        options,
        List.of(),
        trials.size() * arms.size(),
        "prompts",
        (journal, meter) -> {
          double[][] recalls =
              needles.run(
                  trials,
                  List.copyOf(arms.values()),
                  journal,
                  Generator.Options.defaults(),
                  (done, _) -> meter.at(done, ""));
          List<Evaluation.Cell> cells = new ArrayList<>();
          int row = 0;
          for (String name : arms.keySet()) {
            cells.addAll(needleCells(name, trials, recalls[row++]));
          }
          return cells;
        });
  }

  /// Recall by length, then by length and depth where that is known.
  private static List<Evaluation.Cell> needleCells(
      String arm, List<Trial> trials, double[] recalls) {
    record Place(int length, @Nullable String depth) {}
    SequencedMap<Place, List<Double>> byLength = new LinkedHashMap<>();
    SequencedMap<Place, List<Double>> byDepth = new LinkedHashMap<>();
    for (int t = 0; t < recalls.length; t++) {
      int length = length(trials.get(t));
      String depth = trials.get(t).labels().get("depth");
      byLength.computeIfAbsent(new Place(length, null), _ -> new ArrayList<>()).add(recalls[t]);
      if (depth != null) {
        byDepth.computeIfAbsent(new Place(length, depth), _ -> new ArrayList<>()).add(recalls[t]);
      }
    }
    List<Evaluation.Cell> cells = new ArrayList<>();
    for (Map<Place, List<Double>> table : List.of(byLength, byDepth)) {
      table.forEach(
          (place, values) -> {
            int n = values.size();
            double mean = values.stream().mapToDouble(Double::doubleValue).sum() / n;
            long successes = values.stream().filter(NeedleRecall::isSuccess).count();
            Interval around = Wilson.interval(Math.min(1, mean), n, NORMAL_97_5);
            cells.add(
                new Evaluation.Cell(
                    arm, place.length(), place.depth(), "needle_recall", mean, around, n));
            cells.add(
                new Evaluation.Cell(
                    arm,
                    place.length(),
                    place.depth(),
                    "needle_success",
                    (double) successes / n,
                    Wilson.ci95(successes, n),
                    n));
          });
    }
    return cells;
  }

  /// The length of the grid the trial was made for, or else of its prompt.
  private static int length(Trial trial) {
    String label = trial.labels().get("length");
    return label != null && label.matches("\\d{1,9}")
        ? Integer.parseInt(label)
        : trial.prompt().length;
  }

  private Evaluation synthetic(PretrainedModel opened) throws IOException {
    SyntheticLanguage language = TrainingRecipe.languageOf(opened.folder());
    if (language == null) {
      throw new FormatException(
          "%s: no %s; only a model of a synthetic language has this suite"
              .formatted(opened.folder(), TrainingRecipe.LANGUAGE_FILE));
    }
    SequencedMap<String, HeadMask> arms = arms(opened);
    List<Integer> lengths = source.probes().lengths(SYNTHETIC_LENGTHS);
    int perLength = source.probes().perLength(SYNTHETIC_TRIALS);
    long seed = source.probes().seed(SYNTHETIC_SEED);
    requireFitting(lengths, language, opened);
    SortedMap<String, String> options = describe(opened, arms);
    options.put("lengths", new NumberList(lengths).toString());
    options.put("per-length", Integer.toString(perLength));
    options.put("seed", Long.toString(seed));
    return run(
        options,
        List.of(seed),
        arms.size() * lengths.size() * Kind.values().length,
        "parts",
        (journal, meter) -> {
          List<Evaluation.Cell> cells = new ArrayList<>();
          int part = 0;
          for (Map.Entry<String, HeadMask> arm : arms.entrySet()) {
            for (Kind kind : Kind.values()) {
              for (int length : lengths) {
                if (part == journal.size()) {
                  journal.append(
                      right(
                          GreedyMatch.matches(
                              opened.transformer(),
                              arm.getValue(),
                              items(language, seed, perLength, length, kind))));
                }
                long right = journal.item(part++).path("right").longValue();
                meter.at(part, "");
                cells.add(
                    new Evaluation.Cell(
                        arm.getKey(),
                        length,
                        null,
                        kind == Kind.CONTEXT ? "context_exact" : "memory_exact",
                        (double) right / perLength,
                        Wilson.ci95(right, perLength),
                        perLength));
              }
            }
          }
          return cells;
        });
  }

  private static void requireFitting(
      List<Integer> lengths, SyntheticLanguage language, PretrainedModel opened) {
    for (int length : lengths) {
      try {
        int answer = language.probe(0, 0, length, Kind.CONTEXT).answer().length;
        if (length + answer > opened.config().maxPositions()) {
          throw new IllegalArgumentException(
              "length %d with an answer of %d tokens, the model has %d positions"
                  .formatted(length, answer, opened.config().maxPositions()));
        }
      } catch (IllegalArgumentException e) {
        throw new UsageException("--lengths: " + e.getMessage());
      }
    }
  }

  private static List<GreedyMatch.Item> items(
      SyntheticLanguage language, long seed, int count, int length, Kind kind) {
    List<GreedyMatch.Item> items = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      SyntheticLanguage.Probe probe = language.probe(seed, i, length, kind);
      items.add(new GreedyMatch.Item(probe.prompt(), probe.answer()));
    }
    return items;
  }

  private static ObjectNode right(boolean[] matched) {
    int right = 0;
    for (boolean one : matched) {
      right += one ? 1 : 0;
    }
    return JsonNodeFactory.instance.objectNode().put("right", right);
  }

  /// A line per arm and metric, a column per length.
  private void print(Evaluation result) {
    Set<Integer> lengths = new LinkedHashSet<>();
    SequencedMap<String, Map<Integer, Evaluation.Cell>> rows = new LinkedHashMap<>();
    for (Evaluation.Cell cell : result.cells()) {
      if (cell.depth() == null) {
        lengths.add(cell.length());
        rows.computeIfAbsent(
                "%-24s %-15s".formatted(cell.arm(), cell.metric()), _ -> new LinkedHashMap<>())
            .put(cell.length(), cell);
      }
    }
    StringBuilder head = new StringBuilder("%-24s %-15s".formatted("arm", "percent, length"));
    lengths.forEach(length -> head.append(String.format(Locale.ROOT, " %18d", length)));
    console.line(head.toString());
    rows.forEach(
        (name, cells) -> {
          StringBuilder row = new StringBuilder(name);
          for (int length : lengths) {
            Evaluation.Cell cell = cells.get(length);
            row.append(
                cell == null
                    ? " ".repeat(19)
                    : String.format(
                        Locale.ROOT,
                        " %5.1f [%4.1f,%5.1f]",
                        100 * cell.value(),
                        100 * cell.ci95().low(),
                        100 * cell.ci95().high()));
          }
          console.line(row.toString());
        });
  }
}
