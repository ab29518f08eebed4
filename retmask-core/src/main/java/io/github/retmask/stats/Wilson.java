package io.github.retmask.stats;

/// Wilson's score interval for a proportion (Wilson 1927), at 95 %.
public final class Wilson {
  /// The 97.5 % point of the standard normal distribution.
  private static final double Z = 1.959963984540054;

  private Wilson() {}

  /// The interval for the probability of success after `successes` of `trials`.
  ///
  /// @throws IllegalArgumentException unless 0 <= successes <= trials and trials >= 1
  public static Interval ci95(long successes, long trials) {
    if (trials < 1 || successes < 0 || successes > trials) {
      throw new IllegalArgumentException(successes + " successes in " + trials + " trials");
    }
    return interval((double) successes / trials, trials, Z);
  }

  /// All p that lie within `quantile` standard errors sqrt(p (1-p) / n) of `estimate`.
  ///
  /// @param estimate in [0, 1]
  /// @param n independent observations the estimate is worth, any real above 0
  public static Interval interval(double estimate, double n, double quantile) {
    double q = quantile * quantile / n;
    double centre = (estimate + q / 2) / (1 + q);
    double half = Math.sqrt(q * (estimate * (1 - estimate) + q / 4)) / (1 + q);
    // Rounding must not exclude a bound that the formula meets exactly.
    double low = estimate == 0 ? 0 : Math.max(0, centre - half);
    double high = estimate == 1 ? 1 : Math.min(1, centre + half);
    return new Interval(low, high);
  }
}
