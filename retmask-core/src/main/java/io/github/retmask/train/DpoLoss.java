package io.github.retmask.train;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// Direct preference optimisation (Rafailov et al. 2023, equation 7). Of every pair, with `reward =
/// beta (logp - reference logp)` of a whole completion and `s = reward(chosen) - reward(rejected)`:
/// `-(1 - eps) log sigmoid(s) - eps log sigmoid(-s)`; the mean over pairs. The smoothing eps is the
/// probability that a label is flipped (Mitchell 2023, conservative DPO), 0 in the paper.
///
/// Rows of the batch are `chosen, rejected` of pair 0, then of pair 1, and so on; the labelled
/// tokens are those of the completions.
///
/// @param beta strength of the pull towards the reference, > 0
/// @param labelSmoothing eps, from 0 to below 1/2
/// @param references of the pairs, by the model before training, in the order of the rows
public record DpoLoss(double beta, double labelSmoothing, List<PairLogProbs> references)
    implements Loss {

  public DpoLoss {
    references = List.copyOf(references);
    if (!(beta > 0 && beta < Double.POSITIVE_INFINITY)) {
      throw new IllegalArgumentException("DPO: beta " + beta + ", want a finite number above 0");
    }
    if (!(labelSmoothing >= 0 && labelSmoothing < 0.5)) {
      throw new IllegalArgumentException(
          "DPO: label smoothing " + labelSmoothing + ", want from 0 to below 0.5");
    }
  }

  /// Pairs.
  @Override
  public double units() {
    return references.size();
  }

  /// The metrics have the names that TRL's DPOTrainer logs.
  @Override
  public Part part(TokenLogProbs logps, double stepUnits) {
    double loss = 0;
    double chosenReward = 0;
    double rejectedReward = 0;
    double chosenLogp = 0;
    double rejectedLogp = 0;
    double won = 0;
    float[] dLogps = new float[logps.values().length]; // [M]
    for (int p = 0; p < references.size(); p++) {
      PairLogProbs reference = references.get(p);
      double chosen = logps.sum(2 * p);
      double rejected = logps.sum(2 * p + 1);
      double rewardChosen = beta * (chosen - reference.chosen());
      double rewardRejected = beta * (rejected - reference.rejected());
      double s = rewardChosen - rewardRejected;
      loss -= (1 - labelSmoothing) * logSigmoid(s) + labelSmoothing * logSigmoid(-s);
      // d loss / d s = sigmoid(s) - (1 - eps)
      double ds = labelSmoothing * sigmoid(s) - (1 - labelSmoothing) * sigmoid(-s);
      fill(dLogps, logps, 2 * p, beta * ds / stepUnits);
      fill(dLogps, logps, 2 * p + 1, -beta * ds / stepUnits);
      chosenReward += rewardChosen;
      rejectedReward += rewardRejected;
      chosenLogp += chosen;
      rejectedLogp += rejected;
      won += rewardChosen > rewardRejected ? 1 : 0;
    }
    Map<String, Double> metrics = new LinkedHashMap<>();
    metrics.put("rewards/chosen", chosenReward / stepUnits);
    metrics.put("rewards/rejected", rejectedReward / stepUnits);
    metrics.put("rewards/margins", (chosenReward - rejectedReward) / stepUnits);
    metrics.put("rewards/accuracies", won / stepUnits);
    metrics.put("logps/chosen", chosenLogp / stepUnits);
    metrics.put("logps/rejected", rejectedLogp / stepUnits);
    return new Part(loss / stepUnits, dLogps, metrics);
  }

  /// The log-probability of a row is a sum, so its gradient is that of every token.
  private static void fill(float[] dLogps, TokenLogProbs logps, int row, double gradient) {
    java.util.Arrays.fill(
        dLogps, logps.rowStart()[row], logps.rowStart()[row + 1], (float) gradient);
  }

  private static double sigmoid(double x) {
    return 1 / (1 + StrictMath.exp(-x));
  }

  /// `-log(1 + exp(-x))` without overflow.
  private static double logSigmoid(double x) {
    return Math.min(x, 0) - StrictMath.log1p(StrictMath.exp(-Math.abs(x)));
  }
}
