package io.github.retmask.model;

/// Rotary embedding of a layer (Su et al. 2021, "RoFormer").
///
/// @param theta base of the geometric series of rotation speeds
/// @param rotaryDim R, elements of a head that rotate; the rest pass through
/// @param scaling how the speeds are changed for contexts beyond the original one
public record RopeSpec(double theta, int rotaryDim, Scaling scaling) {

  public RopeSpec {
    if (!(theta > 0) || rotaryDim < 2 || rotaryDim % 2 != 0) {
      throw new IllegalArgumentException(
          "rope: theta "
              + theta
              + " and "
              + rotaryDim
              + " rotary elements, want theta > 0 and an even count");
    }
  }

  /// Change of the rotation speeds.
  public sealed interface Scaling {}

  /// Speeds as trained.
  public record None() implements Scaling {}

  /// Positions divided by a factor (Chen et al. 2023, position interpolation).
  ///
  /// @param factor divisor of every speed
  public record Linear(double factor) implements Scaling {}

  /// Llama 3.1: long wavelengths are divided by a factor, short ones kept, a linear blend between.
  ///
  /// @param factor divisor of slow speeds
  /// @param lowFreqFactor wavelengths above originalContext / this are scaled fully
  /// @param highFreqFactor wavelengths below originalContext / this are kept
  /// @param originalContext positions of the pre-training
  public record Llama3(
      double factor, double lowFreqFactor, double highFreqFactor, double originalContext)
      implements Scaling {}

  /// Rotation speeds in radians per position, `[R/2]`: `theta^(-2i/R)`, scaled.
  public double[] inverseFrequencies() {
    double[] speeds = new double[rotaryDim / 2];
    for (int i = 0; i < speeds.length; i++) {
      double speed = Math.pow(theta, -2.0 * i / rotaryDim);
      speeds[i] =
          switch (scaling) {
            case None _ -> speed;
            case Linear linear -> speed / linear.factor();
            case Llama3 llama3 -> llama3Speed(speed, llama3);
          };
    }
    return speeds;
  }

  private static double llama3Speed(double speed, Llama3 s) {
    double turns = s.originalContext() * speed / (2 * Math.PI); // rotations over the old context
    if (turns < s.lowFreqFactor()) {
      return speed / s.factor();
    }
    if (turns > s.highFreqFactor()) {
      return speed;
    }
    double kept = (turns - s.lowFreqFactor()) / (s.highFreqFactor() - s.lowFreqFactor());
    return (1 - kept) * speed / s.factor() + kept * speed;
  }
}
