package io.github.retmask.heads;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalStateException;
import static org.assertj.core.api.Assertions.within;

import io.github.retmask.random.SplitMix64;
import io.github.retmask.stats.Interval;
import io.github.retmask.stats.Wilson;
import java.util.List;
import java.util.function.ToDoubleFunction;
import org.junit.jupiter.api.Test;

class HeadStatisticsTest {
  private static final HeadId HEAD = new HeadId(0, 0);

  private static HeadStatistics oneHead(double... trials) {
    int[] all = new int[trials.length];
    for (int t = 0; t < all.length; t++) {
      all[t] = t;
    }
    return HeadStatistics.of(HeadScores.ofHeads(1, 1, new double[][] {trials}), all);
  }

  /// How often the interval holds the true mean, over simulated sets of `distinct` trials, each
  /// repeated up to `maxRepeats` times.
  private static double coverage(
      int distinct, int maxRepeats, double mean, ToDoubleFunction<SplitMix64> score) {
    SplitMix64 random = new SplitMix64(2024);
    int simulations = 4000;
    int covered = 0;
    for (int s = 0; s < simulations; s++) {
      int[] repeats = new int[distinct];
      int n = 0;
      for (int c = 0; c < distinct; c++) {
        n += repeats[c] = 1 + random.nextInt(maxRepeats);
      }
      double[] trials = new double[n];
      int[] sameAs = new int[n];
      for (int c = 0, t = 0; c < distinct; c++) {
        double value = score.applyAsDouble(random);
        for (int r = 0; r < repeats[c]; r++, t++) {
          trials[t] = value;
          sameAs[t] = c;
        }
      }
      HeadScores scores = HeadScores.ofHeads(1, 1, new double[][] {trials});
      covered += HeadStatistics.of(scores, sameAs).ci95(HEAD).contains(mean) ? 1 : 0;
    }
    return (double) covered / simulations;
  }

  private static double hits(SplitMix64 random, int needle, double p) {
    int hits = 0;
    for (int i = 0; i < needle; i++) {
      hits += random.nextDouble() < p ? 1 : 0;
    }
    return (double) hits / needle;
  }

  /// Score of a head that hits each of 17 needle tokens with a probability of its own in each trial
  /// (u², mean 1/3). Over 4000 simulations the standard error of the coverage is 0.0035.
  private static double varied(SplitMix64 random) {
    double u = random.nextDouble();
    return hits(random, 17, u * u);
  }

  @Test
  void intervalsOfDistinctTrialsCoverTheTruthNinetyFiveTimesInAHundred() {
    assertThat(coverage(40, 1, 1 / 3.0, HeadStatisticsTest::varied)).isBetween(0.935, 0.965);
    assertThat(coverage(12, 1, 1 / 3.0, HeadStatisticsTest::varied)).isBetween(0.935, 0.965);
    assertThat(coverage(40, 1, 0.05, r -> hits(r, 17, 0.05))).isBetween(0.935, 0.965);
    assertThat(coverage(40, 1, 0.9, r -> hits(r, 17, 0.9))).isBetween(0.935, 0.965);
  }

  /// The hardest case for any interval: most sets of 30 trials hold one or no trial in which the head
  /// fires. Mean ± t s/√n covers the truth in 79 % and 69 % of such sets; ours in 94 % and 92 %.
  @Test
  void intervalsOfRarelyFiringHeadsNearlyKeepTheirCoverage() {
    assertThat(coverage(30, 1, 0.05, r -> r.nextDouble() < 0.05 ? 1 : 0)).isGreaterThan(0.93);
    assertThat(coverage(30, 1, 0.025, r -> r.nextDouble() < 0.05 ? r.nextDouble() : 0))
        .isGreaterThan(0.91);
  }

  @Test
  void repeatedTrialsDoNotNarrowTheInterval() {
    assertThat(coverage(30, 9, 1 / 3.0, HeadStatisticsTest::varied)).isBetween(0.93, 0.97);
    double[] once = {0.1, 0.4, 0, 0.7, 0.2};
    double[] tenfold = new double[50];
    for (int t = 0; t < 50; t++) {
      tenfold[t] = once[t % 5];
    }
    Interval narrow = oneHead(tenfold).ci95(HEAD);
    HeadScores repeated = HeadScores.ofHeads(1, 1, new double[][] {tenfold});
    HeadStatistics detected = HeadStatistics.of(repeated);
    assertThat(detected.nominalTrials()).isEqualTo(50);
    assertThat(detected.distinctTrials()).isEqualTo(5);
    assertThat(detected.effectiveTrials()).isCloseTo(5, within(1e-12));
    Interval honest = detected.ci95(HEAD);
    Interval five = oneHead(once).ci95(HEAD);
    assertThat(honest.low()).isCloseTo(five.low(), within(1e-12));
    assertThat(honest.high()).isCloseTo(five.high(), within(1e-12));
    assertThat(honest.width()).isGreaterThan(2.5 * narrow.width());
  }

  @Test
  void unevenRepeatsAreWorthFewerTrials() {
    HeadScores scores = HeadScores.ofHeads(1, 1, new double[][] {{0.5, 0.5, 0.5, 0.25, 0}});
    HeadStatistics statistics = HeadStatistics.of(scores);
    assertThat(statistics.distinctTrials()).isEqualTo(3);
    assertThat(statistics.effectiveTrials()).isCloseTo(25.0 / 11, within(1e-12));
  }

  /// For scores 0 and 1 the variance equals p (1 - p) / (n - 1), so the interval is Wilson's for n - 1
  /// observations with t in place of z.
  @Test
  void intervalOfHitOrMissScoresIsWilsons() {
    double[] trials = new double[21];
    trials[3] = trials[11] = trials[20] = 1;
    Interval got = oneHead(trials).ci95(HEAD);
    Interval want = Wilson.interval(3 / 21.0, 20, 2.0859634472658364);
    assertThat(got.low()).isCloseTo(want.low(), within(1e-9));
    assertThat(got.high()).isCloseTo(want.high(), within(1e-9));
  }

  @Test
  void constantScoresStillHaveWidthAndOneTrialSaysNothing() {
    Interval never = oneHead(new double[40]).ci95(HEAD);
    assertThat(never.low()).isZero();
    assertThat(never.high()).isBetween(0.08, 0.11);
    assertThat(oneHead(1, 1, 1).ci95(HEAD).high()).isEqualTo(1);
    assertThat(oneHead(1, 1, 1).ci95(HEAD).low()).isBetween(0.1, 0.3);
    assertThat(oneHead(0.3).ci95(HEAD)).isEqualTo(new Interval(0, 1));
  }

  @Test
  void scoresAboveOneStretchTheRange() {
    Interval ci = oneHead(1.5, 1.9, 2, 1.7).ci95(HEAD);
    assertThat(ci.contains(1.775)).isTrue();
    assertThat(ci.high()).isLessThanOrEqualTo(2);
    assertThat(ci.low()).isGreaterThan(1);
  }

  @Test
  void giniIsZeroForEqualHeadsAndOneMinusOneOverNForASingleOne() {
    assertThat(gini(0.3, 0.3, 0.3, 0.3)).isCloseTo(0, within(1e-15));
    assertThat(gini(0, 0, 0, 0.7)).isCloseTo(0.75, within(1e-15));
    assertThat(gini(0, 0, 0, 0)).isZero();
    // mean absolute difference of all pairs over twice the mean: (1+2+3+1+2+1)*2/16 / (2*2.5)
    assertThat(gini(0.4, 0.1, 0.3, 0.2)).isCloseTo(0.25, within(1e-15));
  }

  private static double gini(double... means) {
    return heads(means).gini();
  }

  private static HeadStatistics heads(double... means) {
    double[][] byHead = new double[means.length][1];
    for (int i = 0; i < means.length; i++) {
      byHead[i][0] = means[i];
    }
    return HeadStatistics.of(HeadScores.ofHeads(1, means.length, byHead));
  }

  @Test
  void topShareRoundsToWholeHeads() {
    HeadStatistics statistics = heads(0.1, 0.2, 0.3, 0.4);
    assertThat(statistics.topShare(0.05)).isCloseTo(0.4, within(1e-15));
    assertThat(statistics.topShare(0.5)).isCloseTo(0.7, within(1e-15));
    assertThat(statistics.topShare(1)).isEqualTo(1);
    assertThat(heads(0, 0).topShare(0.5)).isZero();
  }

  @Test
  void halvesOfConsistentTrialsAgreeAndOfNoiseDoNot() {
    SplitMix64 random = new SplitMix64(9);
    int heads = 200;
    double[][] steady = new double[heads][31];
    double[][] noise = new double[heads][31];
    for (int h = 0; h < heads; h++) {
      double level = random.nextDouble();
      for (int t = 0; t < 31; t++) {
        steady[h][t] = Math.clamp(level + 0.1 * (random.nextDouble() - 0.5), 0, 1);
        noise[h][t] = random.nextDouble();
      }
    }
    SplitHalf good = HeadStatistics.of(HeadScores.ofHeads(4, 50, steady)).splitHalf(20, 42);
    assertThat(good.correlation()).isGreaterThan(0.99);
    assertThat(good.reliability()).isBetween(good.correlation(), 1.0);
    SplitHalf bad = HeadStatistics.of(HeadScores.ofHeads(4, 50, noise)).splitHalf(20, 42);
    // 4 standard errors of one correlation over 200 heads
    assertThat(bad.correlation()).isBetween(-0.28, 0.28);
    assertThat(good)
        .isEqualTo(HeadStatistics.of(HeadScores.ofHeads(4, 50, steady)).splitHalf(20, 42));
  }

  /// Two heads over two trials: the halves are the trials. Means (1, 0) and (0.5, 0) correlate fully.
  @Test
  void splitHalfOfTwoTrialsIsTheirCorrelation() {
    HeadScores two = HeadScores.ofHeads(1, 2, new double[][] {{1, 0.5}, {0, 0}});
    assertThat(HeadStatistics.of(two).splitHalf(3, 0)).isEqualTo(new SplitHalf(1, 1, 3));
    HeadScores opposed = HeadScores.ofHeads(1, 2, new double[][] {{1, 0}, {0, 1}});
    assertThat(HeadStatistics.of(opposed).splitHalf(3, 0)).isEqualTo(new SplitHalf(-1, 0, 3));
    assertThatIllegalStateException()
        .isThrownBy(() -> oneHead(0.5).splitHalf(3, 0))
        .withMessageContaining("2 distinct trials");
  }

  @Test
  void repeatsStayInOneHalf() {
    // Trials 0-2 repeat each other, as do 3-5: both halves of every split are one of the two.
    HeadScores scores =
        HeadScores.ofHeads(1, 2, new double[][] {{1, 1, 1, 0, 0, 0}, {0, 0, 0, 1, 1, 1}});
    assertThat(HeadStatistics.of(scores).splitHalf(5, 1).correlation()).isEqualTo(-1);
  }

  @Test
  void estimatesComeInRankingOrder() {
    HeadScores scores = HeadScores.ofHeads(1, 3, new double[][] {{0, 0.2}, {1, 0.8}, {0.5, 0.5}});
    List<HeadEstimate> estimates = HeadStatistics.of(scores).estimates();
    assertThat(estimates).extracting(HeadEstimate::id).isEqualTo(scores.ranking());
    assertThat(estimates).allMatch(e -> e.ci95().contains(e.mean()));
  }
}
