package io.github.retmask.train;

import java.util.Map;

/// Weighted mean of the negative log-probability over labelled tokens: `-sum_m w[m] logps[m] / sum
/// w`.
///
/// @param weights `[M]`, of the labelled tokens in order
public record CrossEntropyLoss(float[] weights) implements Loss {

  /// The loss of a batch with the weights of its examples.
  public static CrossEntropyLoss over(LabelledBatch batch) {
    return new CrossEntropyLoss(batch.labelWeights());
  }

  /// Sum of the weights.
  @Override
  public double units() {
    double sum = 0;
    for (float weight : weights) {
      sum += weight;
    }
    return sum;
  }

  @Override
  public Part part(TokenLogProbs logps, double stepUnits) {
    double sum = 0;
    for (int m = 0; m < weights.length; m++) {
      sum -= (double) weights[m] * logps.values()[m];
    }
    return new Part(sum / stepUnits, constantGradient(stepUnits), Map.of());
  }

  @Override
  public float[] constantGradient(double stepUnits) {
    float[] dLogps = new float[weights.length]; // [M]
    for (int m = 0; m < weights.length; m++) {
      dLogps[m] = (float) (-weights[m] / stepUnits);
    }
    return dLogps;
  }
}
