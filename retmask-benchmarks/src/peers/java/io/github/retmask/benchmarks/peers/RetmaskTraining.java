package io.github.retmask.benchmarks.peers;

import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Ops;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tensor.TensorArena;
import io.github.retmask.train.AdamW;
import io.github.retmask.train.CrossEntropyLoss;
import io.github.retmask.train.Example;
import io.github.retmask.train.GradientCheckpointing;
import io.github.retmask.train.LabelledBatch;
import io.github.retmask.train.StepSource.MicroBatch;
import io.github.retmask.train.Trainer;
import io.github.retmask.train.TrainingStep;
import java.io.IOException;
import java.util.List;

/// The step of retmask's trainer.
final class RetmaskTraining implements Training {
  private static final AdamW.Options OPTIONS =
      new AdamW.Options(0.9, 0.999, 1e-8, WEIGHT_DECAY, Double.POSITIVE_INFINITY);

  private final Transformer model;
  private final AdamW optimizer;
  private final TensorArena memory; // of a step
  private long steps;

  RetmaskTraining(ModelFolder folder, int threads) throws IOException {
    Ops ops = new Ops(Backends.open("vector", threads));
    TensorArena kept = ops.arena(TensorArena.Lifetime.MODEL);
    memory = ops.arena(TensorArena.Lifetime.STEP);
    try (PretrainedModel file = PretrainedModel.open(folder.checkpoint(), ops)) {
      Weights weights = Trainer.copy(file.weights(), ops, kept);
      model = new Transformer(file.config(), weights, ops);
    }
    optimizer = new AdamW(model.weights(), OPTIONS, ops, kept);
  }

  @Override
  public double step(int tokens) {
    LabelledBatch batch =
        LabelledBatch.of(List.of(Example.of(Prompts.ids(tokens + 1))), model.noMask());
    MicroBatch only = new MicroBatch(batch, CrossEntropyLoss.over(batch));
    return TrainingStep.run(
            model,
            optimizer,
            List.of(only),
            GradientCheckpointing.OFF,
            ++steps,
            LEARNING_RATE,
            memory)
        .loss();
  }
}
