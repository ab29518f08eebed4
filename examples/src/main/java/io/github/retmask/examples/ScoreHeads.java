package io.github.retmask.examples;

import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.eval.SyntheticLanguage;
import io.github.retmask.eval.SyntheticLanguage.Kind;
import io.github.retmask.eval.SyntheticLanguage.Probe;
import io.github.retmask.eval.TrainingRecipe;
import io.github.retmask.heads.HeadEstimate;
import io.github.retmask.heads.HeadScores;
import io.github.retmask.heads.HeadStatistics;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.scoring.OnePassScorer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/// Step 1 of RetMask: which heads retrieve? For a model of the synthetic language.
///
/// Argument: model folder.
public final class ScoreHeads {
  private ScoreHeads() {}

  public static void main(String[] args) throws Exception {
    Path folder = Path.of(args[0]);
    SyntheticLanguage language = Objects.requireNonNull(TrainingRecipe.languageOf(folder));
    List<OnePassScorer.Trial> trials = new ArrayList<>();
    for (int i = 0; i < 200; i++) {
      Probe probe = language.probe(1, i, 48, Kind.CONTEXT);
      trials.add(
          new OnePassScorer.Trial(
              probe.prompt(), probe.answer(), probe.valueStart(), probe.valueEnd()));
    }
    try (Kernels kernels = Backends.open();
        PretrainedModel model = PretrainedModel.open(folder, new Ops(kernels))) {
      HeadScores scores = OnePassScorer.score(model.transformer(), trials);
      HeadStatistics statistics = HeadStatistics.of(scores);
      System.out.printf("trials answered %d, Gini %.3f%n", scores.trials(), statistics.gini());
      for (HeadEstimate head : statistics.estimates()) {
        if (head.mean() >= 0.1) {
          System.out.printf(
              "%s  %.3f  [%.3f, %.3f]%n",
              head.id(), head.mean(), head.ci95().low(), head.ci95().high());
        }
      }
    }
  }
}
