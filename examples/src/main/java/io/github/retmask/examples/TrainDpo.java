package io.github.retmask.examples;

import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.generate.PairFile;
import io.github.retmask.generate.PairRecord;
import io.github.retmask.generate.PairTokens;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.train.AdamW;
import io.github.retmask.train.DpoTrainer;
import io.github.retmask.train.GradientCheckpointing;
import io.github.retmask.train.LrPlan;
import io.github.retmask.train.PreferenceData;
import io.github.retmask.train.PreferencePair;
import io.github.retmask.train.TrainedCheckpoint;
import io.github.retmask.train.TrainingStart;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/// Step 3 of RetMask: train the model to prefer its intact answers, by DPO.
///
/// Arguments: model folder, pairs that [SampleContrastivePairs] wrote, folder to write. A run that
/// was killed goes on from its last checkpoint when it is started again.
public final class TrainDpo {
  private TrainDpo() {}

  public static void main(String[] args) throws Exception {
    Path out = Path.of(args[2]);
    List<PreferencePair> pairs = new ArrayList<>();
    try (PairFile file = PairFile.open(Path.of(args[1]))) {
      for (PairRecord record = file.next(); record != null; record = file.next()) {
        PairTokens ids = record.tokens(); // null in files that hold only texts
        if (ids != null) {
          pairs.add(new PreferencePair(ids.prompt(), ids.chosen(), ids.rejected()));
        }
      }
    }
    try (Kernels kernels = Backends.open();
        PretrainedModel model = PretrainedModel.open(Path.of(args[0]), new Ops(kernels))) {
      Ops ops = model.transformer().ops();
      DpoTrainer.train(
          model.config(),
          model.weights(),
          ops,
          new DpoTrainer.Options(
              0.1, // beta
              0, // label smoothing
              model.transformer().noMask(),
              2, // epochs
              32, // pairs of a step
              4096, // tokens that go through the model at once
              GradientCheckpointing.OFF,
              42, // seed of the order
              new LrPlan(LrPlan.Shape.COSINE, 2e-5, 2e-6, 0.1),
              AdamW.Options.RETMASK,
              10, // steps between lines of metrics.jsonl
              100), // steps between checkpoints
          PreferenceData.of(pairs, model.config().maxPositions()),
          out,
          TrainingStart.RESUME,
          trained -> TrainedCheckpoint.save(trained, model.checkpoint(), ops, out),
          step -> System.out.println(step));
    }
  }
}
