package io.github.retmask.stats;

import io.github.retmask.random.SplitMix64;
import java.util.Arrays;

/// The difference of two means over the same trials.
///
/// @param mean mean of (second - first)
/// @param ci95 percentile bootstrap interval over the trials (Efron 1979)
public record PairedBootstrap(double mean, Interval ci95) {
  /// Compares two arms trial by trial. Resample number r draws n trials with replacement from the
  /// [SplitMix64] stream that starts at `at(seed, r)`; the interval runs from the 2.5 % to the 97.5 %
  /// point of the resampled mean differences.
  ///
  /// @param first a value a trial
  /// @param second a value for each of the same trials
  /// @param resamples at least 40, so that the percentiles exist; 2000 is usual
  public static PairedBootstrap difference(
      double[] first, double[] second, int resamples, long seed) {
    if (first.length != second.length || first.length == 0) {
      throw new IllegalArgumentException(
          "paired difference of %d and %d trials: want the same number, 1 or more"
              .formatted(first.length, second.length));
    }
    if (resamples < 40) {
      throw new IllegalArgumentException(resamples + " bootstrap resamples: want 40 or more");
    }
    int n = first.length;
    double[] differences = new double[n];
    for (int t = 0; t < n; t++) {
      differences[t] = second[t] - first[t];
    }
    double[] means = new double[resamples];
    for (int r = 0; r < resamples; r++) {
      SplitMix64 random = new SplitMix64(SplitMix64.at(seed, r));
      double sum = 0;
      for (int t = 0; t < n; t++) {
        sum += differences[random.nextInt(n)];
      }
      means[r] = sum / n;
    }
    Arrays.sort(means);
    int tail = (int) Math.floor(0.025 * (resamples + 1));
    return new PairedBootstrap(
        Arrays.stream(differences).sum() / n,
        new Interval(means[tail - 1], means[resamples - tail]));
  }
}
