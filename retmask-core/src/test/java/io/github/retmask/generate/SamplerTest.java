package io.github.retmask.generate;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.random.SplitMix64;
import java.util.Arrays;
import java.util.TreeSet;
import java.util.stream.IntStream;
import net.jqwik.api.ForAll;
import net.jqwik.api.Property;
import net.jqwik.api.constraints.DoubleRange;
import net.jqwik.api.constraints.IntRange;
import org.junit.jupiter.api.Test;

class SamplerTest {
  private final Sampler sampler = new Sampler();

  private static float[] randomLogits(long seed, int vocab, double spread) {
    SplitMix64 random = new SplitMix64(seed);
    float[] logits = new float[vocab];
    for (int i = 0; i < vocab; i++) {
      logits[i] = (float) ((random.nextDouble() - 0.5) * spread);
    }
    return logits;
  }

  private static double[] softmax(float[] logits, double temperature) {
    double max = Double.NEGATIVE_INFINITY;
    for (float logit : logits) {
      max = Math.max(max, logit);
    }
    double[] p = new double[logits.length];
    for (int i = 0; i < p.length; i++) {
      p[i] = Math.exp((logits[i] - max) / temperature);
    }
    double sum = Arrays.stream(p).sum();
    return Arrays.stream(p).map(x -> x / sum).toArray();
  }

  private int[] counts(float[] logits, Sampling sampling, int draws) {
    int[] counts = new int[logits.length];
    for (int i = 0; i < draws; i++) {
      counts[sampler.sample(logits, sampling, i / 7, i % 7)]++;
    }
    return counts;
  }

  /// Pearson's statistic of counts against probabilities.
  private static double chiSquare(int[] counts, double[] p, int draws) {
    double sum = 0;
    for (int i = 0; i < p.length; i++) {
      double expected = p[i] * draws;
      sum += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    return sum;
  }

  @Test
  void temperatureZeroTakesTheHighestLogitAndTheLowestIdAmongEquals() {
    assertThat(sampler.sample(new float[] {1, 3, -2, 3}, Sampling.GREEDY, 5, 0)).isEqualTo(1);
    assertThat(sampler.sample(new float[] {Float.NEGATIVE_INFINITY, -9}, Sampling.GREEDY, 5, 0))
        .isEqualTo(1);
    assertThat(sampler.sample(new float[] {-0f, 0f}, Sampling.GREEDY, 5, 0)).isEqualTo(0);
  }

  @Test
  void frequenciesFollowTheSoftmaxOfTheTemperedLogits() {
    float[] logits = randomLogits(3, 11, 5);
    int draws = 40_000;
    for (double temperature : new double[] {0.4, 1, 1.7}) {
      int[] counts = counts(logits, Sampling.of(temperature, 42), draws);
      // 10 degrees of freedom: 29.6 is exceeded by chance once in a thousand
      assertThat(chiSquare(counts, softmax(logits, temperature), draws))
          .as("temperature %s", temperature)
          .isLessThan(29.6);
    }
  }

  @Test
  void frequenciesOfAnotherTemperatureAreToldApart() {
    float[] logits = randomLogits(3, 11, 5);
    int[] counts = counts(logits, Sampling.of(1.1, 42), 40_000);
    assertThat(chiSquare(counts, softmax(logits, 1), 40_000)).isGreaterThan(29.6);
  }

  @Test
  void frequenciesAreTheSoftmaxOverTheTokensThatFiltersKeep() {
    float[] logits = {0.3f, 2.1f, -1, 1.6f, 0.9f};
    Sampling sampling = new Sampling(0.8, 4, 0.9, 0.05, 1, 7);
    double[] p = softmax(new float[] {2.1f, 1.6f, 0.9f}, 0.8); // 0.3 falls to top-p
    int draws = 20_000;
    int[] counts = counts(logits, sampling, draws);
    assertThat(counts[0] + counts[2]).isZero();
    int[] kept = {counts[1], counts[3], counts[4]};
    assertThat(chiSquare(kept, p, draws)).isLessThan(13.9); // 2 degrees of freedom, 1 in 1000
  }

  @Property(tries = 300)
  void everyDrawIsTheArgmaxOverAllTokensOfLogitPlusNoise(
      @ForAll @IntRange(min = 1, max = 300) int vocab,
      @ForAll @DoubleRange(min = 0, max = 120) double spread,
      @ForAll @DoubleRange(min = 0.05, max = 3) double temperature,
      @ForAll long seed) {
    float[] logits = randomLogits(seed, vocab, spread);
    double max = logits[Sampler.argmax(logits)];
    for (int position = 0; position < 5; position++) {
      int best = -1;
      double bestScore = Double.NEGATIVE_INFINITY;
      for (int id = 0; id < vocab; id++) {
        double u = SplitMix64.toOpenDouble(SplitMix64.mix(seed, 99, position, id));
        double score = (logits[id] - max) / temperature - StrictMath.log(-StrictMath.log1p(-u));
        if (score > bestScore) {
          best = id;
          bestScore = score;
        }
      }
      assertThat(sampler.sample(logits, Sampling.of(temperature, seed), 99, position))
          .isEqualTo(best);
    }
  }

  @Property(tries = 300)
  void filtersKeepExactlyThePrefixOfTheRankingThatTheyPromise(
      @ForAll @IntRange(min = 1, max = 40) int vocab,
      @ForAll @IntRange(min = 0, max = 45) int topK,
      @ForAll @DoubleRange(min = 0.05, max = 1) double topP,
      @ForAll @DoubleRange(min = 0, max = 0.9) double minP,
      @ForAll long seed) {
    float[] logits = randomLogits(seed, vocab, 6);
    for (int i = 0; i < vocab; i++) {
      logits[i] = Math.round(logits[i]); // many ties
    }
    Sampling sampling = new Sampling(0.7, topK, topP, minP, 1, seed);
    TreeSet<Integer> kept = keptBy(sampling, logits);
    TreeSet<Integer> drawn = new TreeSet<>();
    for (int position = 0; position < 400; position++) {
      drawn.add(sampler.sample(logits, sampling, 1, position));
    }
    assertThat(kept).containsAll(drawn);
    int likeliest = Sampler.argmax(logits);
    assertThat(kept).contains(likeliest);
    // An unlikely kept token may not show up in 400 draws; one with a tenth of the mass does.
    double[] p = softmax(logits, 0.7);
    double mass = kept.stream().mapToDouble(id -> p[id]).sum();
    kept.removeIf(id -> p[id] / mass < 0.1);
    assertThat(drawn).containsAll(kept);
  }

  /// The three filters by sorting everything.
  private static TreeSet<Integer> keptBy(Sampling s, float[] logits) {
    double[] p = softmax(logits, s.temperature());
    int[] order =
        IntStream.range(0, logits.length)
            .boxed()
            .sorted((a, b) -> Float.compare(logits[b], logits[a]))
            .mapToInt(Integer::intValue)
            .toArray();
    int limit = s.topK() == 0 ? order.length : Math.min(s.topK(), order.length);
    double total = 0;
    for (int i = 0; i < limit; i++) {
      total += p[order[i]];
    }
    TreeSet<Integer> kept = new TreeSet<>();
    double before = 0;
    for (int i = 0; i < limit; i++) {
      if (i > 0 && (before >= s.topP() * total || p[order[i]] < s.minP() * p[order[0]])) {
        break;
      }
      kept.add(order[i]);
      before += p[order[i]];
    }
    return kept;
  }

  @Test
  void nearDistributionsMostlyDrawTheSameTokenUnderCommonNoise() {
    float[] intact = randomLogits(5, 500, 8);
    float[] masked = intact.clone();
    SplitMix64 random = new SplitMix64(6);
    for (int i = 0; i < masked.length; i++) {
      masked[i] += (float) ((random.nextDouble() - 0.5) * 0.2);
    }
    Sampling sampling = Sampling.of(1, 1);
    Sampling other = Sampling.of(1, 2);
    int draws = 3000;
    int common = 0;
    int independent = 0;
    for (int i = 0; i < draws; i++) {
      int token = sampler.sample(intact, sampling, i, 0);
      common += token == sampler.sample(masked, sampling, i, 0) ? 1 : 0;
      independent += token == sampler.sample(masked, other, i, 0) ? 1 : 0;
    }
    // Total variation distance of the two is below 0.05; Gumbel coupling fails at most
    // 2 TV / (1 + TV) of the time.
    double distance = 0;
    double[] p = softmax(intact, 1);
    double[] q = softmax(masked, 1);
    for (int i = 0; i < p.length; i++) {
      distance += Math.abs(p[i] - q[i]) / 2;
    }
    assertThat(common / (double) draws).isGreaterThan(1 - 2 * distance / (1 + distance) - 0.02);
    assertThat(independent / (double) draws).isLessThan(0.1);
  }

  @Test
  void noiseIsAddressedBySeedRecordAndPosition() {
    float[] flat = new float[1000];
    int token = sampler.sample(flat, Sampling.of(1, 1), 2, 3);
    assertThat(new Sampler().sample(flat, Sampling.of(1, 1), 2, 3)).isEqualTo(token);
    assertThat(sampler.sample(flat, Sampling.of(1, 9), 2, 3)).isNotEqualTo(token);
    assertThat(sampler.sample(flat, Sampling.of(1, 1), 9, 3)).isNotEqualTo(token);
    assertThat(sampler.sample(flat, Sampling.of(1, 1), 2, 9)).isNotEqualTo(token);
  }

  @Test
  void brokenLogitsAreRefused() {
    for (float bad : new float[] {Float.NaN, Float.POSITIVE_INFINITY}) {
      assertThatThrownBy(() -> sampler.sample(new float[] {1, bad, 2}, Sampling.GREEDY, 0, 0))
          .isInstanceOf(IllegalStateException.class)
          .hasMessageContaining("NaN");
    }
    assertThatThrownBy(() -> Sampler.argmax(new float[] {Float.NEGATIVE_INFINITY}))
        .isInstanceOf(IllegalStateException.class);
  }

  @Test
  void optionsOutsideTheirRangeAreNamed() {
    assertThatThrownBy(() -> Sampling.of(-0.1, 0)).hasMessageContaining("temperature -0.1");
    assertThatThrownBy(() -> Sampling.of(Double.NaN, 0)).hasMessageContaining("temperature NaN");
    assertThatThrownBy(() -> new Sampling(1, -1, 1, 0, 1, 0)).hasMessageContaining("top-k -1");
    assertThatThrownBy(() -> new Sampling(1, 0, 0, 0, 1, 0)).hasMessageContaining("top-p 0.0");
    assertThatThrownBy(() -> new Sampling(1, 0, 1.5, 0, 1, 0)).hasMessageContaining("top-p 1.5");
    assertThatThrownBy(() -> new Sampling(1, 0, 1, 2, 1, 0)).hasMessageContaining("min-p 2.0");
    for (double penalty : new double[] {0, -1, Double.NaN, Double.POSITIVE_INFINITY}) {
      assertThatThrownBy(() -> Sampling.GREEDY.withRepetitionPenalty(penalty))
          .hasMessageContaining("repetition-penalty " + penalty);
    }
  }
}
