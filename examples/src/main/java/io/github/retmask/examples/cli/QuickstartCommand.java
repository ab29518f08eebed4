package io.github.retmask.examples.cli;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.eval.SyntheticLanguage;
import io.github.retmask.eval.TrainingRecipe;
import io.github.retmask.examples.quickstart.Quickstart;
import io.github.retmask.examples.quickstart.Report;
import io.github.retmask.examples.quickstart.Results;
import io.github.retmask.examples.quickstart.ResultsFile;
import io.github.retmask.examples.quickstart.TextTable;
import io.github.retmask.io.FormatException;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.train.TrainingStart;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/// `retmask quickstart`: RetMask from end to end on the bundled model.
@Command(
    name = "quickstart",
    description = "Detect, mask, sample, train and evaluate on the bundled model.",
    footer = {
      "",
      "Prints accuracy by arm and prompt length; DIR gets results.json, report.html and the "
          + "trained checkpoints.",
      "",
      "Example:",
      "  retmask quickstart --out quickstart"
    })
final class QuickstartCommand implements Callable<Integer> {
  private static final String MODEL = "bundled:tiny";

  private final Console console;

  @Mixin private final BackendOptions backend = new BackendOptions();

  @Option(
      names = "--out",
      paramLabel = "DIR",
      defaultValue = "quickstart",
      description = "Folder to write (default: quickstart).")
  private Path out = Path.of("quickstart");

  @Option(
      names = "--seeds",
      split = ",",
      paramLabel = "N",
      description = "Repetitions of sampling and training (default: 1,2,3).")
  private List<Long> seeds = Quickstart.Options.DEFAULTS.seeds();

  @Option(names = "--restart", description = "Throw away the trainings in DIR and begin anew.")
  private boolean restart;

  QuickstartCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException, InterruptedException {
    Path folder = ModelOptions.existing(MODEL);
    SyntheticLanguage language = TrainingRecipe.languageOf(folder);
    if (language == null) {
      throw new FormatException(folder + ": no " + TrainingRecipe.LANGUAGE_FILE);
    }
    Files.createDirectories(out);
    try (Kernels kernels = backend.open(console)) {
      Ops ops = new Ops(kernels);
      try (PretrainedModel model = PretrainedModel.open(folder, ops)) {
        Results results =
            Quickstart.run(
                MODEL,
                model,
                language,
                ops,
                Quickstart.Options.DEFAULTS.withSeeds(seeds),
                out,
                restart ? TrainingStart.RESTART : TrainingStart.RESUME,
                stage -> console.note("retmask: " + stage));
        ResultsFile.write(out.resolve("results.json"), results);
        Report.write(out.resolve("report.html"), results);
        console.line(TextTable.of(results));
      }
    }
    return ExitCode.OK;
  }
}
