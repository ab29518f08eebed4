package io.github.retmask.examples.cli;

import io.github.retmask.io.WorkJournal;
import io.github.retmask.train.TrainingStart;
import picocli.CommandLine.Option;

/// What happens to an earlier run with the same output.
final class ResumeOptions {
  @Option(
      names = "--restart",
      description = "Throw away what an earlier run with this output has done, and begin anew.")
  private boolean restart;

  boolean isRestart() {
    return restart;
  }

  WorkJournal.Existing journal() {
    return restart ? WorkJournal.Existing.RESTART : WorkJournal.Existing.RESUME;
  }

  TrainingStart training() {
    return restart ? TrainingStart.RESTART : TrainingStart.RESUME;
  }
}
