package io.github.retmask.backend;

import static io.github.retmask.backend.Workbench.normal;

import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

abstract class AttentionContract extends OpContract {

  AttentionContract(KernelsContract contract) {
    super(contract);
  }

  static List<AttentionCase> cases() {
    int[] past = {5, 0, 130};
    int[] keyStart = {150, 3, 10}; // out of order, with gaps
    return List.of(
        AttentionCase.packed(1, 1, 1, 1),
        AttentionCase.packed(6, 2, 12, 13),
        AttentionCase.packed(6, 2, 12, 3, 1, 17, 13),
        AttentionCase.packed(6, 6, 17, 16, 15),
        AttentionCase.packed(6, 1, 1, 9),
        AttentionCase.packed(4, 2, 64, 33),
        AttentionCase.packed(3, 1, 13, 207),
        AttentionCase.packed(2, 1, 128, 70),
        AttentionCase.packed(2, 1, 100, 100),
        AttentionCase.packed(6, 2, 12, 13, 5).window(1),
        AttentionCase.packed(6, 2, 12, 13, 40).window(7),
        AttentionCase.packed(2, 2, 17, 207).window(64),
        AttentionCase.packed(6, 2, 12, 13).window(1000),
        AttentionCase.packed(9, 3, 12, 13, 1, 30).mixed(false),
        AttentionCase.packed(9, 3, 12, 13, 1, 30).mixed(true),
        AttentionCase.packed(16, 4, 17, 1, 2, 3, 4, 5, 6, 7, 8, 9).mixed(false).window(5),
        AttentionCase.packed(8, 1, 5, 100, 1).mixed(false).window(33),
        AttentionCase.packed(6, 2, 12, 4, 3, 1).cached(past, keyStart, 170),
        AttentionCase.packed(8, 2, 17, 4, 3, 1).mixed(false).cached(past, keyStart, 170),
        AttentionCase.packed(8, 2, 17, 1, 1, 1).mixed(true).cached(past, keyStart, 170),
        AttentionCase.packed(8, 4, 12, 18, 7, 30)
            .mixed(false)
            .cached(past, keyStart, 180)
            .window(9),
        AttentionCase.packed(2, 1, 64, 1).cached(new int[] {206}, new int[] {1}, 210),
        AttentionCase.packed(6, 2, 61, 2, 1)
            .mixed(false)
            .cached(new int[] {300, 90}, new int[] {100, 5}, 410),
        AttentionCase.packed(4, 1, 40, 1).cached(new int[] {400}, new int[] {0}, 401),
        AttentionCase.packed(16, 1, 20, 2, 1)
            .mixed(false)
            .cached(new int[] {700, 90}, new int[] {100, 5}, 810),
        AttentionCase.packed(2, 1, 200, 61).cached(new int[] {50}, new int[] {0}, 111),
        AttentionCase.packed(5, 1, 8, 61).mixed(false),
        // neighbours that see the same keys
        AttentionCase.packed(7, 1, 8, 61),
        AttentionCase.packed(16, 1, 8, 100),
        AttentionCase.packed(16, 2, 12, 100, 49).inPairs(),
        AttentionCase.packed(16, 2, 12, 60).inPairs().cached(new int[] {130}, new int[] {3}, 200),
        // long contexts, with few new tokens and with many
        AttentionCase.packed(8, 2, 8, 1).mixed(false).cached(new int[] {4100}, new int[] {3}, 4104),
        AttentionCase.packed(4, 2, 8, 7).window(1000).cached(new int[] {4100}, new int[] {3}, 4110),
        localKvHead(1).cached(new int[] {700}, new int[] {3}, 710),
        localKvHead(2).cached(new int[] {700}, new int[] {3}, 710),
        AttentionCase.packed(2, 1, 8, 60).cached(new int[] {3800}, new int[] {3}, 3863),
        AttentionCase.packed(8, 2, 8, 60)
            .mixed(false)
            .window(1500)
            .cached(new int[] {3800}, new int[] {3}, 3863));
  }

  /// The heads of the second kv head see little of what the others see.
  private static AttentionCase localKvHead(int tokens) {
    HeadMask mask =
        HeadMask.none(1, 6)
            .withKind(List.of(new HeadId(0, 2)), new HeadKind.Local(0, 1))
            .withKind(List.of(new HeadId(0, 3)), new HeadKind.Local(0, 30))
            .withKind(List.of(new HeadId(0, 4)), new HeadKind.Local(2, 3))
            .withGate(List.of(new HeadId(0, 5)), 0);
    return AttentionCase.packed(6, 3, 8, tokens)
        .plan("local kv head", HeadPlan.of(List.of(mask), 0, 8, false));
  }

  @ParameterizedTest
  @MethodSource("cases")
  void agreesWithTheDenseMatrix(AttentionCase c) {
    DenseAttention want = c.dense();
    float[][] got = c.forward(bench);
    int heads = c.dims().heads();
    TensorAssert.assertThat("attention z", got[0], c.tokens(), heads, c.dims().headDim())
        .isClose(want.z, want.zTolerance, DenseAttention.SOURCE);
    TensorAssert.assertThat("attention lse", got[1], c.tokens(), heads)
        .isClose(want.lse, want.lseTolerance, DenseAttention.SOURCE);
  }

  @Test
  void skippedHeadsAreZeroAndMeanHeadsTheirConstant() {
    AttentionCase c = AttentionCase.packed(8, 2, 17, 5, 3).mixed(false);
    float[] z = c.forward(bench)[0];
    for (int n = 0; n < 8; n++) {
      for (int h = 0; h < 8; h++) {
        int row = c.layout().rowOf(n);
        float[] got = Arrays.copyOfRange(z, (n * 8 + h) * 17, (n * 8 + h + 1) * 17);
        switch (c.plan().mode(row, h)) {
          case SKIP -> TensorAssert.assertThat("z of a skipped head", got).hasBits(new float[17]);
          case MEAN ->
              TensorAssert.assertThat("z of a mean head", got).hasBits(c.plan().mean(row, h));
          case ATTEND, UNIFORM -> {}
        }
      }
    }
  }

  @Test
  void gatesAreNotApplied() {
    AttentionCase c = AttentionCase.packed(6, 2, 12, 13);
    HeadMask mask = HeadMask.none(1, 6).withGate(List.of(new HeadId(0, 1)), 0.3f);
    HeadMask kept = mask.withGate(List.of(new HeadId(0, 4)), 0f);
    HeadPlan plan = HeadPlan.of(List.of(kept), 0, 12, true);
    assertSameBits("attention", c.plan("gated", plan).forward(bench), c.forward(bench));
  }

  // --- the same bits --------------------------------------------------------------------------

  @Test
  void isReproducible() {
    AttentionCase c = AttentionCase.packed(8, 2, 17, 21, 1, 40).mixed(false);
    assertReproducible("attention", c::forward);
    AttentionCase long1 =
        AttentionCase.packed(6, 2, 12, 1).cached(new int[] {333}, new int[] {0}, 334);
    assertReproducible("attention of one token", long1::forward);
  }

  @Test
  void aPlanOfOnesIsTheNeutralPlan() {
    AttentionCase c = AttentionCase.packed(6, 2, 12, 13, 30);
    HeadPlan ones = HeadPlan.of(Collections.nCopies(2, HeadMask.none(1, 6)), 0, 12, false);
    assertSameBits("attention", c.plan("ones", ones).forward(bench), c.forward(bench));
  }

  @ParameterizedTest
  @ValueSource(ints = {12, 40})
  void maskedHeadsDoNotChangeTheOthers(int headDim) {
    AttentionCase intact = AttentionCase.packed(9, 3, headDim, 13, 1, 30);
    AttentionCase mixed = intact.mixed(false);
    float[][] want = intact.forward(bench);
    float[][] got = mixed.forward(bench);
    for (int n = 0; n < intact.tokens(); n++) {
      for (int h = 0; h < 9; h++) {
        int row = mixed.layout().rowOf(n);
        if (mixed.plan().mode(row, h) == HeadPlan.Mode.ATTEND
            && mixed.plan().window(row, h) == Integer.MAX_VALUE) {
          int at = n * 9 + h;
          TensorAssert.assertThat(
                  "z of intact head " + h,
                  Arrays.copyOfRange(got[0], at * headDim, (at + 1) * headDim))
              .hasBits(Arrays.copyOfRange(want[0], at * headDim, (at + 1) * headDim));
          TensorAssert.assertThat("lse of intact head " + h, new float[] {got[1][at]})
              .hasBits(want[1][at]);
        }
      }
    }
  }

  @Test
  void aRowIsTheSameAloneAndAmongMaskedNeighbours() {
    int[] lengths = {13, 1, 30, 2, 64};
    AttentionCase batch = AttentionCase.packed(8, 2, 17, lengths).mixed(false).window(50);
    float[][] in = {batch.q(), batch.k(), batch.v()};
    float[][] all = batch.everything(bench, in[0], in[1], in[2]);
    for (int r = 0; r < lengths.length; r++) {
      int from = batch.layout().tokenStart(r);
      int to = batch.layout().tokenStart(r + 1);
      HeadMask mask = AttentionCase.mixedMask(batch.dims(), r);
      AttentionCase alone =
          AttentionCase.packed(8, 2, 17, lengths[r])
              .window(50)
              .plan("alone", HeadPlan.of(List.of(mask), 0, 17, false));
      float[][] own = batch.tokensOf(in, from, to);
      assertSameBits(
          "attention of row " + r,
          alone.everything(bench, own[0], own[1], own[2]),
          batch.tokensOf(all, from, to));
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {12, 40, 61})
  void aSequenceCutIntoChunksGivesTheSameBits(int headDim) {
    int[] chunks = {1, 16, 3, 100, 17, 1, 69};
    cutIntoChunks(chunks, headDim, AttentionSpec.NO_WINDOW);
    cutIntoChunks(chunks, headDim, 37);
  }

  /// Cuts before, at and after multiples of powers of two and of 96, where kernels have edges.
  @Test
  void aLongSequenceCutIntoChunksGivesTheSameBits() {
    int[] chunks = {95, 1, 1, 31, 63, 2, 766, 1, 2, 62, 8, 7, 49, 1, 48, 880, 1};
    cutIntoChunks(chunks, 12, AttentionSpec.NO_WINDOW);
    cutIntoChunks(chunks, 12, 1000);
  }

  private void cutIntoChunks(int[] chunks, int headDim, int window) {
    int length = Arrays.stream(chunks).sum();
    AttentionCase whole = AttentionCase.packed(8, 2, headDim, length).mixed(false).window(window);
    float[][] in = {whole.q(), whole.k(), whole.v()};
    float[][] want = whole.everything(bench, in[0], in[1], in[2]);
    int keyStart = 5;
    int cache = length + 9;
    int done = 0;
    for (int chunk : chunks) {
      // Keys of later chunks are not there yet, and the slots around the row belong to nobody.
      AttentionCase part =
          AttentionCase.packed(8, 2, headDim, chunk)
              .plan("mixed", whole.plan())
              .window(window)
              .cached(new int[] {done}, new int[] {keyStart}, cache);
      float[] k = new float[cache * 2 * headDim];
      float[] v = new float[cache * 2 * headDim];
      Arrays.fill(k, Float.NaN);
      Arrays.fill(v, Float.NaN);
      System.arraycopy(in[1], 0, k, keyStart * 2 * headDim, (done + chunk) * 2 * headDim);
      System.arraycopy(in[2], 0, v, keyStart * 2 * headDim, (done + chunk) * 2 * headDim);
      float[] q = Arrays.copyOfRange(in[0], done * 8 * headDim, (done + chunk) * 8 * headDim);
      assertSameBits(
          "attention of chunk at " + done,
          part.everything(bench, q, k, v),
          whole.tokensOf(want, done, done + chunk));
      done += chunk;
    }
  }

  // --- extremes -------------------------------------------------------------------------------

  @ParameterizedTest
  @CsvSource({"40, 9, 0", "40, 9, 15", "40, 9, 16", "40, 9, 20", "40, 9, 39", "420, 60, 300"})
  void whatAQueryCannotSeeNeverLeaks(int length, int window, int poisoned) {
    AttentionCase c = AttentionCase.packed(6, 2, 12, length).window(window);
    float[] k = c.k();
    float[] v = c.v();
    float[][] want = c.forward(bench);
    Arrays.fill(k, poisoned * 24, poisoned * 24 + 24, Float.NaN);
    Arrays.fill(v, poisoned * 24, poisoned * 24 + 24, Float.POSITIVE_INFINITY);
    int last = Math.min(poisoned + window, length); // queries from `poisoned` to here see it
    Arrays.fill(want[0], poisoned * 72, last * 72, Float.NaN);
    Arrays.fill(want[1], poisoned * 6, last * 6, Float.NaN);
    assertSameBits("attention beside a NaN key", c.forward(bench, c.q(), k, v, null), want);
  }

  @Test
  void aLocalHeadDoesNotSeeBetweenSinkAndWindow() {
    AttentionCase full = AttentionCase.packed(1, 1, 12, 60);
    HeadMask mask =
        HeadMask.none(1, 1).withKind(List.of(new HeadId(0, 0)), new HeadKind.Local(3, 5));
    AttentionCase c = full.plan("local", HeadPlan.of(List.of(mask), 0, 12, false));
    float[] k = c.k();
    float[] v = c.v();
    float[][] clean = c.forward(bench);
    Arrays.fill(k, 3 * 12, 55 * 12, Float.NaN);
    Arrays.fill(v, 3 * 12, 55 * 12, Float.NaN);
    float[] z = c.forward(bench, c.q(), k, v, null)[0];
    TensorAssert.assertThat("z of the last query", Arrays.copyOfRange(z, 59 * 12, 60 * 12))
        .hasBits(Arrays.copyOfRange(clean[0], 59 * 12, 60 * 12));
    TensorAssert.assertThat("z of the first queries", Arrays.copyOfRange(z, 0, 3 * 12))
        .hasBits(Arrays.copyOfRange(clean[0], 0, 3 * 12));
  }

  @Test
  void nanInAQueryStaysInItsHead() {
    AttentionCase c = AttentionCase.packed(6, 2, 12, 20);
    float[][] want = c.forward(bench);
    float[] q = c.q();
    q[(7 * 6 + 4) * 12 + 3] = Float.NaN;
    Arrays.fill(want[0], (7 * 6 + 4) * 12, (7 * 6 + 5) * 12, Float.NaN);
    want[1][7 * 6 + 4] = Float.NaN;
    assertSameBits("attention with a NaN query", c.forward(bench, q, c.k(), c.v(), null), want);
  }

  @Test
  void hugeScoresPickOneKeyWithoutOverflow() {
    AttentionCase c = AttentionCase.packed(1, 1, 1, 40);
    for (float size : new float[] {1e4f, 1e15f}) {
      float[] q = new float[40];
      float[] k = normal(31, 40);
      Arrays.fill(q, size);
      for (int j = 0; j < 40; j++) {
        k[j] *= size;
      }
      float[] v = normal(32, 40);
      float[][] got = c.forward(bench, q, k, v, null);
      int best = 0;
      for (int i = 0; i < 40; i++) {
        best = k[i] > k[best] ? i : best;
        if (got[0][i] != v[best]) {
          throw new AssertionError(
              "z[%d] with scores of size %s: want v[%d] = %s, got %s"
                  .formatted(i, size * size, best, v[best], got[0][i]));
        }
        float score = q[i] * k[best];
        if (!(Math.abs(got[1][i] - score) <= 2 * Math.ulp(score))) {
          throw new AssertionError("lse[%d]: want %s, got %s".formatted(i, score, got[1][i]));
        }
      }
    }
  }

  @Test
  void veryNegativeScoresAreStillASoftmax() {
    AttentionCase c = AttentionCase.packed(1, 1, 2, 33);
    float[] q = new float[66];
    float[] k = new float[66];
    Arrays.fill(q, 1e10f);
    Arrays.fill(k, -1e10f); // every score the same, -1.4e20
    float[] v = normal(33, 66);
    float[] z = c.forward(bench, q, k, v, null)[0];
    double[] want = new double[66];
    double[] tolerance = new double[66];
    double[] sum = new double[2];
    for (int i = 0; i < 66; i++) {
      sum[i % 2] += v[i];
      want[i] = sum[i % 2] / (i / 2 + 1);
      tolerance[i] = 2 * (i / 2 + 4) * TensorAssert.EPS * 3; // |v| < 3
    }
    TensorAssert.assertThat("attention z", z, 33, 1, 2)
        .isClose(want, tolerance, "rounding of a mean");
  }
}
