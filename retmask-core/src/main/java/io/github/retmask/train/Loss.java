package io.github.retmask.train;

import java.util.Map;
import org.jspecify.annotations.Nullable;

/// A loss as a formula: its value and its gradient with respect to the log-probabilities of
/// labelled tokens. [LogProbs] turns that gradient into gradients of the weights.
///
/// A loss is a mean over units (label weight, preference pairs) of a whole optimiser step, and a
/// step may be cut into micro-batches. One object is the loss of one micro-batch; it divides by the
/// units of the step, so that the parts of a step add up to the same mean however it was cut.
public sealed interface Loss permits CrossEntropyLoss, DpoLoss {

  /// What this micro-batch contributes to the divisor of the mean.
  double units();

  /// This micro-batch's part of the step's loss.
  ///
  /// @param logps of the micro-batch
  /// @param stepUnits units of all micro-batches of the step together
  Part part(TokenLogProbs logps, double stepUnits);

  /// The gradient of [#part], `[M]`, where it does not depend on the log-probabilities; else null.
  /// Known beforehand it saves one of four products with the lm_head.
  default float @Nullable [] constantGradient(double stepUnits) {
    return null;
  }

  /// A part of a step's loss; parts add up.
  ///
  /// @param loss share of the mean
  /// @param dLogps `[M]`, gradient of `loss`
  /// @param metrics shares of further means, by the names of `metrics.jsonl`
  record Part(double loss, float[] dLogps, Map<String, Double> metrics) {}
}
