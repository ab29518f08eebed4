package io.github.retmask.examples.cli;

import io.github.retmask.train.Trainer;
import io.github.retmask.train.TrainingListener;
import java.util.Locale;
import org.jspecify.annotations.Nullable;

/// Shows how far a training is.
final class TrainingMeter implements TrainingListener, AutoCloseable {
  private final Console console;
  private final String task;
  private @Nullable ProgressMeter references;
  private @Nullable ProgressMeter steps;
  private Trainer.@Nullable Progress last;

  TrainingMeter(Console console, String task) {
    this.console = console;
    this.task = task;
  }

  @Override
  public void references(int done, int all) {
    ProgressMeter meter = references;
    if (meter == null) {
      meter = new ProgressMeter(console, task + ", reference", "pairs", Math.max(0, done - 1), all);
      references = meter;
    }
    meter.at(done, "");
  }

  @Override
  public void step(Trainer.Progress progress) {
    ProgressMeter meter = steps;
    if (meter == null) {
      endReferences();
      meter = new ProgressMeter(console, task, "steps", progress.step() - 1, progress.steps());
      steps = meter;
    }
    meter.at(progress.step(), String.format(Locale.ROOT, "loss %.4f", progress.loss()));
    last = progress;
  }

  /// The last step that was done here; null when there was nothing left to do.
  Trainer.@Nullable Progress last() {
    return last;
  }

  private void endReferences() {
    if (references != null) {
      references.close();
    }
  }

  @Override
  public void close() {
    endReferences();
    if (steps != null) {
      steps.close();
    }
  }
}
