package io.github.retmask.backend;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.assertj.core.api.Assertions;
import org.assertj.core.data.Offset;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

abstract class AttentionReadoutContract extends OpContract {

  AttentionReadoutContract(KernelsContract contract) {
    super(contract);
  }

  static List<AttentionCase> cases() {
    return AttentionContract.cases();
  }

  /// What a backend read.
  private record Read(int[] top, float[] weight, float[] mass, float[] lse, float[][] outputs) {
    float[][] bits() {
      return new float[][] {AttentionCase.widened(top), weight, mass, lse, outputs[0], outputs[1]};
    }
  }

  private static Read read(
      Workbench on, AttentionCase c, float[] q, float[] k, int[] queries, int[][][] spans) {
    AttentionReadout readout = on.readout(c.dims().heads(), queries, spans);
    float[][] outputs = c.forward(on, q, k, c.v(), readout);
    return new Read(
        on.ints(readout.topPosition()),
        on.floats(readout.topWeight()),
        on.floats(readout.spanMass()),
        on.floats(readout.logSumExp()),
        outputs);
  }

  /// Every second token, and the last one.
  private static int[] someQueries(int tokens) {
    return IntStream.range(0, tokens).filter(n -> n % 2 == 1 || n == tokens - 1).toArray();
  }

  /// Everything, the middle, an empty range, two that overlap, one beyond every key.
  private static int[][] spans(int query) {
    int at = query % 5;
    return new int[][] {
      {0, 1000}, {at, at + 7}, {at, at}, {0, at + 3}, {at + 1, at + 4}, {5000, 6000}
    };
  }

  @ParameterizedTest
  @MethodSource("cases")
  void agreesWithTheDenseMatrix(AttentionCase c) {
    DenseAttention dense = c.dense();
    int heads = c.dims().heads();
    int[] queries = someQueries(c.tokens());
    int[][][] spans = new int[queries.length][][];
    Arrays.setAll(spans, i -> spans(queries[i]));
    Read read = read(bench, c, c.q(), c.k(), queries, spans);
    int perQuery = spans[0].length;
    int cells = queries.length * heads;
    double[] weight = new double[cells];
    double[] weightTolerance = new double[cells];
    double[] mass = new double[cells * perQuery];
    double[] massTolerance = new double[cells * perQuery];
    double[] lse = new double[cells];
    double[] lseTolerance = new double[cells];
    for (int at = 0; at < cells; at++) {
      int cell = queries[at / heads] * heads + at % heads; // in [N,H]
      double error = dense.weightError(cell);
      lse[at] = dense.lse[cell];
      lseTolerance[at] = dense.lseTolerance[cell];
      int top = topOf(dense.scores[cell]);
      weight[at] = top < 0 ? 0 : dense.weights[cell][top];
      weightTolerance[at] = error * weight[at];
      checkTop(read.top()[at], top, dense, cell, at, heads);
      for (int s = 0; s < perQuery; s++) {
        int[] span = spans[at / heads][s];
        mass[at * perQuery + s] = dense.mass(cell, span[0], span[1]);
        massTolerance[at * perQuery + s] = 2 * error * mass[at * perQuery + s];
      }
    }
    TensorAssert.assertThat("readout.top_weight", read.weight(), queries.length, heads)
        .isClose(weight, weightTolerance, DenseAttention.SOURCE);
    TensorAssert.assertThat("readout.span_mass", read.mass(), queries.length, heads, perQuery)
        .isClose(mass, massTolerance, DenseAttention.SOURCE);
    TensorAssert.assertThat("readout.log_sum_exp", read.lse(), queries.length, heads)
        .isClose(lse, lseTolerance, DenseAttention.SOURCE);
  }

  private static int topOf(double[] scores) {
    int top = -1;
    for (int j = 0; j < scores.length; j++) {
      if (scores[j] > (top < 0 ? Double.NEGATIVE_INFINITY : scores[top])) {
        top = j;
      }
    }
    return top;
  }

  /// The position must be the top one, or one whose score rounding cannot tell from it.
  private static void checkTop(
      int got, int want, DenseAttention dense, int cell, int at, int heads) {
    double[] scores = dense.scores[cell];
    boolean right =
        want < 0
            ? got == -1
            : got >= 0
                && got < scores.length
                && scores[want] - scores[got] <= 2 * dense.scoreError[cell]
                && (scores[got] < scores[want] || got == want);
    if (!right) {
      throw new AssertionError(
          "readout.top_position [%d, %d]: want %d, got %d"
              .formatted(at / heads, at % heads, want, got));
    }
  }

  @Test
  void readingChangesNothing() {
    AttentionCase c = AttentionCase.packed(8, 2, 17, 30, 3).mixed(false);
    int[] queries = someQueries(33);
    Read read = read(bench, c, c.q(), c.k(), queries, new int[queries.length][0][2]);
    assertSameBits("attention", read.outputs(), c.forward(bench));
  }

  @Test
  void noQueriesAndNoSpansAreFine() {
    AttentionCase c = AttentionCase.packed(6, 2, 12, 13);
    Read none = read(bench, c, c.q(), c.k(), new int[0], new int[0][][]);
    assertThat(none.top()).isEmpty();
    Read bare = read(bench, c, c.q(), c.k(), new int[] {12}, new int[1][0][2]);
    assertThat(Arrays.stream(bare.top())).hasSize(6).allMatch(at -> at >= 0 && at < 13);
    assertThat(bare.mass()).isEmpty();
  }

  @Test
  void tiesGoToTheLowestVisiblePosition() {
    int[] all = IntStream.range(0, 207).toArray();
    for (int window : new int[] {AttentionSpec.NO_WINDOW, 1, 20}) {
      AttentionCase c = AttentionCase.packed(2, 1, 13, 207).window(window);
      float[] k = c.k();
      for (int j = 1; j < 207; j++) {
        System.arraycopy(k, 0, k, j * 13, 13); // one key everywhere
      }
      Read read = read(bench, c, c.q(), k, all, new int[207][0][2]);
      for (int n = 0; n < 207; n++) {
        int lowest = (int) Math.max(0, n - (long) window + 1);
        assertThat(read.top()[2 * n]).as("query %d, window %d", n, window).isEqualTo(lowest);
        assertThat(read.top()[2 * n + 1]).as("query %d, window %d", n, window).isEqualTo(lowest);
      }
    }
  }

  @Test
  void theFirstOfTwoEqualBestKeysWins() {
    int[] all = IntStream.range(0, 207).toArray();
    for (int first : new int[] {0, 5, 15, 16, 63, 100}) {
      for (int second : new int[] {first + 1, first + 17, 150, 206}) {
        AttentionCase c = AttentionCase.packed(1, 1, 12, 207);
        float[] q = c.q();
        float[] k = c.k();
        for (int n = 0; n < 207; n++) {
          System.arraycopy(q, 0, q, n * 12, 12);
        }
        for (int d = 0; d < 12; d++) {
          k[first * 12 + d] = 3 * q[d]; // far above every other score
          k[second * 12 + d] = 3 * q[d];
        }
        Read read = read(bench, c, q, k, all, new int[207][0][2]);
        for (int n = first; n < 207; n++) {
          assertThat(read.top()[n]).as("query %d", n).isEqualTo(first);
        }
        Read late = read(bench, c.window(207 - first - 1), q, k, all, new int[207][0][2]);
        assertThat(late.top()[206]).as("once %d has left the window", first).isEqualTo(second);
      }
    }
  }

  @Test
  void zeroQueriesTieEverywhere() {
    AttentionCase c = AttentionCase.packed(2, 1, 13, 50);
    Read read =
        read(bench, c, new float[50 * 26], c.k(), new int[] {49}, new int[][][] {{{10, 20}}});
    assertThat(read.top()).containsExactly(0, 0);
    for (int h = 0; h < 2; h++) {
      assertThat((double) read.weight()[h]).isCloseTo(1 / 50.0, within(60, 1 / 50.0));
      assertThat((double) read.mass()[h]).isCloseTo(0.2, within(60, 0.2));
      assertThat((double) read.lse()[h]).isCloseTo(Math.log(50), within(60, 1));
    }
  }

  private static Offset<Double> within(int roundings, double size) {
    return Assertions.within(roundings * TensorAssert.EPS * size);
  }

  @Test
  void positionsAreThoseOfTheRowNotOfTheCacheOrTheWindow() {
    AttentionCase c =
        AttentionCase.packed(2, 1, 12, 3, 2)
            .window(8)
            .cached(new int[] {40, 100}, new int[] {120, 7}, 170);
    float[] k = c.k();
    float[] q = c.q();
    int[] places = {38, 97}; // seen by all queries of the row
    for (int r = 0; r < 2; r++) {
      int at = (c.layout().keyStart(r) + places[r]) * 12;
      Arrays.fill(k, at, at + 12, 9);
    }
    Arrays.fill(q, 1);
    Read read = read(bench, c, q, k, new int[] {0, 2, 3, 4}, new int[4][0][2]);
    assertThat(read.top()).containsExactly(38, 38, 38, 38, 97, 97, 97, 97);
  }

  @Test
  void headsThatDoNotAttendReportNothing() {
    AttentionCase c = AttentionCase.packed(3, 1, 12, 9);
    HeadMask mask =
        HeadMask.none(1, 3)
            .withGate(List.of(new HeadId(0, 0)), 0)
            .withKind(List.of(new HeadId(0, 1)), new HeadKind.Mean(new float[12]))
            .withKind(List.of(new HeadId(0, 2)), HeadKind.UNIFORM);
    AttentionCase masked = c.plan("masked", HeadPlan.of(List.of(mask), 0, 12, false));
    Read read = read(bench, masked, c.q(), c.k(), new int[] {8}, new int[][][] {{{0, 9}, {2, 5}}});
    assertThat(read.top()).containsExactly(-1, -1, 0);
    assertThat(read.weight()[0]).isZero();
    assertThat(read.weight()[1]).isZero();
    assertThat((double) read.weight()[2]).isCloseTo(1 / 9.0, within(13, 1 / 9.0));
    assertThat(Arrays.copyOf(read.mass(), 4)).containsOnly(0);
    assertThat((double) read.mass()[4]).isCloseTo(1, within(13, 1));
    assertThat((double) read.mass()[5]).isCloseTo(1 / 3.0, within(13, 1 / 3.0));
    assertThat(read.lse()[0]).isEqualTo(Float.NEGATIVE_INFINITY);
    assertThat(read.lse()[1]).isEqualTo(Float.NEGATIVE_INFINITY);
    assertThat((double) read.lse()[2]).isCloseTo(Math.log(9), within(13, 3));
  }

  @Test
  void headsGatedOffStillReportWhenTheirPatternIsKept() {
    AttentionCase c = AttentionCase.packed(2, 1, 12, 9);
    HeadMask off = HeadMask.off(1, 2, List.of(new HeadId(0, 0), new HeadId(0, 1)));
    AttentionCase kept = c.plan("kept", HeadPlan.of(List.of(off), 0, 12, true));
    int[] queries = {3, 8};
    int[][][] spans = {{{0, 2}}, {{4, 8}}};
    assertSameBits(
        "read-out",
        read(bench, kept, c.q(), c.k(), queries, spans).bits(),
        read(bench, c, c.q(), c.k(), queries, spans).bits());
  }

  @Test
  void isReproducible() {
    AttentionCase c = AttentionCase.packed(8, 2, 17, 40, 3).mixed(false).window(29);
    int[] queries = someQueries(43);
    int[][][] spans = new int[queries.length][][];
    Arrays.setAll(spans, i -> spans(queries[i]));
    assertReproducible("read-out", on -> read(on, c, c.q(), c.k(), queries, spans).bits());
  }
}
