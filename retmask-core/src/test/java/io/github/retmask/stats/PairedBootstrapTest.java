package io.github.retmask.stats;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.within;

import io.github.retmask.random.SplitMix64;
import org.junit.jupiter.api.Test;

class PairedBootstrapTest {
  /// Right and wrong answers of two arms on the same trials, the second arm wrong a bit more often
  /// where the first is right. Over 1500 simulations the standard error of the coverage is 0.0056.
  @Test
  void intervalCoversTheTrueDifferenceNinetyFiveTimesInAHundred() {
    SplitMix64 random = new SplitMix64(31);
    int simulations = 1500;
    int n = 120;
    int covered = 0;
    double truth = 0.7 * -0.3 + 0.3 * 0.2;
    for (int s = 0; s < simulations; s++) {
      double[] first = new double[n];
      double[] second = new double[n];
      for (int t = 0; t < n; t++) {
        first[t] = random.nextDouble() < 0.7 ? 1 : 0;
        second[t] = random.nextDouble() < (first[t] == 1 ? 0.7 : 0.2) ? 1 : 0;
      }
      PairedBootstrap result = PairedBootstrap.difference(first, second, 400, s);
      covered += result.ci95().contains(truth) ? 1 : 0;
    }
    assertThat((double) covered / simulations).isBetween(0.93, 0.97);
  }

  @Test
  void pairingRemovesWhatTheArmsShare() {
    SplitMix64 random = new SplitMix64(5);
    double[] first = new double[50];
    double[] second = new double[50];
    for (int t = 0; t < 50; t++) {
      first[t] = 100 * random.nextDouble();
      second[t] = first[t] + 0.5 + 0.1 * random.nextDouble();
    }
    PairedBootstrap result = PairedBootstrap.difference(first, second, 2000, 1);
    assertThat(result.mean()).isCloseTo(0.55, within(0.02));
    assertThat(result.ci95().width()).isLessThan(0.03);
    assertThat(PairedBootstrap.difference(first, second, 2000, 1)).isEqualTo(result);
    assertThat(PairedBootstrap.difference(first, second, 2000, 2)).isNotEqualTo(result);
  }

  @Test
  void equalArmsDifferByNothing() {
    double[] same = {1, 0, 1};
    assertThat(PairedBootstrap.difference(same, same, 40, 0))
        .isEqualTo(new PairedBootstrap(0, new Interval(0, 0)));
  }

  @Test
  void unpairedOrTooFewNumbersAreRefused() {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> PairedBootstrap.difference(new double[2], new double[3], 100, 0))
        .withMessageContaining("2 and 3 trials");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> PairedBootstrap.difference(new double[2], new double[2], 39, 0));
  }
}
