package io.github.retmask.examples.cli;

import io.github.retmask.generate.ChatEncoder;
import io.github.retmask.generate.PairFile;
import io.github.retmask.generate.PairRecord;
import io.github.retmask.generate.PairTokens;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.Checkpoint;
import io.github.retmask.io.FormatException;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.train.AdamW;
import io.github.retmask.train.DpoTrainer;
import io.github.retmask.train.GradientCheckpointing;
import io.github.retmask.train.LrPlan;
import io.github.retmask.train.Precision;
import io.github.retmask.train.PreferenceData;
import io.github.retmask.train.PreferencePair;
import io.github.retmask.train.TrainedCheckpoint;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/// `retmask dpo`: trains a model to prefer the intact answers.
@Command(
    name = "dpo",
    description = "Train a model on preference pairs with DPO.",
    footer = {
      "",
      "Defaults are those of the RetMask recipe, but for the truncation of long pairs: a pair "
          + "that does not fit is left out and counted. The reference is the model before training. "
          + "DIR becomes a checkpoint like MODEL, with metrics.jsonl. Run again, it goes on after "
          + "the newest checkpoint and ends with the same bytes.",
      "",
      "Examples:",
      "  retmask dpo MODEL --pairs pairs.jsonl.gz --out retmask-model",
      "  retmask dpo bundled:tiny --pairs pairs.jsonl.gz --out trained \\",
      "    --learning-rate 2e-5 --batch-size 32"
    })
final class DpoCommand implements Callable<Integer> {
  private final Console console;

  @Mixin private final ModelOptions model = new ModelOptions();
  @Mixin private final MaskOptions mask = new MaskOptions();
  @Mixin private final ChatOptions template = new ChatOptions();
  @Mixin private final ResumeOptions resume = new ResumeOptions();
  @Mixin private final NoQuantizeOption stored = new NoQuantizeOption();

  @Option(
      names = "--pairs",
      paramLabel = "FILE",
      required = true,
      description = "Preference pairs: texts in the published layout, token ids, or both.")
  private Path pairs = Path.of("");

  @Option(names = "--out", paramLabel = "DIR", required = true, description = "Folder to write.")
  private Path out = Path.of("");

  @Option(
      names = "--beta",
      paramLabel = "X",
      defaultValue = "0.1",
      description = "Pull towards the reference (default: ${DEFAULT-VALUE}).")
  private double beta;

  @Option(
      names = "--label-smoothing",
      paramLabel = "X",
      defaultValue = "0",
      description = "Share of pairs taken to be the wrong way round (default: ${DEFAULT-VALUE}).")
  private double labelSmoothing;

  @Option(
      names = "--learning-rate",
      paramLabel = "RATE",
      defaultValue = "5e-7",
      description = "Peak learning rate (default: ${DEFAULT-VALUE}).")
  private double learningRate;

  @Option(
      names = "--min-learning-rate",
      paramLabel = "RATE",
      description = "Rate at the end of a cosine (default: a tenth of the peak).")
  private @Nullable Double minLearningRate;

  @Option(
      names = "--schedule",
      paramLabel = "SHAPE",
      defaultValue = "cosine",
      description = "cosine, linear or constant after the warm-up (default: ${DEFAULT-VALUE}).")
  private String schedule = "cosine";

  @Option(
      names = "--warmup-ratio",
      paramLabel = "SHARE",
      defaultValue = "0.1",
      description = "Share of the steps that warm up (default: ${DEFAULT-VALUE}).")
  private double warmupRatio;

  @Option(
      names = "--epochs",
      paramLabel = "N",
      defaultValue = "2",
      description = "Passes over the pairs (default: ${DEFAULT-VALUE}).")
  private int epochs;

  @Option(
      names = "--batch-size",
      paramLabel = "N",
      defaultValue = "512",
      description = "Pairs of a step (default: ${DEFAULT-VALUE}).")
  private int batchSize;

  @Option(
      names = "--micro-batch-tokens",
      paramLabel = "N",
      defaultValue = "4096",
      description = "Tokens that go through the model at once (default: ${DEFAULT-VALUE}).")
  private int microBatchTokens;

  @Option(
      names = "--gradient-checkpointing",
      description =
          "Compute layers again in the backward: less memory, more time, the same result.")
  private boolean gradientCheckpointing;

  @Option(
      names = "--precision",
      paramLabel = "TYPE",
      defaultValue = "f32",
      description =
          "f32, or bf16: the model reads matrices in BF16, rounded from F32 masters after every"
              + " step (default: ${DEFAULT-VALUE}).")
  private String precision = "f32";

  @Option(
      names = "--max-length",
      paramLabel = "N",
      defaultValue = "1024",
      description = "Leave out pairs with more tokens (default: ${DEFAULT-VALUE}).")
  private int maxLength;

  @Option(
      names = "--weight-decay",
      paramLabel = "X",
      defaultValue = "0.1",
      description = "Decoupled decay of matrices (default: ${DEFAULT-VALUE}).")
  private double weightDecay;

  @Option(
      names = "--max-grad-norm",
      paramLabel = "NORM",
      defaultValue = "1",
      description = "Clip gradients to this norm; 0: do not (default: ${DEFAULT-VALUE}).")
  private double maxGradNorm;

  @Option(
      names = "--eos",
      paramLabel = "HOW",
      defaultValue = "once",
      description =
          "End of answers given as texts: once, or appended after what the template writes, as TRL"
              + " 0.24 does (default: ${DEFAULT-VALUE}).")
  private String eos = "once";

  @Option(
      names = "--seed",
      paramLabel = "N",
      defaultValue = "42",
      description = "Seed of the order of the pairs (default: ${DEFAULT-VALUE}).")
  private long seed;

  @Option(
      names = "--log-every",
      paramLabel = "N",
      defaultValue = "10",
      description = "Steps between lines of metrics.jsonl (default: ${DEFAULT-VALUE}).")
  private int logEvery;

  @Option(
      names = "--checkpoint-every",
      paramLabel = "N",
      defaultValue = "100",
      description = "Steps between checkpoints (default: ${DEFAULT-VALUE}).")
  private int checkpointEvery;

  DpoCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException, InterruptedException {
    ChatEncoder.Ending ending = ending();
    try (Session session = model.open(console)) {
      PretrainedModel opened = session.model();
      Checkpoint original = opened.checkpoint(); // before hours of training, not after them
      DpoTrainer.Options options = options(mask.on(opened.transformer().noMask()));
      PreferenceData data = data(opened, ending);
      try (TrainingMeter meter = new TrainingMeter(console, "dpo");
          Interruption _ =
              Interruption.guard(
                  console,
                  "retmask dpo: interrupted; the same command goes on after the last checkpoint",
                  Interruption.Stop.AFTER_SAVING)) {
        DpoTrainer.train(
            opened.config(),
            opened.weights(),
            opened.transformer().ops(),
            options,
            data,
            out,
            resume.training(),
            weights -> TrainedCheckpoint.save(weights, original, opened.transformer().ops(), out),
            meter);
        console.line(TrainCommand.ended(out, meter.last()));
      }
    }
    return ExitCode.OK;
  }

  private ChatEncoder.Ending ending() {
    return switch (eos) {
      case "once" -> ChatEncoder.Ending.EOS_ONCE;
      case "appended" -> ChatEncoder.Ending.EOS_APPENDED;
      default -> throw new UsageException("--eos \"%s\": want once or appended".formatted(eos));
    };
  }

  private DpoTrainer.Options options(HeadMask policyMask) {
    double floor = minLearningRate == null ? learningRate / 10 : minLearningRate;
    AdamW.Options recipe = AdamW.Options.RETMASK;
    try {
      LrPlan plan = new LrPlan(shape(), learningRate, floor, warmupRatio);
      plan.over(1); // checks the rates
      return new DpoTrainer.Options(
          beta,
          labelSmoothing,
          policyMask,
          epochs,
          batchSize,
          microBatchTokens,
          GradientCheckpointing.of(gradientCheckpointing),
          seed,
          plan,
          new AdamW.Options(
              recipe.beta1(),
              recipe.beta2(),
              recipe.eps(),
              weightDecay,
              AdamW.Options.maxGradNorm(maxGradNorm)),
          logEvery,
          checkpointEvery,
          precision());
    } catch (IllegalArgumentException e) {
      throw new UsageException(e.getMessage());
    }
  }

  private Precision precision() {
    return switch (precision) {
      case "f32" -> Precision.F32;
      case "bf16" -> Precision.BF16;
      default ->
          throw new UsageException("--precision \"%s\": want f32 or bf16".formatted(precision));
    };
  }

  private LrPlan.Shape shape() {
    try {
      return LrPlan.Shape.valueOf(schedule.toUpperCase(Locale.ROOT));
    } catch (IllegalArgumentException e) {
      throw new UsageException(
          "--schedule \"%s\": want cosine, linear or constant".formatted(schedule));
    }
  }

  private PreferenceData data(PretrainedModel opened, ChatEncoder.Ending ending)
      throws IOException {
    List<PreferencePair> all = new ArrayList<>();
    try (PairFile file = PairFile.open(pairs)) {
      for (PairRecord record = file.next(); record != null; record = file.next()) {
        PairTokens tokens = record.tokens();
        if (tokens == null) {
          tokens = new ChatEncoder(opened.tokenizer(), template.variables()).encode(record, ending);
        }
        requireKnown(tokens, opened.config().vocabSize());
        all.add(new PreferencePair(tokens.prompt(), tokens.chosen(), tokens.rejected()));
      }
    }
    if (all.isEmpty()) {
      throw new FormatException(pairs + ": no pairs in this file");
    }
    PreferenceData data;
    try {
      data = PreferenceData.of(all, Math.min(maxLength, opened.config().maxPositions()));
    } catch (IllegalArgumentException e) {
      throw new FormatException(pairs + ": " + e.getMessage(), e);
    }
    if (!data.dropped().isEmpty()) {
      console.note(
          "retmask dpo: %d of %d pairs are used; left out: %s"
              .formatted(data.pairs().size(), all.size(), data.dropped()));
    }
    return data;
  }

  private void requireKnown(PairTokens tokens, int vocabulary) {
    for (int[] ids : List.of(tokens.prompt(), tokens.chosen(), tokens.rejected())) {
      for (int id : ids) {
        if (id >= vocabulary) {
          throw new FormatException(
              "%s: pair %s has token id %d, want 0 to %d"
                  .formatted(pairs, tokens.id(), id, vocabulary - 1));
        }
      }
    }
  }
}
