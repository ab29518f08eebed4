package io.github.retmask.random;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class SplitMix64Test {
  /// First outputs of the reference C code.
  @Test
  void publishedOutputsAreReproduced() {
    SplitMix64 zero = new SplitMix64(0);
    assertThat(new long[] {zero.next(), zero.next(), zero.next()})
        .containsExactly(0xE220A8397B1DCDAFL, 0x6E789E6AA1B965F4L, 0x06C45D188009454FL);
    SplitMix64 other = new SplitMix64(1234567);
    for (String want :
        new String[] {
          "6457827717110365317",
          "3203168211198807973",
          "9817491932198370423",
          "4593380528125082431",
          "16408922859458223821"
        }) {
      assertThat(Long.toUnsignedString(other.next())).isEqualTo(want);
    }
  }

  @Test
  void agreesWithTheGeneratorOfTheJdkThatUsesTheSameAlgorithm() {
    for (long seed : new long[] {0, 1, -1, 42, Long.MIN_VALUE, 0x123456789abcdefL}) {
      SplitMix64 ours = new SplitMix64(seed);
      SplittableRandom jdk = new SplittableRandom(seed);
      for (int i = 0; i < 1000; i++) {
        assertThat(ours.next()).isEqualTo(jdk.nextLong());
      }
    }
  }

  @Test
  void anyOutputCanBeAddressedDirectly() {
    SplitMix64 random = new SplitMix64(-77);
    for (int i = 0; i < 100; i++) {
      assertThat(SplitMix64.at(-77, i)).isEqualTo(random.next());
    }
    assertThat(SplitMix64.mix(5, 2, 0, 9))
        .isEqualTo(SplitMix64.at(SplitMix64.at(SplitMix64.at(5, 2), 0), 9));
  }

  @Test
  void everyPartOfAnAddressCounts() {
    Set<Long> seen = new HashSet<>();
    for (long seed = 0; seed < 7; seed++) {
      for (long a = 0; a < 7; a++) {
        for (long b = 0; b < 7; b++) {
          for (long c = 0; c < 7; c++) {
            seen.add(SplitMix64.mix(seed, a, b, c));
          }
        }
      }
    }
    assertThat(seen).hasSize(7 * 7 * 7 * 7);
  }

  /// χ² over 13 cells of noise whose addresses are as regular as those of sampling; 32.9 is the
  /// 99.9 % point with 12 degrees of freedom.
  @Test
  void addressedNoiseIsUniform() {
    int cells = 13;
    int[] counts = new int[cells];
    int n = 0;
    for (long record = 0; record < 20; record++) {
      for (long position = 0; position < 30; position++) {
        for (long token = 0; token < 97; token++, n++) {
          double u = SplitMix64.toOpenDouble(SplitMix64.mix(42, record, position, token));
          counts[(int) (u * cells)]++;
        }
      }
    }
    double expected = (double) n / cells;
    double chi2 = Arrays.stream(counts).mapToDouble(k -> (k - expected) * (k - expected)).sum();
    assertThat(chi2 / expected).isLessThan(32.9);
  }

  @Test
  void uniformRealsNeverReachTheirEnds() {
    assertThat(SplitMix64.toOpenDouble(0)).isEqualTo(0x1p-53);
    assertThat(SplitMix64.toOpenDouble(-1L)).isEqualTo(1 - 0x1p-53).isLessThan(1);
    assertThat(SplitMix64.toOpenFloat(0)).isEqualTo(0x1p-24f);
    assertThat(SplitMix64.toOpenFloat(-1L)).isEqualTo(1 - 0x1p-24f).isLessThan(1);
    assertThat(SplitMix64.toOpenDouble(1L << 63)).isEqualTo(0.5 + 0x1p-53);
    assertThat(new SplitMix64(0).nextDouble())
        .isEqualTo(SplitMix64.toOpenDouble(0xE220A8397B1DCDAFL));
  }

  /// The high word of bits x bound, worked by hand for the first output of seed 0,
  /// 0xE220A8397B1DCDAF: 0.8833… of the range.
  @Test
  void boundedIntegersTakeTheHighWordOfTheProduct() {
    assertThat(new SplitMix64(0).nextInt(10)).isEqualTo(8);
    assertThat(new SplitMix64(0).nextInt(1 << 16)).isEqualTo(0xE220);
    assertThat(new SplitMix64(0).nextInt(1)).isZero();
    assertThatIllegalArgumentException().isThrownBy(() -> new SplitMix64(0).nextInt(0));
  }

  /// χ² over the 120 permutations of five, 173.6 is the 99.9 % point with 119 degrees of
  /// freedom.
  @Test
  void everyPermutationIsEquallyLikely() {
    int[] counts = new int[5 * 5 * 5 * 5 * 5];
    SplitMix64 random = new SplitMix64(7);
    int n = 60_000;
    for (int i = 0; i < n; i++) {
      int code = 0;
      for (int item : random.sample(5, 5)) {
        code = code * 5 + item;
      }
      counts[code]++;
    }
    assertThat(Arrays.stream(counts).filter(k -> k > 0).count()).isEqualTo(120);
    double expected = n / 120.0;
    double chi2 =
        Arrays.stream(counts)
            .filter(k -> k > 0)
            .mapToDouble(k -> (k - expected) * (k - expected) / expected)
            .sum();
    assertThat(chi2).isLessThan(173.6);
  }

  @Test
  void sampleIsThePrefixOfThePermutation() {
    int[] whole = new SplitMix64(3).sample(17, 17);
    assertThat(new SplitMix64(3).sample(17, 6)).containsExactly(Arrays.copyOf(whole, 6));
    assertThat(whole).doesNotHaveDuplicates().hasSize(17);
    assertThat(new SplitMix64(3).sample(4, 0)).isEmpty();
    assertThatIllegalArgumentException().isThrownBy(() -> new SplitMix64(3).sample(3, 4));
  }

  /// FNV-1a of "" and "a" are published (0xcbf29ce484222325, 0xaf63dc4c8601ec8c); the key finishes
  /// them, and the finaliser is what `at` applies to seed + (index + 1) γ.
  @Test
  void keyOfANameIsItsFinishedHash() {
    assertThat(SplitMix64.key("")).isEqualTo(SplitMix64.at(0xcbf29ce484222325L, -1));
    assertThat(SplitMix64.key("a")).isEqualTo(SplitMix64.at(0xaf63dc4c8601ec8cL, -1));
    assertThat(SplitMix64.key("ä")).isNotEqualTo(SplitMix64.key("a"));
  }
}
