package io.github.retmask.backend;

import static io.github.retmask.backend.AttentionCase.rounded;
import static io.github.retmask.backend.Workbench.normal;

import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

abstract class AttentionBackwardContract extends OpContract {

  AttentionBackwardContract(KernelsContract contract) {
    super(contract);
  }

  static List<AttentionCase> cases() {
    return List.of(
        AttentionCase.packed(1, 1, 1, 1),
        AttentionCase.packed(6, 2, 12, 13),
        AttentionCase.packed(6, 2, 12, 3, 1, 17, 13),
        AttentionCase.packed(6, 6, 17, 16, 15),
        AttentionCase.packed(6, 1, 1, 9),
        AttentionCase.packed(4, 2, 64, 33),
        AttentionCase.packed(3, 1, 13, 207),
        AttentionCase.packed(6, 2, 12, 13, 5).window(1),
        AttentionCase.packed(6, 2, 12, 13, 40).window(7),
        AttentionCase.packed(2, 2, 17, 150).window(64),
        AttentionCase.packed(9, 3, 12, 13, 1, 30).mixed(false),
        AttentionCase.packed(9, 3, 12, 13, 1, 30).mixed(true),
        AttentionCase.packed(16, 4, 17, 1, 2, 3, 4, 5, 6, 7, 8, 9).mixed(false).window(5),
        AttentionCase.packed(8, 1, 5, 100, 1).mixed(false).window(33),
        AttentionCase.packed(2, 1, 130, 50),
        AttentionCase.packed(2, 1, 100, 100),
        AttentionCase.packed(8, 2, 8, 389, 97).mixed(false),
        AttentionCase.packed(4, 2, 8, 389).window(130),
        AttentionCase.packed(6, 2, 12, 3, 1, 17).cached(ints(5, 0, 40), ints(2, 10, 13), 75),
        AttentionCase.packed(9, 3, 12, 13, 30, 2)
            .mixed(false)
            .cached(ints(100, 0, 95), ints(0, 113, 145), 242)
            .window(33),
        AttentionCase.packed(8, 2, 8, 200).mixed(true).cached(ints(250), ints(7), 460),
        AttentionCase.packed(2, 1, 130, 20).cached(ints(120), ints(3), 150),
        AttentionCase.packed(4, 2, 8, 1).cached(ints(400), ints(0), 401).window(30));
  }

  private static int[] ints(int... numbers) {
    return numbers;
  }

  private static float[] dz(AttentionCase c) {
    return normal(14, c.tokens() * c.dims().heads() * c.dims().headDim());
  }

  static float[][] backward(Workbench on, AttentionCase c) {
    DenseAttention dense = c.dense();
    return c.backward(on, dz(c), rounded(dense.z), rounded(dense.lse));
  }

  private static void check(AttentionCase c, float[][] got, float[] dz) {
    DenseAttention.Backward want = c.dense().new Backward(dz);
    int headDim = c.dims().headDim();
    c.leaveKeysOfNobody(want.dk); // garbage, as it was
    c.leaveKeysOfNobody(want.dv);
    TensorAssert.assertThat("attention_backward dq", got[0], c.tokens(), c.dims().heads(), headDim)
        .isClose(want.dq, want.dqTolerance, DenseAttention.SOURCE);
    TensorAssert.assertThat("attention_backward dk", got[1], c.cache(), c.dims().kvHeads(), headDim)
        .isClose(want.dk, want.dkTolerance, DenseAttention.SOURCE);
    TensorAssert.assertThat("attention_backward dv", got[2], c.cache(), c.dims().kvHeads(), headDim)
        .isClose(want.dv, want.dvTolerance, DenseAttention.SOURCE);
  }

  @ParameterizedTest
  @MethodSource("cases")
  void agreesWithTheDenseMatrix(AttentionCase c) {
    check(c, backward(bench, c), dz(c));
  }

  @ParameterizedTest
  @MethodSource("cases")
  void takesWhatForwardLeft(AttentionCase c) {
    float[][] forward = c.forward(bench);
    check(c, c.backward(bench, dz(c), forward[0], forward[1]), dz(c));
  }

  @Test
  void nothingComesFromHeadsThatDidNotAttendWhateverTheirDzHolds() {
    AttentionCase c = AttentionCase.packed(9, 3, 12, 13, 1, 30).mixed(false);
    float[] dz = dz(c);
    DenseAttention dense = c.dense();
    float[] z = rounded(dense.z);
    float[][] want = c.backward(bench, dz, z, rounded(dense.lse));
    for (int n = 0; n < c.tokens(); n++) {
      for (int h = 0; h < 9; h++) {
        HeadPlan.Mode mode = c.plan().mode(c.layout().rowOf(n), h);
        if (mode == HeadPlan.Mode.SKIP || mode == HeadPlan.Mode.MEAN) {
          Arrays.fill(dz, (n * 9 + h) * 12, (n * 9 + h + 1) * 12, Float.NaN);
          Arrays.fill(z, (n * 9 + h) * 12, (n * 9 + h + 1) * 12, Float.NaN);
          TensorAssert.assertThat(
                  "dq of a head that did not attend",
                  Arrays.copyOfRange(want[0], (n * 9 + h) * 12, (n * 9 + h + 1) * 12))
              .hasBits(new float[12]);
        }
      }
    }
    assertSameBits("attention_backward", c.backward(bench, dz, z, rounded(dense.lse)), want);
  }

  @Test
  void uniformHeadsGiveNothingToQueriesAndKeys() {
    AttentionCase c = AttentionCase.packed(2, 1, 12, 20);
    HeadMask uniform =
        HeadMask.none(1, 2).withKind(List.of(new HeadId(0, 0), new HeadId(0, 1)), HeadKind.UNIFORM);
    float[][] got = backward(bench, c.plan("uniform", HeadPlan.of(List.of(uniform), 0, 12, false)));
    TensorAssert.assertThat("dq", got[0]).hasBits(new float[got[0].length]);
    TensorAssert.assertThat("dk", got[1]).hasBits(new float[got[1].length]);
  }

  @Test
  void nanInOneRowStaysThere() {
    AttentionCase c = AttentionCase.packed(6, 2, 12, 5, 7, 9);
    DenseAttention dense = c.dense();
    float[][] in = {dz(c), c.q(), c.k(), c.v(), rounded(dense.z), rounded(dense.lse)};
    float[][] want = c.backward(bench, in);
    for (float[] array : in) {
      int width = array.length / 21;
      Arrays.fill(array, 5 * width, 12 * width, Float.NaN);
    }
    float[][] got = c.backward(bench, in);
    assertSameBits("gradients of row 0", c.tokensOf(got, 0, 5), c.tokensOf(want, 0, 5));
    assertSameBits("gradients of row 2", c.tokensOf(got, 12, 21), c.tokensOf(want, 12, 21));
    TensorAssert.assertThat("dq of row 1", c.tokensOf(got, 5, 12)[0]).hasBits(nan(7 * 72));
    TensorAssert.assertThat("dk of row 1", c.tokensOf(got, 5, 12)[1]).hasBits(nan(7 * 24));
    TensorAssert.assertThat("dv of row 1", c.tokensOf(got, 5, 12)[2]).hasBits(nan(7 * 24));
  }

  /// dq of a query and dk, dv of a key depend on the pairs that see each other, on nothing else.
  @ParameterizedTest
  @ValueSource(ints = {0, 47, 95, 96, 130, 199})
  void nanReachesOnlyWhatSeesIt(int poisoned) {
    int window = 50;
    AttentionCase c = AttentionCase.packed(2, 1, 12, 200).window(window);
    DenseAttention dense = c.dense();
    float[][] in = {dz(c), c.q(), c.k(), c.v(), rounded(dense.z), rounded(dense.lse)};
    float[][] want = c.backward(bench, in);

    float[][] nanKey = in.clone();
    for (int array : new int[] {2, 3}) {
      nanKey[array] = in[array].clone();
      Arrays.fill(nanKey[array], poisoned * 12, poisoned * 12 + 12, Float.NaN);
    }
    float[][] got = c.backward(bench, nanKey);
    int last = Math.min(200, poisoned + window);
    assertSameBits(
        "dq before the key", part(c, got, 0, 0, poisoned), part(c, want, 0, 0, poisoned));
    assertSameBits("dq past its window", part(c, got, 0, last, 200), part(c, want, 0, last, 200));

    float[][] nanQuery = in.clone();
    for (int array : new int[] {0, 1, 4, 5}) {
      int width = in[array].length / 200;
      nanQuery[array] = in[array].clone();
      Arrays.fill(nanQuery[array], poisoned * width, (poisoned + 1) * width, Float.NaN);
    }
    got = c.backward(bench, nanQuery);
    int first = Math.max(0, poisoned - window + 1);
    int next = poisoned + 1;
    for (int i : new int[] {1, 2}) {
      assertSameBits(
          "keys before its window", part(c, got, i, 0, first), part(c, want, i, 0, first));
      assertSameBits(
          "keys after the query", part(c, got, i, next, 200), part(c, want, i, next, 200));
    }
  }

  /// One of the gradients of some tokens.
  private static float[][] part(AttentionCase c, float[][] gradients, int which, int from, int to) {
    return new float[][] {c.tokensOf(gradients, from, to)[which]};
  }

  private static float[] nan(int length) {
    float[] nan = new float[length];
    Arrays.fill(nan, Float.NaN);
    return nan;
  }

  @Test
  void aKeyOutsideTheWindowGivesNoGradient() {
    AttentionCase c = AttentionCase.packed(2, 1, 12, 30).window(4);
    DenseAttention dense = c.dense();
    float[] dz = new float[30 * 24];
    Arrays.fill(dz, 20 * 24, 21 * 24, 1f); // only query 20, which sees keys 17 to 20
    float[][] got = c.backward(bench, dz, rounded(dense.z), rounded(dense.lse));
    for (int j = 0; j < 30; j++) {
      boolean seen = j >= 17 && j <= 20;
      for (int d = 0; d < 12; d++) {
        if ((got[2][j * 12 + d] != 0) != seen) {
          throw new AssertionError("dv of key %d is %s".formatted(j, got[2][j * 12 + d]));
        }
      }
    }
  }

  // --- the same bits --------------------------------------------------------------------------

  @Test
  void isReproducible() {
    AttentionCase packed = AttentionCase.packed(8, 2, 17, 21, 1, 40).mixed(false);
    for (AttentionCase c : List.of(packed, packed.cached(ints(0, 9, 390), ints(0, 21, 31), 461))) {
      DenseAttention dense = c.dense();
      float[] z = rounded(dense.z);
      float[] lse = rounded(dense.lse);
      assertReproducible("attention_backward", on -> c.backward(on, dz(c), z, lse));
    }
  }

  /// The queries behind a prefix, and what the prefix itself gives, add up to the whole.
  @Test
  void aContinuationHasTheGradientsOfItsQueries() {
    AttentionCase whole = AttentionCase.packed(6, 2, 12, 250).window(120);
    DenseAttention dense = whole.dense();
    int past = 110;
    float[] dz = dz(whole);
    Arrays.fill(dz, 0, past * 72, 0f); // nothing from the prefix
    float[][] in = {dz, whole.q(), whole.k(), whole.v(), rounded(dense.z), rounded(dense.lse)};
    float[][] want = whole.backward(bench, in);
    AttentionCase behind =
        AttentionCase.packed(6, 2, 12, 250 - past)
            .cached(ints(past), ints(0), 250)
            .window(120)
            .plan("behind", HeadPlan.neutral(1, 6));
    float[][] own = in.clone();
    for (int i : new int[] {0, 1, 4, 5}) {
      own[i] = Arrays.copyOfRange(in[i], past * (in[i].length / 250), in[i].length);
    }
    float[][] got = behind.backward(bench, own);
    DenseAttention.Backward exact = dense.new Backward(dz);
    TensorAssert.assertThat("dq", got[0])
        .isClose(
            Arrays.copyOfRange(exact.dq, past * 72, 250 * 72),
            Arrays.copyOfRange(exact.dqTolerance, past * 72, 250 * 72),
            DenseAttention.SOURCE);
    TensorAssert.assertThat("dk", got[1])
        .isClose(exact.dk, exact.dkTolerance, DenseAttention.SOURCE);
    TensorAssert.assertThat("dv", got[2])
        .isClose(exact.dv, exact.dvTolerance, DenseAttention.SOURCE);
    TensorAssert.assertThat("dk of the whole", want[1])
        .isClose(exact.dk, exact.dkTolerance, DenseAttention.SOURCE);
  }

  @Test
  void aPlanOfOnesIsTheNeutralPlan() {
    AttentionCase c = AttentionCase.packed(6, 2, 12, 13, 30);
    HeadPlan ones = HeadPlan.of(Collections.nCopies(2, HeadMask.none(1, 6)), 0, 12, false);
    assertSameBits("attention_backward", backward(bench, c.plan("1", ones)), backward(bench, c));
  }

  @Test
  void aRowIsTheSameAloneAndAmongMaskedNeighbours() {
    int[] lengths = {13, 1, 30, 2, 64};
    AttentionCase batch = AttentionCase.packed(8, 2, 17, lengths).mixed(false).window(50);
    DenseAttention dense = batch.dense();
    float[][] in = {
      dz(batch), batch.q(), batch.k(), batch.v(), rounded(dense.z), rounded(dense.lse)
    };
    float[][] all = batch.backward(bench, in);
    for (int r = 0; r < lengths.length; r++) {
      int from = batch.layout().tokenStart(r);
      int to = batch.layout().tokenStart(r + 1);
      HeadMask mask = AttentionCase.mixedMask(batch.dims(), r);
      AttentionCase alone =
          AttentionCase.packed(8, 2, 17, lengths[r])
              .window(50)
              .plan("alone", HeadPlan.of(List.of(mask), 0, 17, false));
      assertSameBits(
          "attention_backward of row " + r,
          alone.backward(bench, batch.tokensOf(in, from, to)),
          batch.tokensOf(all, from, to));
    }
  }
}
