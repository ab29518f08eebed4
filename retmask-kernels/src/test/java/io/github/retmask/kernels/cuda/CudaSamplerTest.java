package io.github.retmask.kernels.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.TokenDraw;
import io.github.retmask.generate.Sampler;
import io.github.retmask.generate.Sampling;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// The GPU draws the tokens that the sampler of the host draws.
class CudaSamplerTest {

  /// Logits as models have them: most lie low, some stand out.
  private static float[] logits(Random random, int vocab, double spread, boolean ties) {
    float[] row = new float[vocab];
    for (int i = 0; i < vocab; i++) {
      double value = spread * random.nextGaussian();
      row[i] = ties ? Math.round(value) : (float) value;
    }
    for (int i = 0; i < 3; i++) {
      row[random.nextInt(vocab)] += (float) (2 * spread);
    }
    return row;
  }

  private static Tensor tensor(TensorArena arena, List<float[]> rows) {
    int vocab = rows.getFirst().length;
    float[] all = new float[rows.size() * vocab];
    for (int m = 0; m < rows.size(); m++) {
      System.arraycopy(rows.get(m), 0, all, m * vocab, vocab);
    }
    return arena.floats("logits", rows.size(), vocab).copyFrom(all);
  }

  /// Draws with all kinds of filters.
  private static TokenDraw draw(Random random, int vocab, int position) {
    double temperature =
        switch (random.nextInt(8)) {
          case 0 -> 0;
          case 1 -> 0.05;
          default -> 0.3 + 1.5 * random.nextDouble();
        };
    int topK = random.nextBoolean() ? 0 : 1 + random.nextInt(random.nextBoolean() ? 20 : vocab + 9);
    double topP = random.nextBoolean() ? 1 : random.nextDouble() + 1e-3;
    double minP = random.nextInt(3) > 0 ? 0 : random.nextDouble() / 4;
    double penalty = random.nextInt(3) > 0 ? 1 : 1.3;
    int[] seen = penalty == 1 ? new int[0] : random.ints(9, 0, vocab).distinct().toArray();
    return new Sampling(temperature, topK, Math.min(1, topP), minP, penalty, random.nextLong())
        .draw(random.nextLong(), position, seen);
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 37, 4099, 20_003})
  void drawsTheTokensOfTheHostsSampler(int vocab) {
    Random random = new Random(vocab);
    Sampler host = new Sampler();
    List<float[]> rows = new ArrayList<>();
    List<TokenDraw> draws = new ArrayList<>();
    for (int m = 0; m < 20; m++) {
      rows.add(logits(random, vocab, 0.3 + 3 * random.nextDouble(), m % 5 == 0));
      draws.add(draw(random, vocab, m));
    }
    if (vocab > 2) {
      Arrays.fill(rows.get(7), 1, vocab, Float.NEGATIVE_INFINITY);
      Arrays.fill(rows.get(8), 1.5f); // all tokens tie
    }
    int[] want = new int[rows.size()];
    for (int m = 0; m < want.length; m++) {
      want[m] = host.sample(rows.get(m).clone(), draws.get(m));
    }
    try (Kernels kernels = TestGpu.open(1);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      assertThat(kernels.drawTokens(tensor(arena, rows), draws)).containsExactly(want);
    }
  }

  /// The host may have to draw, but seldom.
  @Test
  void isSureOfNearlyAllTokens() {
    Random random = new Random(2);
    int vocab = 50_000;
    List<float[]> rows = new ArrayList<>();
    List<TokenDraw> draws = new ArrayList<>();
    for (int m = 0; m < 60; m++) {
      rows.add(logits(random, vocab, 2.2, false));
      int topK = m % 3 == 0 ? 0 : 50;
      double topP = m % 2 == 0 ? 1 : 0.95;
      draws.add(new Sampling(0.5 + m % 4 * 0.25, topK, topP, 0, 1, 3).draw(m, m));
    }
    Sampler host = new Sampler();
    int undecided = 0;
    try (Gpu gpu = TestGpu.gpu();
        TensorArena arena = new CudaArena(gpu)) {
      Tensor logits = tensor(arena, rows);
      gpu.op();
      int[] ids = CudaSampler.drawCertain(gpu, logits, draws);
      for (int m = 0; m < ids.length; m++) {
        undecided += ids[m] < 0 ? 1 : 0;
        assertThat(ids[m]).isIn(-1, host.sample(rows.get(m), draws.get(m)));
      }
    }
    assertThat(undecided).isLessThanOrEqualTo(1);
  }

  @Test
  void anyLogitThatIsNoNumberIsAnError() {
    try (Kernels kernels = TestGpu.open(1);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY}) {
        float[] row = new float[5000];
        row[4700] = bad;
        Tensor logits = tensor(arena, List.of(new float[5000], row));
        for (Sampling sampling : List.of(Sampling.GREEDY, Sampling.of(1, 3))) {
          List<TokenDraw> draws = List.of(sampling.draw(0, 0), sampling.draw(0, 1));
          assertThatThrownBy(() -> kernels.drawTokens(logits, draws))
              .isInstanceOf(IllegalStateException.class)
              .hasMessageContaining("NaN or no finite maximum");
        }
      }
      Tensor none = tensor(arena, List.of(new float[] {Float.NEGATIVE_INFINITY}));
      assertThatThrownBy(() -> kernels.drawTokens(none, List.of(Sampling.GREEDY.draw(0, 0))))
          .isInstanceOf(IllegalStateException.class);
    }
  }
}
