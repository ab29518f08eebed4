package io.github.retmask.kernels.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.TokenDraw;
import io.github.retmask.generate.Sampler;
import io.github.retmask.generate.Sampling;
import io.github.retmask.random.SplitMix64;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
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

  // --- what the GPU decides, and what it leaves to the host -----------------------------------

  private static final int UNDECIDED = -1;

  private static int[] decided(List<float[]> rows, List<TokenDraw> draws) {
    try (Gpu gpu = TestGpu.gpu();
        TensorArena arena = new CudaArena(gpu)) {
      Tensor logits = tensor(arena, rows);
      gpu.op();
      return CudaSampler.drawCertain(gpu, logits, draws);
    }
  }

  /// Where all candidates fit and no cut is within an error, the host has nothing to do.
  @ParameterizedTest
  @ValueSource(ints = {1, 3, 37, 256})
  void decidesAllRowsOfASmallVocabulary(int vocab) {
    Random random = new Random(vocab + 1);
    Sampler host = new Sampler();
    List<float[]> rows = new ArrayList<>();
    List<TokenDraw> draws = new ArrayList<>();
    for (int m = 0; m < 99; m++) {
      double spread = new double[] {0.01, 0.5, 3, 25}[m % 4];
      float[] row = logits(random, vocab, spread, m % 5 == 0);
      if (m % 3 == 0) { // the likeliest one is the first; neighbours of where the last bin begins
        row[0] = 5 + Math.round(4 * spread);
        for (int i = 1; i < vocab; i += 3) {
          row[i] = row[0] - 32 + (i % 5 - 2) / 256f;
        }
      }
      for (int i = 1; m % 7 == 0 && i < vocab; i += 2) {
        row[i] = Float.NEGATIVE_INFINITY;
      }
      rows.add(row);
      double temperature = new double[] {0.7, 1, 4, 60, 1e4}[m % 11 % 5];
      int topK = m % 2 == 0 ? 0 : 1 + random.nextInt(vocab + 3);
      double topP = m / 2 % 2 == 0 ? 1 : 0.02 + 0.98 * random.nextDouble();
      double minP = m % 6 == 0 ? 0.3 : 0;
      draws.add(new Sampling(temperature, topK, topP, minP, 1, m).draw(3, m));
    }
    int[] want = new int[rows.size()];
    for (int m = 0; m < want.length; m++) {
      want[m] = host.sample(rows.get(m).clone(), draws.get(m));
    }
    assertThat(decided(rows, draws)).containsExactly(want);
  }

  /// Tokens that all tie are candidates of one bin.
  @ParameterizedTest
  @CsvSource({"1,256,true", "1,257,false", "4,256,true", "5,205,false"})
  void candidatesFitUpToTheirNumber(int stretches, int perStretch, boolean fit) {
    float[] few = new float[stretches * 4096]; // finite ones
    float[] all = new float[stretches * 4096];
    Arrays.fill(few, Float.NEGATIVE_INFINITY);
    Arrays.fill(all, -3);
    for (int i = 0; i < stretches * perStretch; i++) { // of all threads, the last one's included
      int at = i % stretches * 4096 + (4095 - 16 * (i / stretches) & 4095) - i / stretches / 256;
      few[at] = 1;
      all[at] = 1;
    }
    List<float[]> rows = new ArrayList<>();
    List<TokenDraw> draws = new ArrayList<>();
    int[] want = new int[16];
    Sampler host = new Sampler();
    for (int m = 0; m < want.length; m++) {
      int topK = m % 6 == 3 ? 0 : 3 + m * 31 % (stretches * perStretch);
      float[] row = m % 3 == 0 ? few : all;
      rows.add(row);
      draws.add(new Sampling(1, topK, m % 2 == 0 ? 1 : 0.8765, 0, 1, 5).draw(m, m));
      want[m] = fit ? host.sample(row.clone(), draws.get(m)) : UNDECIDED;
    }
    assertThat(decided(rows, draws)).containsExactly(want);
  }

  /// Top-p that ends exactly where a token does, between bins and among equals, alone and of what
  /// top-k leaves.
  @ParameterizedTest
  @CsvSource({"0,1", "0,4", "5,1", "5,4", "3,2"})
  void cutsThatRoundingMayMoveAreLeftToTheHost(int topK, int kept) {
    float[] row = {-1.25f, -1.25f, 2, -1.25f, -1.25f, -9, -9.5f};
    int[] ranking = {2, 0, 1, 3, 4, 5, 6};
    double total = 0;
    double reached = 0;
    for (int i = 0; i < (topK == 0 ? row.length : topK); i++) {
      total += Math.exp(row[ranking[i]] - row[2]);
      reached += i < kept ? Math.exp(row[ranking[i]] - row[2]) : 0;
    }
    Sampler host = new Sampler();
    List<float[]> rows = new ArrayList<>();
    List<TokenDraw> draws = new ArrayList<>();
    int[] want = new int[63];
    for (int m = 0; m < want.length; m++) {
      double distance = m % 3 * 1e-9 - 1e-9;
      rows.add(row);
      draws.add(new Sampling(1, topK, reached / total + distance, 0, 1, 1).draw(m, m));
      want[m] = distance == 0 ? UNDECIDED : host.sample(row.clone(), draws.get(m));
    }
    assertThat(decided(rows, draws)).containsExactly(want);
  }

  /// A top-p that is less than the error of the sums.
  @Test
  void aTopPOfNearlyNothingIsLeftToTheHost() {
    TokenDraw draw = new Sampling(1, 0, 1e-13, 0, 1, 1).draw(0, 0);
    assertThat(decided(List.of(new float[] {-0.001f, 0, 0, -3}), List.of(draw)))
        .containsExactly(UNDECIDED);
  }

  @Test
  void aLargeTopKIsDecidedByItsLastBin() {
    Random random = new Random(8);
    Sampler host = new Sampler();
    List<float[]> rows = new ArrayList<>();
    List<TokenDraw> draws = new ArrayList<>();
    int[] want = new int[10];
    for (int m = 0; m < want.length; m++) {
      rows.add(logits(random, 5000, 3, false));
      draws.add(new Sampling(3, 600 + m * 250, 1, 0, 1, 2).draw(m, m));
      want[m] = host.sample(rows.get(m).clone(), draws.get(m));
    }
    assertThat(decided(rows, draws)).containsExactly(want);
  }

  /// The likeliest token and another whose scores agree to the last bits, wherever they are.
  @ParameterizedTest
  @ValueSource(ints = {1, 2, 5, 130, 1030, 4095, 4096, 5000})
  void equalScoresAreLeftToTheHost(int other) {
    int vocab = other + 2;
    float[] row = new float[vocab];
    Arrays.fill(row, -40);
    row[0] = 1;
    row[other] = 0;
    Sampler host = new Sampler();
    List<float[]> rows = new ArrayList<>();
    List<TokenDraw> draws = new ArrayList<>();
    List<Integer> want = new ArrayList<>();
    for (int m = 0; m < 30; m++) {
      long key = TokenDraw.key(0, 0, m);
      double gap = noise(key, other) - noise(key, 0);
      if (gap > 0.1) {
        double error = m % 3 * 1e-6 - 1e-6;
        TokenDraw draw = new Sampling(1 / gap + error, m % 2 * 2, 1, 0, 1, 0).draw(0, m);
        rows.add(row);
        draws.add(draw);
        want.add(error == 0 ? UNDECIDED : host.sample(row.clone(), draw));
      }
    }
    assertThat(decided(rows, draws)).containsExactly(want.stream().mapToInt(i -> i).toArray());
  }

  private static double noise(long key, int id) {
    return -Math.log(-Math.log1p(-SplitMix64.toOpenDouble(SplitMix64.at(key, id))));
  }

  @Test
  void penaltiesChangeTheLogitsOfAllSeenTokens() {
    Random random = new Random(4);
    int vocab = 700;
    Sampler host = new Sampler();
    List<float[]> rows = new ArrayList<>();
    List<TokenDraw> draws = new ArrayList<>();
    List<float[]> penalised = new ArrayList<>();
    int[] want = new int[5];
    for (int m = 0; m < want.length; m++) {
      float[] row = logits(random, vocab, 1, false);
      int[] seen =
          random.ints(0, vocab).distinct().limit(new int[] {300, 0, 513, 1, 256}[m]).toArray();
      Sampling sampling = new Sampling(m % 2, 0, 1, 0, m == 1 ? 1 : 1.1 + m, 9);
      rows.add(row);
      draws.add(sampling.draw(m, m, seen));
      penalised.add(row.clone());
      want[m] = host.sample(penalised.get(m), draws.get(m));
    }
    try (Kernels kernels = TestGpu.open(1);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Tensor logits = tensor(arena, rows);
      assertThat(kernels.drawTokens(logits, draws)).containsExactly(want);
      for (int m = 0; m < want.length; m++) {
        assertThat(logits.slice(m, m + 1).toHost().toFloats()).containsExactly(penalised.get(m));
      }
    }
  }

  @Test
  void anyLogitThatIsNoNumberIsAnError() {
    try (Kernels kernels = TestGpu.open(1);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      for (int at : new int[] {4700, 0, 2, 4099, 4999, -1}) {
        float[] row = new float[5000];
        row[Math.max(at, 0)] = at < 0 ? Float.POSITIVE_INFINITY : Float.NaN;
        row[1024] = 1; // of the thread that has seen number 0
        row[1030] = 2;
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
