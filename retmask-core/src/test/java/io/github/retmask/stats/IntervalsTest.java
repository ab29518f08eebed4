package io.github.retmask.stats;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.within;

import org.junit.jupiter.api.Test;

class IntervalsTest {
  /// Printed tables of the 97.5 % point give three decimals.
  @Test
  void studentQuantilesMatchPrintedTables() {
    double[][] table = {
      {1, 12.706}, {2, 4.303}, {3, 3.182}, {5, 2.571}, {10, 2.228}, {30, 2.042}, {120, 1.980}
    };
    for (double[] row : table) {
      assertThat(StudentT.quantile(0.975, row[0])).isCloseTo(row[1], within(0.0005));
    }
    assertThat(StudentT.quantile(0.975, 1e9)).isCloseTo(1.959963984540054, within(1e-6));
  }

  /// Closed forms: 1 degree of freedom is the Cauchy distribution, 2 has t / sqrt(2 + t²).
  @Test
  void studentDistributionMatchesItsClosedForms() {
    for (double t : new double[] {-40, -3, -0.7, 0, 1e-3, 0.5, 1, 2.5, 11, 300}) {
      assertThat(StudentT.cdf(t, 1)).isCloseTo(0.5 + Math.atan(t) / Math.PI, within(1e-13));
      assertThat(StudentT.cdf(t, 2)).isCloseTo(0.5 + t / (2 * Math.sqrt(2 + t * t)), within(1e-13));
    }
  }

  @Test
  void studentQuantileInvertsTheDistribution() {
    for (double df : new double[] {0.8, 1, 2.409, 7, 37.2, 599}) {
      for (double p : new double[] {0.001, 0.025, 0.5, 0.9, 0.975, 0.9995}) {
        assertThat(StudentT.cdf(StudentT.quantile(p, df), df)).isCloseTo(p, within(1e-12));
      }
    }
    assertThatIllegalArgumentException().isThrownBy(() -> StudentT.quantile(1, 3));
    assertThatIllegalArgumentException().isThrownBy(() -> StudentT.cdf(1, 0));
  }

  /// Both ends p of Wilson's interval satisfy |p̂ - p| = z sqrt(p (1 - p) / n).
  @Test
  void wilsonEndsLieExactlyZStandardErrorsAway() {
    double z = 1.959963984540054;
    for (int[] kn : new int[][] {{1, 10}, {3, 10}, {50, 99}, {98, 99}, {1, 4000}}) {
      Interval ci = Wilson.ci95(kn[0], kn[1]);
      double estimate = (double) kn[0] / kn[1];
      for (double end : new double[] {ci.low(), ci.high()}) {
        assertThat(Math.abs(estimate - end))
            .isCloseTo(z * Math.sqrt(end * (1 - end) / kn[1]), within(1e-12));
      }
      assertThat(ci.contains(estimate)).isTrue();
    }
  }

  @Test
  void wilsonHandlesNoneAndAll() {
    Interval none = Wilson.ci95(0, 30);
    assertThat(none.low()).isZero();
    assertThat(none.high()).isCloseTo(0.113513, within(1e-6));
    Interval all = Wilson.ci95(30, 30);
    assertThat(all.high()).isEqualTo(1);
    assertThat(all.low()).isCloseTo(1 - none.high(), within(1e-12));
    assertThatIllegalArgumentException().isThrownBy(() -> Wilson.ci95(2, 1));
    assertThatIllegalArgumentException().isThrownBy(() -> Wilson.ci95(0, 0));
  }

  /// Exact coverage by summing binomial probabilities, averaged over p; Wilson's average is near the
  /// nominal level at every n (Brown, Cai, DasGupta 2001).
  @Test
  void wilsonCoversNinetyFivePercentOnAverage() {
    int n = 25;
    double covered = 0;
    int grid = 199;
    for (int g = 1; g <= grid; g++) {
      double p = g / (grid + 1.0);
      double probability = Math.pow(1 - p, n);
      for (int k = 0; k <= n; k++) {
        covered += Wilson.ci95(k, n).contains(p) ? probability / grid : 0;
        probability *= (n - k) * p / ((k + 1) * (1 - p));
      }
    }
    assertThat(covered).isBetween(0.945, 0.96);
  }

  @Test
  void intervalRefusesReversedEnds() {
    assertThatIllegalArgumentException().isThrownBy(() -> new Interval(1, 0));
    assertThatIllegalArgumentException().isThrownBy(() -> new Interval(0, Double.NaN));
    assertThat(new Interval(-1, 2).width()).isEqualTo(3);
  }
}
