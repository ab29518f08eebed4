package io.github.retmask.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.random.SplitMix64;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class InitialWeightsTest {
  private final HostArena arena = new HostArena();

  @AfterEach
  void free() {
    arena.close();
  }

  @Test
  void matricesAreNormal() {
    float[] values =
        weights(7, InitialWeights.Residuals.PLAIN).tensor("a.weight", 201, 99).toFloats();
    int n = values.length;
    double mean = 0;
    double square = 0;
    double fourth = 0;
    for (float v : values) {
      mean += v / n;
      square += (double) v * v / n;
      fourth += Math.pow(v, 4) / n;
    }
    // five standard errors of each moment of n normal values
    double bound = 5 / Math.sqrt(n);
    assertThat(Math.abs(mean) <= 0.5 * bound).isTrue();
    assertThat(Math.abs(square / 0.25 - 1) <= Math.sqrt(2) * bound).isTrue();
    assertThat(Math.abs(fourth / 0.0625 - 3) <= Math.sqrt(96) * bound).isTrue();
  }

  @Test
  void aValueComesFromSeedNameAndPlaceAlone() {
    InitialWeights weights = weights(7, InitialWeights.Residuals.PLAIN);
    Tensor first = weights.tensor("a.weight", 3, 5);
    weights.tensor("b.weight", 2, 2);
    assertThat(weights.tensor("a.weight", 3, 5).toFloats()).isEqualTo(first.toFloats());
    assertThat(weights.tensor("b.weight", 3, 5).toFloats()).isNotEqualTo(first.toFloats());
    assertThat(weights(8, InitialWeights.Residuals.PLAIN).tensor("a.weight", 3, 5).toFloats())
        .isNotEqualTo(first.toFloats());
    long stream = SplitMix64.at(7, SplitMix64.key("a.weight"));
    double radius = Math.sqrt(-2 * Math.log(SplitMix64.toOpenDouble(SplitMix64.at(stream, 14))));
    double angle = 2 * Math.PI * SplitMix64.toOpenDouble(SplitMix64.at(stream, 15));
    assertThat(first.get(14)).isEqualTo((float) (0.5 * radius * Math.cos(angle)));
  }

  @Test
  void normsAreOneAndBiasesZero() {
    InitialWeights weights = weights(7, InitialWeights.Residuals.PLAIN);
    assertThat(weights.tensor("model.norm.weight", 3).toFloats()).containsExactly(1, 1, 1);
    assertThat(weights.tensor("q_proj.bias", 3).toFloats()).containsExactly(0, 0, 0);
  }

  @Test
  void residualProjectionsShrinkWithDepthWhenAsked() {
    Tensor plain = weights(7, InitialWeights.Residuals.PLAIN).tensor("o_proj.weight", 3, 3);
    InitialWeights deep = weights(7, InitialWeights.Residuals.SCALED_BY_DEPTH);
    Tensor scaled = deep.tensor("o_proj.weight", 3, 3);
    for (int i = 0; i < 9; i++) {
      assertThat(scaled.get(i)).isEqualTo(plain.get(i) / 4); // 8 layers: root of 16
    }
    assertThat(deep.tensor("q_proj.weight", 3, 3).toFloats())
        .isEqualTo(
            weights(7, InitialWeights.Residuals.PLAIN).tensor("q_proj.weight", 3, 3).toFloats());
  }

  @Test
  void impossibleDeviationsAreRefused() {
    assertThatThrownBy(() -> new InitialWeights(1, -0.02, InitialWeights.Residuals.PLAIN, 2, arena))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("standard deviation -0.02");
  }

  private InitialWeights weights(long seed, InitialWeights.Residuals residuals) {
    return new InitialWeights(seed, 0.5, residuals, 8, arena);
  }
}
