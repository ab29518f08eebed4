package io.github.retmask.stats;

/// Student's t distribution.
public final class StudentT {
  private StudentT() {}

  /// P(T <= t) for `df` degrees of freedom, any real above 0: 1 - I(df / (df + t²); df/2, 1/2) / 2
  /// for t >= 0 (DLMF 8.17).
  public static double cdf(double t, double df) {
    if (!(df > 0)) {
      throw new IllegalArgumentException("degrees of freedom " + df + ": want more than 0");
    }
    double tail = 0.5 * regularizedBeta(df / (df + t * t), t * t / (df + t * t), df / 2, 0.5);
    return t >= 0 ? 1 - tail : tail;
  }

  /// The t with `cdf(t, df)` = p, by bisection to the last bit.
  ///
  /// @param p in (0, 1)
  public static double quantile(double p, double df) {
    if (!(p > 0 && p < 1)) {
      throw new IllegalArgumentException("quantile of probability " + p + ": want 0 < p < 1");
    }
    if (p < 0.5) {
      return -quantile(1 - p, df);
    }
    double low = 0;
    double high = 1;
    while (cdf(high, df) < p) {
      low = high;
      high *= 2;
    }
    for (double middle = (low + high) / 2; low < middle && middle < high; ) {
      if (cdf(middle, df) < p) {
        low = middle;
      } else {
        high = middle;
      }
      middle = (low + high) / 2;
    }
    return high;
  }

  /// I(x; a, b) with y = 1 - x given, so that neither loses digits.
  private static double regularizedBeta(double x, double y, double a, double b) {
    if (x <= 0 || y <= 0) {
      return x <= 0 ? 0 : 1;
    }
    double front =
        Math.exp(a * Math.log(x) + b * Math.log(y) + logGamma(a + b) - logGamma(a) - logGamma(b));
    // The fraction converges fast below the mean; above it the mirrored one does (DLMF 8.17.4).
    return x < (a + 1) / (a + b + 2)
        ? front * betaFraction(x, a, b) / a
        : 1 - front * betaFraction(y, b, a) / b;
  }

  /// The continued fraction of DLMF 8.17.22, evaluated by Lentz's method.
  private static double betaFraction(double x, double a, double b) {
    double tiny = 1e-300;
    double c = 1;
    double d = 1 / nonZero(1 - (a + b) * x / (a + 1), tiny);
    double value = d;
    for (int m = 1; m <= 10_000; m++) {
      double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
      d = 1 / nonZero(1 + even * d, tiny);
      c = nonZero(1 + even / c, tiny);
      value *= d * c;
      double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
      d = 1 / nonZero(1 + odd * d, tiny);
      c = nonZero(1 + odd / c, tiny);
      double step = d * c;
      value *= step;
      if (Math.abs(step - 1) < 1e-15) {
        return value;
      }
    }
    throw new ArithmeticException(
        "incomplete beta: no convergence at x " + x + ", " + a + ", " + b);
  }

  private static double nonZero(double value, double tiny) {
    return Math.abs(value) < tiny ? tiny : value;
  }

  /// log Γ(x) for x > 0: Stirling's series (DLMF 5.11.1) after moving x above 10 with Γ(x+1) = xΓ(x).
  private static double logGamma(double x) {
    double shift = 0;
    while (x < 10) {
      shift -= Math.log(x);
      x++;
    }
    double r = 1 / (x * x);
    double series =
        (1.0 / 12 - r * (1.0 / 360 - r * (1.0 / 1260 - r * (1.0 / 1680 - r / 1188)))) / x;
    return shift + (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + series;
  }
}
