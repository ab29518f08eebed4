package io.github.retmask.examples.quickstart;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.backend.Ops;
import io.github.retmask.eval.GreedyMatch;
import io.github.retmask.eval.SyntheticLanguage;
import io.github.retmask.eval.SyntheticLanguage.Kind;
import io.github.retmask.eval.SyntheticLanguage.Probe;
import io.github.retmask.generate.Completion;
import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Generator;
import io.github.retmask.generate.Sampling;
import io.github.retmask.generate.StopRule;
import io.github.retmask.heads.Control;
import io.github.retmask.heads.ControlHeads;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.heads.HeadScores;
import io.github.retmask.heads.HeadStatistics;
import io.github.retmask.model.Transformer;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.scoring.OnePassScorer;
import io.github.retmask.stats.Interval;
import io.github.retmask.stats.PairedBootstrap;
import io.github.retmask.stats.Wilson;
import io.github.retmask.train.AdamW;
import io.github.retmask.train.DpoTrainer;
import io.github.retmask.train.GradientCheckpointing;
import io.github.retmask.train.LrPlan;
import io.github.retmask.train.PreferenceData;
import io.github.retmask.train.PreferencePair;
import io.github.retmask.train.TrainedCheckpoint;
import io.github.retmask.train.TrainingStart;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;

/// RetMask from end to end on a model of the synthetic language: find the retrieval heads, mask
/// them and as many others for control, sample answers with and without, train on the pairs with
/// DPO, and compare all arms on prompts that nothing else used.
///
/// Trainings live in `out/dpo` and resume there.
public final class Quickstart {
  private static final int DETECTION_SEED = 1; // probe streams that never meet
  private static final int EVALUATION_SEED = 2;
  private static final int PROMPT_SEED = 1000; // plus the seed of the repetition
  private static final int RESAMPLES = 1000;

  private final Options options;
  private final PretrainedModel model;
  private final SyntheticLanguage language;
  private final Ops ops;
  private final Progress progress;
  private final SequencedMap<Results.Column, List<GreedyMatch.Item>> exam = new LinkedHashMap<>();
  private final Map<String, List<Map<Results.Column, boolean[]>>> answers = new LinkedHashMap<>();
  private final List<Results.Pairs> pairs = new ArrayList<>();
  private final List<Results.CurvePoint> curves = new ArrayList<>();
  private final List<Results.Stage> stages = new ArrayList<>();

  /// What to run. The same values serve every arm.
  ///
  /// @param seeds repetitions of sampling and training
  /// @param lengths prompt lengths of the evaluation, tokens
  /// @param trials evaluation prompts of each length
  /// @param memoryLength prompt length of the questions that only memory answers
  /// @param detectionTrials prompts that heads are scored on
  /// @param threshold score from which a head counts as a retrieval head
  /// @param ablationDraws control masks of each kind that the base is evaluated under
  /// @param ablationTrials evaluation prompts of each length under a control mask, the first ones
  /// @param prompts prompts sampled per seed
  /// @param sampleLength their length, tokens
  /// @param memoryShare share of them whose key has no needle
  /// @param temperature of sampling
  /// @param beta of DPO
  /// @param learningRate peak, after a warm-up of a tenth; falls to a tenth by a cosine
  /// @param epochs passes over the pairs
  /// @param batchSize pairs of a step
  public record Options(
      List<Long> seeds,
      List<Integer> lengths,
      int trials,
      int memoryLength,
      int detectionTrials,
      double threshold,
      int ablationDraws,
      int ablationTrials,
      int prompts,
      int sampleLength,
      double memoryShare,
      double temperature,
      double beta,
      double learningRate,
      int epochs,
      int batchSize) {

    /// The values of the published table.
    public static final Options DEFAULTS =
        new Options(
            List.of(1L, 2L, 3L),
            List.of(48, 96, 128, 192),
            200,
            96,
            256,
            0.1,
            8,
            50,
            500,
            48,
            0.5,
            0.6,
            0.1,
            2e-5,
            2,
            32);

    /// These options with other repetitions.
    public Options withSeeds(List<Long> others) {
      return new Options(
          List.copyOf(others),
          lengths,
          trials,
          memoryLength,
          detectionTrials,
          threshold,
          ablationDraws,
          ablationTrials,
          prompts,
          sampleLength,
          memoryShare,
          temperature,
          beta,
          learningRate,
          epochs,
          batchSize);
    }
  }

  /// Hears how the run proceeds.
  @FunctionalInterface
  public interface Progress {
    /// A part of the run begins.
    void stage(String name);
  }

  private Quickstart(
      Options options,
      PretrainedModel model,
      SyntheticLanguage language,
      Ops ops,
      Progress progress) {
    this.options = options;
    this.model = model;
    this.language = language;
    this.ops = ops;
    this.progress = progress;
  }

  /// Runs everything.
  ///
  /// @param name of the model in the results
  /// @param out folder of the trainings
  /// @throws IllegalStateException when no head reaches the threshold
  public static Results run(
      String name,
      PretrainedModel model,
      SyntheticLanguage language,
      Ops ops,
      Options options,
      Path out,
      TrainingStart start,
      Progress progress)
      throws IOException, InterruptedException {
    return new Quickstart(options, model, language, ops, progress).run(name, out, start);
  }

  private Results run(String name, Path out, TrainingStart start)
      throws IOException, InterruptedException {
    long begun = System.nanoTime();
    Transformer base = model.transformer();
    prepareExam();

    long since = begin("find retrieval heads");
    HeadScores scores = OnePassScorer.score(base, detectionTrials());
    HeadStatistics statistics = HeadStatistics.of(scores);
    List<HeadId> retrieval = scores.atLeast(options.threshold());
    if (retrieval.isEmpty()) {
      throw new IllegalStateException(
          "no head reaches the threshold %s; the best has %.3f"
              .formatted(options.threshold(), scores.mean(scores.ranking().getFirst())));
    }
    end("find retrieval heads", since);

    since = begin("mask heads of the base");
    ControlHeads controls = new ControlHeads(scores, retrieval);
    examine(
        base,
        List.of(
            new Arm(Results.BASE, base.noMask()),
            new Arm(Results.ABLATED_RETRIEVAL, base.noMask().withGate(retrieval, 0))),
        options.trials());
    examine(base, controlArms(controls), options.ablationTrials());
    end("mask heads of the base", since);

    int draws = options.seeds().size();
    List<ControlHeads.Draw> others = controls.draw(Control.NON_RETRIEVAL, draws, 42);
    List<ControlHeads.Draw> random = controls.draw(Control.RANDOM, draws, 42);
    for (int i = 0; i < draws; i++) {
      long seed = options.seeds().get(i);
      SequencedMap<String, List<HeadId>> arms = new LinkedHashMap<>();
      arms.put(Results.RETMASK, retrieval);
      arms.put(Results.DPO_NON_RETRIEVAL, others.get(i).heads());
      arms.put(Results.DPO_RANDOM, random.get(i).heads());
      sampleAndTrain(seed, arms, out, start);
    }
    return new Results(
        name,
        options.seeds(),
        (System.nanoTime() - begun) / 1e9,
        new Results.Lengths(language.options().minLength(), language.options().maxLength()),
        base.config().layerCount(),
        base.config().heads(),
        options.threshold(),
        statistics.estimates(),
        retrieval,
        evaluation(),
        differences(),
        pairs,
        curves,
        stages,
        describe(),
        Environment.describe(ops));
  }

  private long begin(String stage) {
    progress.stage(stage);
    return System.nanoTime();
  }

  private void end(String stage, long since) {
    stages.add(new Results.Stage(stage, (System.nanoTime() - since) / 1e9));
  }

  private void prepareExam() {
    for (int length : options.lengths()) {
      exam.put(new Results.Column(Results.CONTEXT_EXACT, length), items(length, Kind.CONTEXT));
    }
    int length = options.memoryLength();
    exam.put(new Results.Column(Results.MEMORY_EXACT, length), items(length, Kind.MEMORY));
  }

  private List<GreedyMatch.Item> items(int length, Kind kind) {
    List<GreedyMatch.Item> items = new ArrayList<>();
    for (int i = 0; i < options.trials(); i++) {
      Probe probe = language.probe(EVALUATION_SEED, i, length, kind);
      items.add(new GreedyMatch.Item(probe.prompt(), probe.answer()));
    }
    return items;
  }

  private List<OnePassScorer.Trial> detectionTrials() {
    List<OnePassScorer.Trial> trials = new ArrayList<>();
    for (int i = 0; i < options.detectionTrials(); i++) {
      Probe probe = language.probe(DETECTION_SEED, i, options.sampleLength(), Kind.CONTEXT);
      trials.add(
          new OnePassScorer.Trial(
              probe.prompt(), probe.answer(), probe.valueStart(), probe.valueEnd()));
    }
    return trials;
  }

  /// A mask to examine a model under.
  private record Arm(String name, HeadMask mask) {}

  private List<Arm> controlArms(ControlHeads controls) {
    SequencedMap<String, Control> kinds = new LinkedHashMap<>();
    kinds.put(Results.ABLATED_NON_RETRIEVAL, Control.NON_RETRIEVAL);
    kinds.put(Results.ABLATED_RANDOM, Control.RANDOM);
    kinds.put(Results.ABLATED_LAYER_MATCHED, Control.LAYER_MATCHED);
    HeadMask intact = model.transformer().noMask();
    List<Arm> arms = new ArrayList<>();
    kinds.forEach(
        (name, control) -> {
          for (ControlHeads.Draw draw : controls.draw(control, options.ablationDraws(), 42)) {
            arms.add(new Arm(name, intact.withGate(draw.heads(), 0)));
          }
        });
    return arms;
  }

  /// Answers the first `trials` questions of every part of the exam; arms with several draws or
  /// seeds come here once for each.
  private void examine(Transformer subject, List<Arm> arms, int trials) {
    List<HeadMask> masks = arms.stream().map(Arm::mask).toList();
    List<Map<Results.Column, boolean[]>> right = new ArrayList<>();
    for (Arm arm : arms) {
      Map<Results.Column, boolean[]> ofArm = new LinkedHashMap<>();
      right.add(ofArm);
      answers.computeIfAbsent(arm.name(), _ -> new ArrayList<>()).add(ofArm);
    }
    exam.forEach(
        (column, items) -> {
          List<GreedyMatch.Item> asked = items.subList(0, Math.min(trials, items.size()));
          boolean[][] matched = GreedyMatch.matches(subject, masks, asked);
          for (int a = 0; a < matched.length; a++) {
            right.get(a).put(column, matched[a]);
          }
        });
  }

  private void sampleAndTrain(
      long seed, SequencedMap<String, List<HeadId>> arms, Path out, TrainingStart start)
      throws IOException, InterruptedException {
    String stage = "seed " + seed + ": sample pairs";
    long since = begin(stage);
    List<int[]> prompts =
        language
            .prompts(
                PROMPT_SEED + seed,
                options.prompts(),
                options.sampleLength(),
                options.memoryShare())
            .stream()
            .map(Probe::prompt)
            .toList();
    HeadMask intact = model.transformer().noMask();
    List<HeadMask> masks = new ArrayList<>(List.of(intact));
    arms.values().forEach(heads -> masks.add(intact.withGate(heads, 0)));
    List<List<int[]>> sampled = sample(seed, prompts, masks);
    end(stage, since);

    int column = 1;
    for (String arm : arms.keySet()) {
      stage = "seed " + seed + ": train " + arm;
      since = begin(stage);
      List<PreferencePair> all = new ArrayList<>();
      for (int i = 0; i < prompts.size(); i++) {
        all.add(
            new PreferencePair(prompts.get(i), sampled.get(0).get(i), sampled.get(column).get(i)));
      }
      column++;
      PreferenceData data = PreferenceData.of(all, Integer.MAX_VALUE);
      int identical = data.dropped().getOrDefault(PreferenceData.Dropped.IDENTICAL, 0);
      pairs.add(new Results.Pairs(arm, seed, all.size(), data.pairs().size(), identical));
      Path folder = out.resolve("dpo").resolve(arm + "-seed" + seed);
      train(data, seed, folder, start);
      readCurve(arm, seed, folder);
      try (PretrainedModel trained = PretrainedModel.open(folder, ops)) {
        Transformer subject = trained.transformer();
        examine(subject, List.of(new Arm(arm, subject.noMask())), options.trials());
      }
      end(stage, since);
    }
  }

  /// Answers of every prompt under every mask, all twins of a prompt with the same noise and in the
  /// same batch: `[mask][prompt]`.
  private List<List<int[]>> sample(long seed, List<int[]> prompts, List<HeadMask> masks) {
    Sampling sampling = Sampling.of(options.temperature(), seed);
    StopRule stop = StopRule.at(SyntheticLanguage.EOS);
    int longest = language.options().valueLength() + 1;
    List<GenerationRequest> requests = new ArrayList<>();
    for (int i = 0; i < prompts.size(); i++) {
      for (HeadMask mask : masks) {
        requests.add(
            new GenerationRequest(prompts.get(i), mask, sampling, i, longest, stop, false));
      }
    }
    List<List<int[]>> out = new ArrayList<>();
    masks.forEach(_ -> out.add(new ArrayList<>()));
    try (Generator generator = new Generator(model.transformer(), Generator.Options.defaults())) {
      for (Completion completion : generator.generate(requests)) {
        out.get(completion.index() % masks.size()).add(completion.ids());
      }
    }
    return out;
  }

  private void train(PreferenceData data, long seed, Path folder, TrainingStart start)
      throws IOException, InterruptedException {
    double rate = options.learningRate();
    DpoTrainer.Options dpo =
        new DpoTrainer.Options(
            options.beta(),
            0,
            model.transformer().noMask(),
            options.epochs(),
            options.batchSize(),
            4096,
            GradientCheckpointing.OFF,
            seed,
            new LrPlan(LrPlan.Shape.COSINE, rate, rate / 10, 0.1),
            AdamW.Options.RETMASK,
            2,
            1000);
    DpoTrainer.train(
        model.config(),
        model.weights(),
        ops,
        dpo,
        data,
        folder,
        start,
        trained -> TrainedCheckpoint.save(trained, model.checkpoint(), ops, folder),
        _ -> {});
  }

  private void readCurve(String arm, long seed, Path folder) throws IOException {
    ObjectMapper json = new ObjectMapper();
    for (String line : Files.readAllLines(folder.resolve("metrics.jsonl"))) {
      JsonNode node = json.readTree(line);
      curves.add(
          new Results.CurvePoint(
              arm,
              seed,
              node.path("step").asInt(),
              node.path("loss").asDouble(Double.NaN),
              node.path("rewards/accuracies").asDouble(Double.NaN),
              node.path("rewards/margins").asDouble(Double.NaN)));
    }
  }

  /// Mean over draws or seeds of each question's result, so that questions stay the unit of chance.
  private double[] perQuestion(String arm, Results.Column column) {
    List<Map<Results.Column, boolean[]>> runs = answers.getOrDefault(arm, List.of());
    double[] mean = new double[runs.isEmpty() ? 0 : runs.getFirst().get(column).length];
    for (Map<Results.Column, boolean[]> run : runs) {
      boolean[] right = run.get(column);
      for (int i = 0; i < mean.length; i++) {
        mean[i] += right[i] ? 1.0 / runs.size() : 0;
      }
    }
    return mean;
  }

  private List<Results.Evaluation> evaluation() {
    List<Results.Evaluation> rows = new ArrayList<>();
    for (String arm : answers.keySet()) {
      for (Results.Column column : exam.keySet()) {
        double[] right = perQuestion(arm, column);
        double sum = 0;
        for (double one : right) {
          sum += one;
        }
        int runs = answers.get(arm).size();
        Interval ci95 =
            runs == 1
                ? Wilson.ci95(Math.round(sum), right.length)
                : PairedBootstrap.difference(new double[right.length], right, RESAMPLES, 7).ci95();
        rows.add(
            new Results.Evaluation(
                arm,
                column.length(),
                column.metric(),
                sum / right.length,
                ci95,
                (long) runs * right.length));
      }
    }
    return rows;
  }

  private List<Results.Difference> differences() {
    List<Results.Difference> rows = new ArrayList<>();
    List<String> trained = List.of(Results.RETMASK, Results.DPO_NON_RETRIEVAL, Results.DPO_RANDOM);
    for (String arm : trained) {
      addDifference(rows, arm, Results.BASE);
    }
    addDifference(rows, Results.RETMASK, Results.DPO_NON_RETRIEVAL);
    addDifference(rows, Results.RETMASK, Results.DPO_RANDOM);
    return rows;
  }

  private void addDifference(List<Results.Difference> rows, String arm, String against) {
    for (Results.Column column : exam.keySet()) {
      PairedBootstrap difference =
          PairedBootstrap.difference(
              perQuestion(against, column), perQuestion(arm, column), RESAMPLES, 7);
      rows.add(
          new Results.Difference(
              arm,
              against,
              column.length(),
              column.metric(),
              difference.mean(),
              difference.ci95()));
    }
  }

  private Map<String, String> describe() {
    Map<String, String> all = new LinkedHashMap<>();
    all.put("evaluation prompts per length", Integer.toString(options.trials()));
    all.put("detection prompts", Integer.toString(options.detectionTrials()));
    all.put("control masks per kind", Integer.toString(options.ablationDraws()));
    all.put(
        "evaluation prompts per length and control mask",
        Integer.toString(options.ablationTrials()));
    all.put("prompts sampled per seed", Integer.toString(options.prompts()));
    all.put("length sampled at", Integer.toString(options.sampleLength()));
    all.put("share of memory prompts", Double.toString(options.memoryShare()));
    all.put("temperature", Double.toString(options.temperature()));
    all.put("DPO beta", Double.toString(options.beta()));
    all.put("learning rate", Double.toString(options.learningRate()));
    all.put("epochs", Integer.toString(options.epochs()));
    all.put("batch", Integer.toString(options.batchSize()));
    return all;
  }
}
