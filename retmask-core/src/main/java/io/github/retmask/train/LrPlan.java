package io.github.retmask.train;

/// A learning-rate schedule whose length is not known yet.
///
/// @param shape what follows the warm-up
/// @param peak rate after the warm-up
/// @param floor rate at the end of a cosine; ignored by the other shapes
/// @param warmupRatio share of the steps that warm up, from 0 to 1; rounded up to whole steps
public record LrPlan(Shape shape, double peak, double floor, double warmupRatio) {

  /// The values of the RetMask recipe.
  public static final LrPlan RETMASK = new LrPlan(Shape.COSINE, 5e-7, 5e-8, 0.1);

  /// What follows the warm-up.
  public enum Shape {
    /// [LrSchedule.Cosine]
    COSINE,
    /// [LrSchedule.Linear]
    LINEAR,
    /// [LrSchedule.Constant]
    CONSTANT
  }

  public LrPlan {
    if (!(warmupRatio >= 0 && warmupRatio <= 1)) {
      throw new IllegalArgumentException(
          "learning rate: warm-up ratio " + warmupRatio + ", want from 0 to 1");
    }
  }

  /// The schedule of a training with so many steps.
  public LrSchedule over(long steps) {
    long warmup = (long) Math.ceil(warmupRatio * steps);
    return switch (shape) {
      case COSINE -> new LrSchedule.Cosine(peak, floor, warmup, steps);
      case LINEAR -> new LrSchedule.Linear(peak, warmup, steps);
      case CONSTANT -> new LrSchedule.Constant(peak, warmup);
    };
  }
}
