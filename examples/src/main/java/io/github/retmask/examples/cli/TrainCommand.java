package io.github.retmask.examples.cli;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.eval.TrainingRecipe;
import io.github.retmask.train.GradientCheckpointing;
import io.github.retmask.train.Trainer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.Callable;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/// `retmask train`: a model from scratch on a synthetic language.
@Command(
    name = "train",
    description =
        "Train a model from scratch on a synthetic language, as the bundled one was made.",
    footer = {
      "",
      "RECIPE has the sections model, language and training; that of a bundled model lies in "
          + "its folder as recipe.json. DIR becomes a model folder, with metrics.jsonl beside the "
          + "weights.",
      "Run again, it goes on after the newest checkpoint and ends with the same bytes.",
      "",
      "Example:",
      "  retmask train models/tiny/recipe.json --out my-model"
    })
final class TrainCommand implements Callable<Integer> {
  private final Console console;

  @Parameters(
      index = "0",
      paramLabel = "RECIPE",
      description = "JSON file that says what to train.")
  private Path recipe = Path.of("");

  @Mixin private final BackendOptions backend = new BackendOptions();
  @Mixin private final ResumeOptions resume = new ResumeOptions();
  @Mixin private final NoQuantizeOption stored = new NoQuantizeOption();

  @Option(names = "--out", paramLabel = "DIR", required = true, description = "Folder to write.")
  private Path out = Path.of("");

  @Option(
      names = "--gradient-checkpointing",
      description =
          "Compute layers again in the backward: less memory, more time, the same result.")
  private boolean gradientCheckpointing;

  TrainCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException, InterruptedException {
    TrainingRecipe read = TrainingRecipe.read(recipe);
    try (Kernels kernels = backend.open(console);
        TrainingMeter meter = new TrainingMeter(console, "train");
        Interruption _ =
            Interruption.guard(
                console,
                "retmask train: interrupted; the same command goes on after the last checkpoint",
                Interruption.Stop.AFTER_SAVING)) {
      read.train(
          new Ops(kernels),
          out,
          resume.training(),
          GradientCheckpointing.of(gradientCheckpointing),
          meter::step);
      console.line(ended(out, meter.last()));
    }
    return ExitCode.OK;
  }

  /// What a training says in the end.
  static String ended(Path out, Trainer.@Nullable Progress last) {
    return last == null
        ? out + ": was trained already"
        : String.format(
            Locale.ROOT,
            "%s: trained, %d steps, %,d tokens, last loss %.4f",
            out,
            last.steps(),
            last.numTokens(),
            last.loss());
  }
}
