package io.github.retmask.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import io.github.retmask.random.SplitMix64;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Losses as formulas of log-probabilities.
class LossTest {

  @Test
  void crossEntropyIsTheWeightedMean() {
    Loss loss = new CrossEntropyLoss(new float[] {1, 0.5f, 2});
    TokenLogProbs logps = new TokenLogProbs(new float[] {-1, -2, -4}, new int[] {0, 2, 3});
    assertThat(loss.units()).isEqualTo(3.5);
    Loss.Part part = loss.part(logps, 3.5);
    assertThat(part.loss()).isEqualTo((1 + 1 + 8) / 3.5);
    assertThat(part.dLogps()).containsExactly(-1 / 3.5f, -0.5f / 3.5f, -2 / 3.5f);
    assertThat(part.metrics()).isEmpty();
  }

  /// The formula as it stands in the papers, no care for overflow.
  private static double dpo(double beta, double eps, double chosen, double rejected) {
    double s = beta * (chosen - rejected);
    return -(1 - eps) * Math.log(1 / (1 + Math.exp(-s))) - eps * Math.log(1 / (1 + Math.exp(s)));
  }

  @ParameterizedTest
  @ValueSource(doubles = {0, 0.1, 0.4})
  void dpoIsTheMeanOverPairs(double eps) {
    List<PairLogProbs> references =
        List.of(new PairLogProbs(-5, -7.5), new PairLogProbs(-3.25, -2));
    DpoLoss loss = new DpoLoss(0.3, eps, references);
    TokenLogProbs logps =
        new TokenLogProbs(
            new float[] {-1, -3, -8, -2, -1.5f, -1.25f, -0.5f}, new int[] {0, 2, 3, 5, 7});
    double wanted = (dpo(0.3, eps, -4 + 5, -8 + 7.5) + dpo(0.3, eps, -3.5 + 3.25, -1.75 + 2)) / 2;
    Loss.Part part = loss.part(logps, loss.units());
    assertThat(part.loss()).isCloseTo(wanted, within(1e-15));
    assertThat(part.metrics().get("rewards/chosen")).isCloseTo(0.3 * (1 - 0.25) / 2, within(1e-15));
    assertThat(part.metrics().get("rewards/rejected"))
        .isCloseTo(0.3 * (-0.5 + 0.25) / 2, within(1e-15));
    assertThat(part.metrics().get("rewards/margins"))
        .isCloseTo(0.3 * (0.75 + 0.25) / 2, within(1e-15));
    assertThat(part.metrics().get("rewards/accuracies")).isEqualTo(0.5);
    assertThat(part.metrics().get("logps/chosen")).isEqualTo((-4 - 3.5) / 2);
    assertThat(part.metrics().get("logps/rejected")).isEqualTo((-8 - 1.75) / 2);
  }

  @ParameterizedTest
  @ValueSource(doubles = {0, 0.1, 0.4})
  void theGradientOfDpoIsTheDifferenceOfItsValue(double eps) {
    SplitMix64 random = new SplitMix64(4);
    float[] values = new float[11];
    for (int i = 0; i < values.length; i++) {
      values[i] = Math.round(-6 * 64 * random.nextDouble()) / 64f; // exact under the steps below
    }
    int[] rowStart = {0, 3, 4, 9, 11};
    DpoLoss loss =
        new DpoLoss(0.7, eps, List.of(new PairLogProbs(-9, -2), new PairLogProbs(-20, -7)));
    float[] gradient = loss.part(new TokenLogProbs(values, rowStart), 2).dLogps();
    float h = 1f / 64;
    for (int i = 0; i < values.length; i++) {
      float[] up = values.clone();
      float[] down = values.clone();
      up[i] += h;
      down[i] -= h;
      double difference =
          (loss.part(new TokenLogProbs(up, rowStart), 2).loss()
                  - loss.part(new TokenLogProbs(down, rowStart), 2).loss())
              / (2 * h);
      // third derivative of log sigmoid(beta x) is below beta^3 / 8
      assertThat((double) gradient[i])
          .isCloseTo(difference, within(0.7 * 0.7 * 0.7 / 8 * h * h / 6 + 0x1p-24));
    }
  }

  @Test
  void dpoStaysFiniteAtExtremeMargins() {
    DpoLoss loss = new DpoLoss(1, 0, List.of(new PairLogProbs(0, 0)));
    Loss.Part lost = loss.part(new TokenLogProbs(new float[] {-5000, 0}, new int[] {0, 1, 2}), 1);
    assertThat(lost.loss()).isEqualTo(5000);
    assertThat(lost.dLogps()).containsExactly(-1, 1);
    Loss.Part won = loss.part(new TokenLogProbs(new float[] {0, -5000}, new int[] {0, 1, 2}), 1);
    assertThat(won.loss()).isZero();
    assertThat(won.dLogps()[0]).isZero();
  }

  @Test
  void impossibleScalarsAreRefused() {
    assertThatThrownBy(() -> new DpoLoss(0, 0, List.of()))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("DPO: beta 0.0, want a finite number above 0");
    assertThatThrownBy(() -> new DpoLoss(0.1, 0.5, List.of()))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("DPO: label smoothing 0.5, want from 0 to below 0.5");
  }
}
