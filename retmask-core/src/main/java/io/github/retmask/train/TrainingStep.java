package io.github.retmask.train;

import io.github.retmask.model.Transformer;
import io.github.retmask.tensor.TensorArena;
import io.github.retmask.train.StepSource.MicroBatch;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// One step of a training: the gradients of its micro-batches, then the update. A single micro-batch
/// whose gradients are not clipped needs no gradients of all weights at once: every part of the
/// weights is updated within the backward, to the same bits.
///
/// @param loss before the update
/// @param gradNorm global gradient norm before clipping
/// @param metrics further means, by the names of `metrics.jsonl`
public record TrainingStep(double loss, double gradNorm, Map<String, Double> metrics) {

  /// @param optimizer of the weights that `model` reads
  /// @param parts at least one
  /// @param step number of the step, from 1
  /// @param memory of the passes; is reset before each
  /// @throws ArithmeticException when loss or gradient are not finite; weights and moments are then
  ///   of no use any more
  public static TrainingStep run(
      Transformer model,
      AdamW optimizer,
      List<MicroBatch> parts,
      GradientCheckpointing checkpointing,
      long step,
      double learningRate,
      TensorArena memory) {
    double units = 0;
    for (MicroBatch part : parts) {
      units += part.loss().units();
    }
    if (parts.size() == 1 && optimizer.updatesInBackward()) {
      AdamW.InBackward update = optimizer.inBackward(step, learningRate);
      MicroBatch only = parts.getFirst();
      memory.reset();
      Loss.Part part =
          LogProbs.gradients(
              update.gradients(),
              null,
              model,
              only.batch(),
              only.loss(),
              units,
              checkpointing,
              memory,
              update::update);
      return finite(part.loss(), update.gradientNorm(), part.metrics(), step, learningRate);
    }
    double loss = 0;
    Map<String, Double> metrics = new LinkedHashMap<>();
    for (MicroBatch micro : parts) {
      memory.reset();
      Loss.Part part =
          LogProbs.gradients(
              optimizer.gradients(),
              null,
              model,
              micro.batch(),
              micro.loss(),
              units,
              checkpointing,
              memory);
      loss += part.loss();
      part.metrics().forEach((name, share) -> metrics.merge(name, share, Double::sum));
    }
    TrainingStep done = finite(loss, optimizer.gradientNorm(), metrics, step, learningRate);
    optimizer.step(step, learningRate, done.gradNorm());
    return done;
  }

  private static TrainingStep finite(
      double loss, double norm, Map<String, Double> metrics, long step, double learningRate) {
    if (!Double.isFinite(loss) || !Double.isFinite(norm)) {
      throw new ArithmeticException(
          "training: step %d has loss %s and gradient norm %s at learning rate %s; the checkpoint before it is kept. Try a lower learning rate"
              .formatted(step, loss, norm, learningRate));
    }
    return new TrainingStep(loss, norm, metrics);
  }
}
