package io.github.retmask.train;

/// Learning rate by optimiser step. Every schedule starts with a linear warm-up from 0: `peak i /
/// warmup` at step i, counted from 0, so that the first step of a warm-up changes nothing.
public sealed interface LrSchedule {

  /// The rate of an optimiser step.
  ///
  /// @param step from 0
  double at(long step);

  /// Half a cosine from the peak down to a floor, `cosine_with_min_lr` of Hugging Face
  /// transformers; the schedule of the RetMask recipe.
  ///
  /// @param peak rate after the warm-up
  /// @param floor rate at the end
  /// @param warmup steps of the warm-up
  /// @param steps all steps, where the floor is reached
  record Cosine(double peak, double floor, long warmup, long steps) implements LrSchedule {
    public Cosine {
      check(peak, warmup);
      if (!(floor >= 0 && floor <= peak)) {
        throw new IllegalArgumentException(
            "learning rate: floor %s, want from 0 to the peak %s".formatted(floor, peak));
      }
    }

    @Override
    public double at(long step) {
      if (step < warmup) {
        return peak * step / warmup;
      }
      double progress = Math.min(1, (double) (step - warmup) / Math.max(1, steps - warmup));
      double rate = floor / peak;
      return peak * (0.5 * (1 + StrictMath.cos(Math.PI * progress)) * (1 - rate) + rate);
    }
  }

  /// A straight line from the peak down to 0.
  ///
  /// @param peak rate after the warm-up
  /// @param warmup steps of the warm-up
  /// @param steps all steps, where 0 is reached
  record Linear(double peak, long warmup, long steps) implements LrSchedule {
    public Linear {
      check(peak, warmup);
    }

    @Override
    public double at(long step) {
      if (step < warmup) {
        return peak * step / warmup;
      }
      return peak * Math.max(0, (double) (steps - step) / Math.max(1, steps - warmup));
    }
  }

  /// The peak all along.
  ///
  /// @param peak rate after the warm-up
  /// @param warmup steps of the warm-up
  record Constant(double peak, long warmup) implements LrSchedule {
    public Constant {
      check(peak, warmup);
    }

    @Override
    public double at(long step) {
      return step < warmup ? peak * step / warmup : peak;
    }
  }

  private static void check(double peak, long warmup) {
    if (!(peak > 0 && peak < Double.POSITIVE_INFINITY) || warmup < 0) {
      throw new IllegalArgumentException(
          "learning rate: peak %s and %d warm-up steps, want a finite peak above 0 and no negative warm-up"
              .formatted(peak, warmup));
    }
  }
}
