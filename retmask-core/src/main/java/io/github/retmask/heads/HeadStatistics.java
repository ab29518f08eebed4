package io.github.retmask.heads;

import io.github.retmask.random.SplitMix64;
import io.github.retmask.stats.Interval;
import io.github.retmask.stats.StudentT;
import io.github.retmask.stats.Wilson;
import java.util.Arrays;
import java.util.List;

/// What a set of scores is worth: intervals per head, and how concentrated and repeatable retrieval
/// is over the heads.
///
/// Trials that repeat each other add no information, so they are counted as one **cluster**. Means
/// run over all trials, as published; everything about uncertainty runs over clusters.
///
/// The 95 % interval of a head's mean m is Wilson's, for as many independent observations as would
/// give a proportion m the variance that the clusters show, with Student's t for the normal quantile
/// (the effective-sample-size interval for survey proportions; Korn and Graubard, "Confidence
/// intervals for proportions with small expected number of positive counts estimated from survey
/// data", 1998). It stays within the range of the scores and nearly keeps its coverage for heads
/// that rarely fire, where mean ± t s/√n does not. With w trials in a cluster and W in all, the
/// variance of the mean is C/(C-1) Σ w² (cluster mean - m)² / W², C clusters; degrees of freedom
/// are W² / Σ w² - 1, at least 1. A head with equal scores in all clusters counts one observation a
/// cluster; a single cluster says nothing and gives the whole range.
public final class HeadStatistics {
  private final HeadScores scores;
  private final int[] cluster; // cluster of each trial
  private final int[] size; // trials in each cluster
  private final double effective;
  private final double quantile;
  private final double range;

  private HeadStatistics(HeadScores scores, int[] cluster, int clusters) {
    this.scores = scores;
    this.cluster = cluster;
    this.size = new int[clusters];
    for (int c : cluster) {
      size[c]++;
    }
    double squares = Arrays.stream(size).mapToDouble(w -> (double) w * w).sum();
    this.effective = (double) scores.trials() * scores.trials() / squares;
    this.quantile = StudentT.quantile(0.975, Math.max(1, effective - 1));
    double max = 1;
    for (int i = 0; i < scores.layers() * scores.heads(); i++) {
      max = Math.max(max, Arrays.stream(scores.row(i)).max().orElseThrow());
    }
    this.range = max;
  }

  /// Statistics when nothing but the scores is known: trials in which every head scored the same
  /// count as repeats of each other.
  public static HeadStatistics of(HeadScores scores) {
    return of(scores, scores.firstEqual());
  }

  /// Statistics with known repeats.
  ///
  /// @param sameAs for each trial any number that it shares with its repeats and with no other trial
  public static HeadStatistics of(HeadScores scores, int[] sameAs) {
    if (sameAs.length != scores.trials()) {
      throw new IllegalArgumentException(
          sameAs.length + " cluster numbers for " + scores.trials() + " trials");
    }
    int[] distinct = Arrays.stream(sameAs).distinct().sorted().toArray();
    int[] cluster =
        Arrays.stream(sameAs).map(number -> Arrays.binarySearch(distinct, number)).toArray();
    return new HeadStatistics(scores, cluster, distinct.length);
  }

  /// Successful trials, repeats included.
  public int nominalTrials() {
    return scores.trials();
  }

  /// Trials that are no repeats of each other.
  public int distinctTrials() {
    return size.length;
  }

  /// Equally weighted distinct trials that the set is worth, W² / Σ w² (Kish): below
  /// [#distinctTrials] when some are repeated more often than others.
  public double effectiveTrials() {
    return effective;
  }

  /// The 95 % interval of a head's mean.
  public Interval ci95(HeadId id) {
    double mean = scores.mean(id);
    int clusters = size.length;
    if (clusters == 1) {
      return new Interval(0, range);
    }
    double[] sums = clusterSums(id);
    double squares = 0;
    for (int c = 0; c < clusters; c++) {
      double deviation = sums[c] - size[c] * mean;
      squares += deviation * deviation;
    }
    double weight = scores.trials();
    double variance = clusters / (clusters - 1.0) * squares / (weight * weight);
    double share = Math.min(1, mean / range);
    double spread = share * (1 - share) * range * range;
    // Below 1e-20 the variance is rounding of equal scores.
    double n = variance <= 1e-20 * range * range ? effective : spread / variance;
    Interval shares = Wilson.interval(share, n, quantile);
    return new Interval(shares.low() * range, shares.high() * range);
  }

  /// All heads in the order of [HeadScores#ranking].
  public List<HeadEstimate> estimates() {
    return scores.ranking().stream()
        .map(id -> new HeadEstimate(id, scores.mean(id), ci95(id)))
        .toList();
  }

  /// Gini coefficient of the head means: 0 when all heads score alike, 1 - 1/n when one of n heads
  /// has all. Over ascending means x_i, i from 1: Σ (2i - n - 1) x_i / (n Σ x_i); 0 when all are 0.
  public double gini() {
    double[] means = ascendingMeans();
    int n = means.length;
    double weighted = 0;
    double total = 0;
    for (int i = 0; i < n; i++) {
      weighted += (2 * i + 1 - n) * means[i];
      total += means[i];
    }
    return total == 0 ? 0 : weighted / (n * total);
  }

  /// The part of all score that the best `fraction` of the heads holds (0.05: the best 5 %, rounded
  /// to whole heads, at least one); 0 when all means are 0.
  public double topShare(double fraction) {
    double[] means = ascendingMeans();
    int n = means.length;
    int best = Math.clamp(Math.round(fraction * n), 1, n);
    double total = Arrays.stream(means).sum();
    return total == 0 ? 0 : Arrays.stream(means, n - best, n).sum() / total;
  }

  /// Agreement of two halves of the clusters, over random splits (one half is larger by one when
  /// their number is odd). Split s is drawn from stream s of the seed.
  ///
  /// @throws IllegalStateException when there are fewer than two distinct trials
  public SplitHalf splitHalf(int splits, long seed) {
    int clusters = size.length;
    if (clusters < 2 || splits < 1) {
      throw new IllegalStateException(
          "split-half reliability: want 2 distinct trials or more and 1 split or more, got "
              + clusters
              + " and "
              + splits);
    }
    List<HeadId> ids = scores.ids();
    double[][] sums = new double[ids.size()][];
    for (int i = 0; i < sums.length; i++) {
      sums[i] = clusterSums(ids.get(i));
    }
    double correlation = 0;
    for (int s = 0; s < splits; s++) {
      int[] order = new SplitMix64(SplitMix64.at(seed, s)).sample(clusters, clusters);
      int[] first = Arrays.copyOfRange(order, 0, clusters / 2);
      int[] second = Arrays.copyOfRange(order, clusters / 2, clusters);
      correlation += pearson(means(sums, first), means(sums, second)) / splits;
    }
    double reliability = correlation <= 0 ? 0 : 2 * correlation / (1 + correlation);
    return new SplitHalf(correlation, reliability, splits);
  }

  private double[] means(double[][] sums, int[] chosen) {
    double weight = 0;
    for (int c : chosen) {
      weight += size[c];
    }
    double[] means = new double[sums.length];
    for (int i = 0; i < means.length; i++) {
      for (int c : chosen) {
        means[i] += sums[i][c] / weight;
      }
    }
    return means;
  }

  private double[] clusterSums(HeadId id) {
    double[] sums = new double[size.length];
    for (int t = 0; t < cluster.length; t++) {
      sums[cluster[t]] += scores.score(id, t);
    }
    return sums;
  }

  private double[] ascendingMeans() {
    return scores.ids().stream().mapToDouble(scores::mean).sorted().toArray();
  }

  private static double pearson(double[] x, double[] y) {
    double meanX = Arrays.stream(x).average().orElseThrow();
    double meanY = Arrays.stream(y).average().orElseThrow();
    double xx = 0;
    double yy = 0;
    double xy = 0;
    for (int i = 0; i < x.length; i++) {
      xx += (x[i] - meanX) * (x[i] - meanX);
      yy += (y[i] - meanY) * (y[i] - meanY);
      xy += (x[i] - meanX) * (y[i] - meanY);
    }
    return xx == 0 || yy == 0 ? 0 : Math.clamp(xy / Math.sqrt(xx * yy), -1, 1);
  }
}
