package io.github.retmask.model;

import java.util.List;

/// Rotary embedding of a layer (Su et al. 2021, "RoFormer"). Formulas of the scalings are those of
/// transformers' `modeling_rope_utils.py`, in double.
///
/// Under [DynamicNtk] and [LongRope] the speeds of a token depend on its *context*: as many
/// positions as the sequence has when the token is computed, which is the whole prompt for its
/// tokens and p + 1 for a later token at position p.
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
    if (scaling instanceof LongRope s
        && (s.shortFactors().size() != rotaryDim / 2 || s.longFactors().size() != rotaryDim / 2)) {
      throw new IllegalArgumentException(
          "rope: %d short and %d long factors, want %d of each, half of the rotary elements"
              .formatted(s.shortFactors().size(), s.longFactors().size(), rotaryDim / 2));
    }
    if (scaling instanceof DynamicNtk && rotaryDim == 2) {
      throw new IllegalArgumentException("rope: dynamic scaling of 2 rotary elements, want more");
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

  /// A larger theta in contexts beyond the original one, growing with them (dynamic NTK-aware
  /// scaling, see Peng et al. 2023, "YaRN", section 3.3). Keys keep the rotation of the context they
  /// were computed in.
  ///
  /// @param factor how fast theta grows
  /// @param originalContext positions of the pre-training
  public record DynamicNtk(double factor, double originalContext) implements Scaling {}

  /// Llama 3.1: long wavelengths are divided by a factor, short ones kept, a linear blend between.
  ///
  /// @param factor divisor of slow speeds
  /// @param lowFreqFactor wavelengths above originalContext / this are scaled fully
  /// @param highFreqFactor wavelengths below originalContext / this are kept
  /// @param originalContext positions of the pre-training
  public record Llama3(
      double factor, double lowFreqFactor, double highFreqFactor, double originalContext)
      implements Scaling {}

  /// YaRN (Peng et al. 2023): speeds with few rotations over the original context are divided by a
  /// factor, those with many are kept, a linear blend over the index between.
  ///
  /// @param factor divisor of slow speeds
  /// @param originalContext positions of the pre-training
  /// @param betaFast rotations above which a speed is kept
  /// @param betaSlow rotations below which a speed is divided fully
  /// @param truncate whether the ends of the blend are rounded outwards to whole indices
  /// @param attentionFactor factor on cosines and sines
  public record Yarn(
      double factor,
      double originalContext,
      double betaFast,
      double betaSlow,
      boolean truncate,
      double attentionFactor)
      implements Scaling {}

  /// LongRoPE (Ding et al. 2024): every speed has its own divisor, one for contexts up to the
  /// original one and another for longer ones, where all positions rotate anew.
  ///
  /// @param shortFactors divisors in short contexts, `[R/2]`
  /// @param longFactors divisors in long contexts, `[R/2]`
  /// @param originalContext positions of the pre-training
  /// @param attentionFactor factor on cosines and sines, in both
  public record LongRope(
      List<Double> shortFactors,
      List<Double> longFactors,
      double originalContext,
      double attentionFactor)
      implements Scaling {
    public LongRope {
      shortFactors = List.copyOf(shortFactors);
      longFactors = List.copyOf(longFactors);
    }

    @Override
    public String toString() {
      return "LongRope[originalContext=%s, attentionFactor=%s]"
          .formatted(originalContext, attentionFactor);
    }
  }

  /// Rotation speeds in radians per position, `[R/2]`: `theta^(-2i/R)`, scaled.
  ///
  /// @param context positions of the sequence, see [RopeSpec]
  public double[] inverseFrequencies(int context) {
    double base = scaling instanceof DynamicNtk ntk ? grownTheta(ntk, context) : theta;
    double[] speeds = new double[rotaryDim / 2];
    for (int i = 0; i < speeds.length; i++) {
      double speed = Math.pow(base, -2.0 * i / rotaryDim);
      speeds[i] =
          switch (scaling) {
            case None _, DynamicNtk _ -> speed;
            case Linear linear -> speed / linear.factor();
            case Llama3 llama3 -> llama3Speed(speed, llama3);
            case Yarn yarn -> yarnSpeed(speed, i, yarn);
            case LongRope s ->
                speed / (isLong(s, context) ? s.longFactors() : s.shortFactors()).get(i);
          };
    }
    return speeds;
  }

  /// What cosines and sines are multiplied by.
  public double attentionScaling() {
    return switch (scaling) {
      case None _, Linear _, DynamicNtk _, Llama3 _ -> 1;
      case Yarn yarn -> yarn.attentionFactor();
      case LongRope longRope -> longRope.attentionFactor();
    };
  }

  /// Whether speeds depend on the context at all.
  public boolean dependsOnContext() {
    return scaling instanceof DynamicNtk || scaling instanceof LongRope;
  }

  /// Whether a token rotates alike in two contexts.
  public boolean rotatesAlike(int context, int other) {
    return switch (scaling) {
      case None _, Linear _, Llama3 _, Yarn _ -> true;
      case DynamicNtk s ->
          Math.max(context, s.originalContext()) == Math.max(other, s.originalContext());
      case LongRope s -> isLong(s, context) == isLong(s, other);
    };
  }

  /// Whether keys computed in one context serve in a longer one.
  public boolean keepsKeys(int context, int longer) {
    return !(scaling instanceof LongRope) || rotatesAlike(context, longer);
  }

  private static boolean isLong(LongRope s, int context) {
    return context > s.originalContext();
  }

  private double grownTheta(DynamicNtk s, int context) {
    double stretch = Math.max(context, s.originalContext()) / s.originalContext();
    double growth = s.factor() * stretch - (s.factor() - 1);
    return theta * Math.pow(growth, rotaryDim / (rotaryDim - 2.0));
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

  private double yarnSpeed(double speed, int i, Yarn s) {
    double low = indexOfTurns(s.betaFast(), s);
    double high = indexOfTurns(s.betaSlow(), s);
    if (s.truncate()) {
      low = Math.floor(low);
      high = Math.ceil(high);
    }
    low = Math.max(low, 0);
    high = Math.min(high, rotaryDim - 1);
    double width = low == high ? 0.001 : high - low; // 0.001: a step, as transformers has it
    double divided = Math.clamp((i - low) / width, 0, 1);
    return speed / s.factor() * divided + speed * (1 - divided);
  }

  /// The index, not a whole one, whose speed turns so many times over the original context.
  private double indexOfTurns(double turns, Yarn s) {
    return rotaryDim
        * Math.log(s.originalContext() / (turns * 2 * Math.PI))
        / (2 * Math.log(theta));
  }
}
