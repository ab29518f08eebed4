package io.github.retmask.kernels.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.AttentionCase;
import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.DenseAttention;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.TensorAssert;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Attention in BF16, and the ways of F32 that the contract does not tell apart. The oracle is the
/// dense matrix in double, on the same values.
///
/// Every kernel runs in all orders of its threads, which must give the same bits.
class CudaAttentionTest {
  /// Half a unit in the last place of BF16, relative; a little more for what F32 lost before.
  private static final double HALF = 0x1.02p-8;

  private Kernels kernels;

  @BeforeEach
  void open() {
    kernels = TestGpu.open(1);
  }

  @AfterEach
  void close() {
    kernels.close();
    EmulatedGpu.recover();
  }

  // --- the bench ------------------------------------------------------------------------------

  static float rounded(float x) {
    int bits = Float.floatToRawIntBits(x);
    return x != x ? x : Float.intBitsToFloat(bits + 0x7fff + (bits >>> 16 & 1) & 0xffff0000);
  }

  static float[] rounded(float[] values) {
    float[] rounded = new float[values.length];
    for (int i = 0; i < values.length; i++) {
      rounded[i] = rounded(values[i]);
    }
    return rounded;
  }

  /// A tensor that begins `shift` elements into its memory.
  private static Tensor of(
      TensorArena arena, String name, DType type, int shift, float[] values, long... dims) {
    Tensor all = arena.allocate(name, type, values.length + shift);
    Tensor part = all.slice(shift, values.length + shift).view(dims);
    if (type == DType.F32) {
      return part.copyFrom(values);
    }
    short[] bits = new short[values.length];
    for (int i = 0; i < bits.length; i++) {
      bits[i] = (short) (Float.floatToRawIntBits(values[i]) >>> 16);
    }
    byte[] bytes = new byte[2 * bits.length];
    MemorySegment.ofArray(bytes).copyFrom(MemorySegment.ofArray(bits));
    return part.copyFrom(Tensor.host(name, type, Shape.of(dims), MemorySegment.ofArray(bytes)));
  }

  /// Shift of all but the tensor of a number, by an element.
  private static int allBut(int tensor) {
    return -1 - tensor;
  }

  private static int shiftOf(int tensor, int shift) {
    return shift >= 0 ? shift : shift == allBut(tensor) ? 0 : 1;
  }

  /// z, lse and, when asked, the read-outs: top position, top weight, masses, log-sum-exp.
  private float[][] forward(
      AttentionCase c, DType type, int shift, float[] q, float[] k, float[] v) {
    return forward(c, type, shift, q, k, v, new int[0], new int[0][][]);
  }

  private float[][] forward(
      AttentionCase c,
      DType type,
      int shift,
      float[] q,
      float[] k,
      float[] v,
      int[] queries,
      int[][][] spans) {
    int heads = c.dims().heads();
    int kvHeads = c.dims().kvHeads();
    int headDim = c.dims().headDim();
    long keys = k.length / ((long) kvHeads * headDim);
    try (TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      float[] nan = new float[q.length];
      Arrays.fill(nan, Float.NaN);
      Tensor z = of(arena, "z", type, shiftOf(0, shift), nan, c.tokens(), heads, headDim);
      Tensor lse = arena.floats("lse", c.tokens(), heads);
      AttentionReadout readout =
          queries.length == 0 ? null : AttentionReadout.of(arena, heads, queries, spans);
      kernels.attention(
          z,
          lse,
          of(arena, "q", type, shiftOf(1, shift), q, c.tokens(), heads, headDim),
          of(arena, "k", type, shiftOf(2, shift), k, keys, kvHeads, headDim),
          of(arena, "v", type, shiftOf(3, shift), v, keys, kvHeads, headDim),
          c.layout(),
          c.plan(),
          c.spec(),
          readout);
      List<float[]> results = new ArrayList<>();
      results.add(z.toHost().toFloats());
      results.add(lse.toHost().toFloats());
      if (readout != null) {
        int[] top = readout.topPosition().toHost().toInts();
        float[] wide = new float[top.length];
        for (int i = 0; i < top.length; i++) {
          wide[i] = top[i];
        }
        results.add(wide);
        results.add(readout.topWeight().toHost().toFloats());
        results.add(readout.spanMass().toHost().toFloats());
        results.add(readout.logSumExp().toHost().toFloats());
      }
      return results.toArray(float[][]::new);
    }
  }

  private static DenseAttention dense(AttentionCase c, float[] q, float[] k, float[] v) {
    return new DenseAttention(q, k, v, c.dims(), c.layout(), c.plan(), c.spec());
  }

  private static float[] absolute(float[] values) {
    float[] absolute = new float[values.length];
    for (int i = 0; i < values.length; i++) {
      absolute[i] = Math.abs(values[i]);
    }
    return absolute;
  }

  // --- forward in BF16 ------------------------------------------------------------------------

  static List<AttentionCase> cases() {
    int[] past = {5, 0, 130};
    int[] keyStart = {150, 3, 10};
    return List.of(
        AttentionCase.packed(1, 1, 64, 1),
        AttentionCase.packed(4, 2, 64, 33),
        AttentionCase.packed(2, 1, 64, 64, 65, 1),
        AttentionCase.packed(2, 1, 64, 128, 129, 191),
        AttentionCase.packed(3, 1, 13, 207),
        AttentionCase.packed(2, 2, 17, 207).window(64),
        AttentionCase.packed(6, 2, 40, 70).window(7),
        AttentionCase.packed(3, 3, 96, 150),
        AttentionCase.packed(2, 1, 72, 90),
        AttentionCase.packed(2, 1, 128, 140),
        AttentionCase.packed(2, 1, 104, 70, 3),
        AttentionCase.packed(1, 1, 256, 130),
        AttentionCase.packed(2, 1, 200, 61).cached(new int[] {50}, new int[] {0}, 111),
        AttentionCase.packed(8, 2, 64, 13, 1, 80).mixed(false),
        AttentionCase.packed(8, 2, 64, 13, 1, 80).mixed(true).window(30),
        AttentionCase.packed(8, 2, 16, 4, 3, 1).mixed(false).cached(past, keyStart, 170),
        AttentionCase.packed(8, 4, 24, 18, 7, 30)
            .mixed(false)
            .cached(past, keyStart, 180)
            .window(9),
        AttentionCase.packed(16, 1, 20, 2, 1)
            .mixed(false)
            .cached(new int[] {700, 90}, new int[] {100, 5}, 810),
        AttentionCase.packed(8, 2, 64, 1)
            .mixed(false)
            .cached(new int[] {1100}, new int[] {3}, 1104),
        AttentionCase.packed(2, 1, 96, 60).window(500).cached(new int[] {900}, new int[] {3}, 963));
  }

  /// Sixteen rows that begin at neighbouring positions, among the blocks of keys and spans, with heads
  /// whose sinks and windows end at neighbouring ones.
  private static AttentionCase placed(int headDim, int length, int past, int window) {
    int[] lengths = new int[16];
    int[] pasts = new int[16];
    int[] starts = new int[16];
    List<HeadMask> masks = new ArrayList<>();
    int cache = 0;
    for (int r = 0; r < 16; r++) {
      lengths[r] = length;
      pasts[r] = past + r;
      starts[r] = cache + 1;
      cache = starts[r] + past + r + length;
      HeadMask mask = HeadMask.none(1, 4);
      int middle = past / 2;
      mask = mask.withKind(List.of(new HeadId(0, 1)), new HeadKind.Local(middle - 3 + r, 3));
      mask = mask.withKind(List.of(new HeadId(0, 2)), new HeadKind.Local(0, middle + 12 - r));
      masks.add(mask.withKind(List.of(new HeadId(0, 3)), new HeadKind.Local(r, middle - r)));
    }
    return AttentionCase.packed(4, 1, headDim, lengths)
        .cached(pasts, starts, cache)
        .window(window)
        .plan("places", HeadPlan.of(masks, 0, headDim, false));
  }

  /// One query whose sums of more than 256 spans are merged.
  private static AttentionCase aLongRow() {
    HeadMask mask =
        HeadMask.none(1, 3)
            .withKind(List.of(new HeadId(0, 1)), new HeadKind.Local(3, 40))
            .withKind(List.of(new HeadId(0, 2)), new HeadKind.Local(300, 10_000));
    return AttentionCase.packed(3, 1, 3, 1)
        .cached(new int[] {65_900}, new int[] {2}, 65_905)
        .plan("a long row", HeadPlan.of(List.of(mask), 0, 3, false));
  }

  static List<AttentionCase> placedCases() {
    int none = AttentionSpec.NO_WINDOW;
    return List.of(
        placed(13, 6, 120, none),
        placed(16, 6, 121, 62),
        placed(132, 5, 57, none),
        placed(132, 5, 57, 29),
        placed(16, 3, 248, none),
        placed(132, 2, 120, 62),
        aLongRow());
  }

  static List<AttentionCase> allCases() {
    List<AttentionCase> all = new ArrayList<>(cases());
    all.addAll(placedCases());
    return all;
  }

  @ParameterizedTest
  @MethodSource("placedCases")
  void agreesWithTheDenseMatrixInF32(AttentionCase c) {
    DenseAttention want = dense(c, c.q(), c.k(), c.v());
    float[][] got = forward(c, DType.F32, 0, c.q(), c.k(), c.v());
    TensorAssert.assertThat("z", got[0]).isClose(want.z, want.zTolerance, DenseAttention.SOURCE);
    TensorAssert.assertThat("lse", got[1])
        .isClose(want.lse, want.lseTolerance, DenseAttention.SOURCE);
    readsWhatTheDenseMatrixHas(c, DType.F32, c.q(), c.k(), c.v());
  }

  /// Weights are rounded to BF16 before they meet the values, and so is what comes out.
  @ParameterizedTest
  @MethodSource("cases")
  void agreesWithTheDenseMatrix(AttentionCase c) {
    agreesWithTheDenseMatrix(c, 0, 1, 4);
  }

  @ParameterizedTest
  @MethodSource("placedCases")
  void agreesWithTheDenseMatrixInAllPlaces(AttentionCase c) {
    agreesWithTheDenseMatrix(c, 0);
  }

  private void agreesWithTheDenseMatrix(AttentionCase c, int... shifts) {
    float[] q = rounded(c.q());
    float[] k = rounded(c.k());
    float[] v = rounded(c.v());
    DenseAttention want = dense(c, q, k, v);
    double[] sizes = dense(c, q, k, absolute(v)).z;
    double[] tolerance = new double[sizes.length];
    for (int i = 0; i < sizes.length; i++) {
      tolerance[i] = want.zTolerance[i] + HALF * (Math.abs(sizes[i]) + Math.abs(want.z[i]));
    }
    int heads = c.dims().heads();
    float[][] first = null;
    for (int shift : shifts) {
      float[][] got = forward(c, DType.BF16, shift, q, k, v);
      TensorAssert.assertThat("z", got[0], c.tokens(), heads, c.dims().headDim())
          .isClose(want.z, tolerance, "rounding to BF16 of weights and z");
      TensorAssert.assertThat("lse", got[1], c.tokens(), heads)
          .isClose(want.lse, want.lseTolerance, DenseAttention.SOURCE);
      first = first == null ? got : first;
      TensorAssert.assertThat("z at another alignment", got[0]).hasBits(first[0]);
    }
  }

  private static int[][] spans(int query) {
    int at = query % 5;
    return new int[][] {{0, 1000}, {at, at + 7}, {at, at}, {at + 1, 40}, {5000, 6000}};
  }

  @ParameterizedTest
  @MethodSource("allCases")
  void readsWhatTheDenseMatrixHas(AttentionCase c) {
    readsWhatTheDenseMatrixHas(c, DType.BF16, rounded(c.q()), rounded(c.k()), rounded(c.v()));
  }

  private void readsWhatTheDenseMatrixHas(
      AttentionCase c, DType type, float[] q, float[] k, float[] v) {
    DenseAttention dense = dense(c, q, k, v);
    int heads = c.dims().heads();
    int[] queries =
        IntStream.range(0, c.tokens()).filter(n -> n % 3 == 1 || n == c.tokens() - 1).toArray();
    int[][][] spans = new int[queries.length][][];
    Arrays.setAll(spans, i -> spans(queries[i]));
    float[][] got = forward(c, type, 0, q, k, v, queries, spans);
    float[][] unread = forward(c, type, 0, q, k, v);
    TensorAssert.assertThat("z of a call that reads", got[0]).hasBits(unread[0]);
    TensorAssert.assertThat("lse of a call that reads", got[1]).hasBits(unread[1]);
    int perQuery = spans[0].length;
    int cells = queries.length * heads;
    double[] weight = new double[cells];
    double[] weightTolerance = new double[cells];
    double[] mass = new double[cells * perQuery];
    double[] massTolerance = new double[cells * perQuery];
    double[] lse = new double[cells];
    double[] lseTolerance = new double[cells];
    for (int at = 0; at < cells; at++) {
      int cell = queries[at / heads] * heads + at % heads;
      double[] scores = dense.scores[cell];
      int top = -1;
      for (int j = 0; j < scores.length; j++) {
        top = scores[j] > (top < 0 ? Double.NEGATIVE_INFINITY : scores[top]) ? j : top;
      }
      int found = (int) got[2][at];
      if (top < 0) {
        assertThat(found).isEqualTo(-1);
      } else {
        assertThat(scores[top] - scores[found]).isLessThanOrEqualTo(2 * dense.scoreError[cell]);
        assertThat(scores[found] < scores[top] || found == top).isTrue();
      }
      double error = dense.weightError(cell);
      weight[at] = top < 0 ? 0 : dense.weights[cell][top];
      weightTolerance[at] = error * weight[at];
      lse[at] = dense.lse[cell];
      lseTolerance[at] = dense.lseTolerance[cell];
      for (int s = 0; s < perQuery; s++) {
        mass[at * perQuery + s] =
            dense.mass(cell, spans[at / heads][s][0], spans[at / heads][s][1]);
        massTolerance[at * perQuery + s] = 2 * error * mass[at * perQuery + s];
      }
    }
    String source = DenseAttention.SOURCE;
    TensorAssert.assertThat("top weight", got[3]).isClose(weight, weightTolerance, source);
    TensorAssert.assertThat("mass", got[4]).isClose(mass, massTolerance, source);
    TensorAssert.assertThat("log-sum-exp", got[5]).isClose(lse, lseTolerance, source);
  }

  /// Keys that are cut from a query by causality or a window may hold anything.
  @ParameterizedTest
  @ValueSource(ints = {0, 15, 64, 100, 139})
  void whatAQueryCannotSeeNeverLeaks(int poisoned) {
    for (int window : new int[] {9, 70, 1000}) {
      AttentionCase c = AttentionCase.packed(2, 1, 64, 140).window(window);
      float[] q = rounded(c.q());
      float[] k = rounded(c.k());
      float[] v = rounded(c.v());
      float[][] want = forward(c, DType.BF16, 0, q, k, v);
      Arrays.fill(k, poisoned * 64, poisoned * 64 + 64, Float.NaN);
      Arrays.fill(v, poisoned * 64, poisoned * 64 + 64, Float.POSITIVE_INFINITY);
      int last = Math.min(poisoned + window, 140);
      Arrays.fill(want[0], poisoned * 128, last * 128, Float.NaN);
      Arrays.fill(want[1], poisoned * 2, last * 2, Float.NaN);
      float[][] got = forward(c, DType.BF16, 0, q, k, v);
      TensorAssert.assertThat("z beside a NaN key, window " + window, got[0]).hasBits(want[0]);
      TensorAssert.assertThat("lse beside a NaN key, window " + window, got[1]).hasBits(want[1]);
    }
  }

  @Test
  void anInfiniteValueReachesWhoSeesIt() {
    AttentionCase c = AttentionCase.packed(2, 1, 64, 200).window(150);
    float[] q = rounded(c.q());
    float[] k = rounded(c.k());
    float[] v = rounded(c.v());
    float[][] want = forward(c, DType.BF16, 0, q, k, v);
    v[30 * 64 + 5] = Float.NEGATIVE_INFINITY;
    for (int n = 30; n < 180; n++) {
      want[0][(n * 2) * 64 + 5] = Float.NEGATIVE_INFINITY;
      want[0][(n * 2 + 1) * 64 + 5] = Float.NEGATIVE_INFINITY;
    }
    float[][] got = forward(c, DType.BF16, 0, q, k, v);
    TensorAssert.assertThat("z", got[0]).hasBits(want[0]);
    TensorAssert.assertThat("lse", got[1]).hasBits(want[1]);
  }

  /// The same for few queries at the end of a cache, some of them of local heads.
  @ParameterizedTest
  @ValueSource(ints = {0, 1, 100, 255, 256, 299, 302})
  void whatFewQueriesCannotSeeNeverLeaks(int poisoned) {
    AttentionCase c =
        AttentionCase.packed(8, 2, 64, 3)
            .mixed(false)
            .window(260)
            .cached(new int[] {300}, new int[] {4}, 320);
    float[] q = rounded(c.q());
    float[] k = rounded(c.k());
    float[] v = rounded(c.v());
    float[][] clean = forward(c, DType.BF16, 0, q, k, v);
    DenseAttention dense = dense(c, q, k, v);
    for (boolean valuesOnly : new boolean[] {true, false}) {
      float[][] want = {clean[0].clone(), clean[1].clone()};
      float bad = valuesOnly ? Float.NEGATIVE_INFINITY : Float.NaN;
      for (int cell = 0; cell < 24; cell++) {
        if (dense.scores[cell].length > 0 && dense.scores[cell][poisoned] > -1e30) {
          Arrays.fill(want[0], cell * 64, cell * 64 + 64, bad);
          boolean uniform = c.plan().mode(0, cell % 8) == HeadPlan.Mode.UNIFORM;
          want[1][cell] = valuesOnly || uniform ? want[1][cell] : Float.NaN;
        }
      }
      float[] badK = k.clone();
      float[] badV = v.clone();
      Arrays.fill(badV, (4 + poisoned) * 128, (5 + poisoned) * 128, bad);
      if (!valuesOnly) {
        Arrays.fill(badK, (4 + poisoned) * 128, (5 + poisoned) * 128, bad);
      }
      float[][] got = forward(c, DType.BF16, 0, q, badK, badV);
      TensorAssert.assertThat("z beside " + bad, got[0]).hasBits(want[0]);
      TensorAssert.assertThat("lse beside " + bad, got[1]).hasBits(want[1]);
    }
  }

  @Test
  void theFirstOfEqualKeysIsTheTopOne() {
    for (int length : new int[] {1, 70, 150}) {
      AttentionCase c =
          AttentionCase.packed(4, 2, 64, length).cached(new int[] {300}, new int[] {2}, 460);
      float[] q = rounded(c.q());
      float[] k = rounded(c.k());
      for (int j = 1; j < 460; j++) {
        System.arraycopy(k, 2 * 128, k, j * 128, 128);
      }
      int[] all = IntStream.range(0, length).toArray();
      int[][][] none = new int[length][0][2];
      float[][] got = forward(c, DType.BF16, 0, q, k, rounded(c.v()), all, none);
      assertThat(got[2]).containsOnly(0f);
      got = forward(c.window(90), DType.BF16, 0, q, k, rounded(c.v()), all, none);
      for (int n = 0; n < length; n++) {
        assertThat(got[2][4 * n + 3]).isEqualTo(300 + n - 89);
      }
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void aQueryOfNanReportsTheFirstKeyThatItSees(DType type) {
    AttentionCase many = AttentionCase.packed(2, 1, 16, 70).window(5);
    AttentionCase few = AttentionCase.packed(2, 1, 16, 2).window(40);
    for (AttentionCase c : List.of(many, few.cached(new int[] {300}, new int[] {0}, 302))) {
      float[] q = new float[c.q().length];
      Arrays.fill(q, Float.NaN);
      int[] all = IntStream.range(0, c.tokens()).toArray();
      int[][][] none = new int[c.tokens()][0][2];
      float[][] got = forward(c, type, 0, q, rounded(c.k()), rounded(c.v()), all, none);
      for (int n = 0; n < c.tokens(); n++) {
        int first = Math.max(0, c.layout().past(0) + n - c.spec().window() + 1);
        assertThat(got[2][2 * n]).isEqualTo(first);
        assertThat(got[2][2 * n + 1]).isEqualTo(first);
      }
    }
  }

  @Test
  void scoresOfAnySizeAndSign() {
    AttentionCase c = AttentionCase.packed(1, 1, 64, 150);
    float[] q = rounded(c.q());
    float[] k = rounded(c.k());
    float[] v = rounded(c.v());
    for (float scale : new float[] {-0.125f, 0f, 3f}) {
      AttentionCase scaled =
          new AttentionCase(
              c.name(),
              c.dims(),
              c.layout(),
              c.cache(),
              c.plan(),
              new AttentionSpec(c.spec().window(), scale));
      DenseAttention want = dense(scaled, q, k, v);
      double[] sizes = dense(scaled, q, k, absolute(v)).z;
      double[] tolerance = new double[sizes.length];
      for (int i = 0; i < sizes.length; i++) {
        tolerance[i] = want.zTolerance[i] + HALF * (Math.abs(sizes[i]) + Math.abs(want.z[i]));
      }
      float[][] got = forward(scaled, DType.BF16, 0, q, k, v);
      TensorAssert.assertThat("z", got[0]).isClose(want.z, tolerance, "rounding to BF16");
      TensorAssert.assertThat("lse", got[1])
          .isClose(want.lse, want.lseTolerance, DenseAttention.SOURCE);
    }
  }

  /// In BF16 too a row's bits are its own.
  @Test
  void aRowIsTheSameAloneAndAmongMaskedNeighbours() {
    int[] lengths = {70, 1, 130};
    AttentionCase batch = AttentionCase.packed(8, 2, 64, lengths).mixed(false).window(100);
    float[] q = rounded(batch.q());
    float[] k = rounded(batch.k());
    float[] v = rounded(batch.v());
    float[][] all = forward(batch, DType.BF16, 0, q, k, v);
    for (int r = 0; r < lengths.length; r++) {
      int from = batch.layout().tokenStart(r);
      int to = batch.layout().tokenStart(r + 1);
      AttentionCase alone = AttentionCase.packed(8, 2, 64, lengths[r]).window(100);
      HeadPlan plan = planOfRow(batch, r);
      float[][] got =
          forward(
              alone.plan("alone", plan),
              DType.BF16,
              0,
              Arrays.copyOfRange(q, from * 512, to * 512),
              Arrays.copyOfRange(k, from * 128, to * 128),
              Arrays.copyOfRange(v, from * 128, to * 128));
      TensorAssert.assertThat("z of row " + r, got[0])
          .hasBits(Arrays.copyOfRange(all[0], from * 512, to * 512));
      TensorAssert.assertThat("lse of row " + r, got[1])
          .hasBits(Arrays.copyOfRange(all[1], from * 8, to * 8));
    }
  }

  // --- backward in BF16 -----------------------------------------------------------------------

  /// Sinks and windows that end within tiles.
  private static final HeadPlan LOCAL =
      HeadPlan.of(
          List.of(
              HeadMask.none(1, 4)
                  .withKind(List.of(new HeadId(0, 1)), new HeadKind.Local(60, 3))
                  .withKind(List.of(new HeadId(0, 2)), new HeadKind.Local(5, 70))
                  .withKind(List.of(new HeadId(0, 3)), new HeadKind.Local(64, 64))),
          0,
          13,
          false);

  static List<AttentionCase> backwardCases() {
    return List.of(
        AttentionCase.packed(1, 1, 64, 1),
        AttentionCase.packed(4, 2, 64, 33),
        AttentionCase.packed(2, 1, 64, 64, 65, 1),
        AttentionCase.packed(2, 1, 64, 128, 129, 191),
        AttentionCase.packed(3, 1, 13, 207),
        AttentionCase.packed(2, 2, 17, 160).window(127), // a key short of whole tiles
        AttentionCase.packed(6, 2, 40, 70).window(7),
        AttentionCase.packed(3, 3, 96, 150),
        AttentionCase.packed(2, 1, 128, 140),
        AttentionCase.packed(2, 1, 104, 70, 3),
        AttentionCase.packed(2, 1, 256, 130),
        AttentionCase.packed(8, 2, 200, 40, 30).mixed(false),
        AttentionCase.packed(8, 2, 64, 13, 1, 80).mixed(false),
        AttentionCase.packed(8, 2, 64, 13, 1, 180).mixed(true).window(30),
        AttentionCase.packed(8, 1, 16, 200).mixed(false),
        AttentionCase.packed(4, 1, 13, 150).plan("local heads", LOCAL).window(95),
        AttentionCase.packed(2, 1, 64, 70).cached(new int[] {90}, new int[] {2}, 165),
        AttentionCase.packed(8, 2, 64, 13, 1, 80)
            .mixed(false)
            .cached(new int[] {130, 0, 63}, new int[] {0, 143, 145}, 290)
            .window(30),
        AttentionCase.packed(2, 1, 200, 20).cached(new int[] {50}, new int[] {0}, 70));
  }

  /// Data of a backward: dz, q, k, v and z in BF16, lse in F32.
  private static float[][] backwardInputs(AttentionCase c) {
    float[] q = rounded(c.q());
    float[] k = rounded(c.k());
    float[] v = rounded(c.v());
    DenseAttention dense = dense(c, q, k, v);
    float[] dz = new float[q.length];
    Random random = new Random(14);
    float[] z = new float[q.length];
    float[] lse = new float[dense.lse.length];
    for (int i = 0; i < q.length; i++) {
      dz[i] = rounded((float) random.nextGaussian());
      z[i] = rounded((float) dense.z[i]);
    }
    for (int i = 0; i < lse.length; i++) {
      lse[i] = (float) dense.lse[i];
    }
    return new float[][] {dz, q, k, v, z, lse};
  }

  /// dq, dk and dv.
  private float[][] backward(AttentionCase c, int shift, float[][] in) {
    return backward(c, DType.BF16, shift, in);
  }

  private float[][] backward(AttentionCase c, DType type, int shift, float[][] in) {
    int heads = c.dims().heads();
    int kvHeads = c.dims().kvHeads();
    int headDim = c.dims().headDim();
    long[] wide = {c.tokens(), heads, headDim};
    long[] narrow = {c.cache(), kvHeads, headDim};
    try (TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      float[] nan = new float[in[1].length];
      Arrays.fill(nan, Float.NaN);
      Tensor dq = of(arena, "dq", type, shiftOf(0, shift), nan, wide);
      float[] fewNan = new float[in[2].length];
      Arrays.fill(fewNan, Float.NaN);
      Tensor dk = of(arena, "dk", type, shiftOf(1, shift), fewNan, narrow);
      Tensor dv = of(arena, "dv", type, shiftOf(2, shift), fewNan, narrow);
      kernels.attentionBackward(
          dq,
          dk,
          dv,
          of(arena, "dz", type, shiftOf(3, shift), in[0], wide),
          of(arena, "q", type, shiftOf(4, shift), in[1], wide),
          of(arena, "k", type, shiftOf(5, shift), in[2], narrow),
          of(arena, "v", type, shiftOf(6, shift), in[3], narrow),
          of(arena, "z", type, shiftOf(7, shift), in[4], wide),
          of(arena, "lse", DType.F32, 0, in[5], c.tokens(), heads),
          c.layout(),
          c.plan(),
          c.spec());
      return new float[][] {dq.toHost().toFloats(), dk.toHost().toFloats(), dv.toHost().toFloats()};
    }
  }

  /// What rounding weights, gradients of scores and z to BF16 may do to dq, dk and dv.
  private static double[][] roundings(AttentionCase c, DenseAttention dense, float[][] in) {
    int heads = c.dims().heads();
    int headDim = c.dims().headDim();
    double[][] error = {
      new double[in[1].length], new double[in[2].length], new double[in[2].length]
    };
    for (int n = 0; n < c.tokens(); n++) {
      int r = c.layout().rowOf(n);
      for (int h = 0; h < heads; h++) {
        HeadPlan.Mode mode = c.plan().mode(r, h);
        int at = n * heads + h;
        if (mode != HeadPlan.Mode.ATTEND && mode != HeadPlan.Mode.UNIFORM) {
          continue;
        }
        double delta = 0;
        double deltaSize = 0;
        for (int d = 0; d < headDim; d++) {
          delta += in[0][at * headDim + d] * dense.z[at * headDim + d];
          deltaSize += Math.abs(in[0][at * headDim + d] * dense.z[at * headDim + d]);
        }
        for (int j = 0; j < dense.weights[at].length; j++) {
          double p = dense.weights[at][j];
          int entry = c.layout().keyStart(r) + j;
          int key = (entry * c.dims().kvHeads() + h / c.dims().group()) * headDim;
          double dp = 0;
          for (int d = 0; p > 0 && d < headDim; d++) {
            dp += (double) in[0][at * headDim + d] * in[3][key + d];
            error[2][key + d] += HALF * p * Math.abs(in[0][at * headDim + d]);
          }
          double ds = p * (Math.abs(dp - delta) + deltaSize) * HALF * c.spec().scale();
          for (int d = 0; mode == HeadPlan.Mode.ATTEND && p > 0 && d < headDim; d++) {
            error[0][at * headDim + d] += ds * Math.abs(in[2][key + d]);
            error[1][key + d] += ds * Math.abs(in[1][at * headDim + d]);
          }
        }
      }
    }
    return error;
  }

  @ParameterizedTest
  @MethodSource("backwardCases")
  void gradientsAgreeWithTheDenseMatrix(AttentionCase c) {
    float[][] in = backwardInputs(c);
    DenseAttention dense = dense(c, in[1], in[2], in[3]);
    DenseAttention.Backward want = dense.new Backward(in[0]);
    double[][] values = {want.dq, want.dk, want.dv};
    double[][] tolerances = {want.dqTolerance, want.dkTolerance, want.dvTolerance};
    c.leaveKeysOfNobody(want.dk); // garbage, as it was
    c.leaveKeysOfNobody(want.dv);
    double[][] roundings = roundings(c, dense, in);
    float[][] first = null;
    for (int shift : new int[] {0, 1, 4}) {
      float[][] got = backward(c, shift, in);
      first = first == null ? got : first;
      for (int i = 0; i < 3; i++) {
        double[] tolerance = tolerances[i].clone();
        for (int e = 0; e < tolerance.length; e++) {
          tolerance[e] += roundings[i][e] + HALF * Math.abs(values[i][e]);
        }
        int rows = i == 0 ? c.dims().heads() : c.dims().kvHeads();
        int count = i == 0 ? c.tokens() : c.cache();
        TensorAssert.assertThat("d" + "qkv".charAt(i), got[i], count, rows, c.dims().headDim())
            .isClose(values[i], tolerance, "rounding to BF16");
        TensorAssert.assertThat("gradient at another alignment", got[i]).hasBits(first[i]);
      }
    }
  }

  /// Whole tiles, and sinks and windows that end within them.
  static List<AttentionCase> backwardCasesInF32() {
    return List.of(
        AttentionCase.packed(8, 2, 16, 13, 1, 180).mixed(true).window(30),
        AttentionCase.packed(1, 1, 5, 130).window(95), // a key short of three tiles
        AttentionCase.packed(4, 1, 13, 150).plan("local heads", LOCAL),
        AttentionCase.packed(4, 1, 13, 150).plan("local heads", LOCAL).window(70),
        AttentionCase.packed(4, 1, 13, 60)
            .plan("local heads", LOCAL)
            .cached(new int[] {90}, new int[] {0}, 150));
  }

  @ParameterizedTest
  @MethodSource("backwardCasesInF32")
  void gradientsAgreeWithTheDenseMatrixInF32(AttentionCase c) {
    float[][] in = backwardInputs(c);
    DenseAttention dense = dense(c, in[1], in[2], in[3]);
    for (int i = 0; i < in[4].length; i++) {
      in[4][i] = (float) dense.z[i];
    }
    DenseAttention.Backward want = dense.new Backward(in[0]);
    double[][] values = {want.dq, want.dk, want.dv};
    double[][] tolerances = {want.dqTolerance, want.dkTolerance, want.dvTolerance};
    float[][] got = backward(c, DType.F32, 0, in);
    for (int i = 0; i < 3; i++) {
      TensorAssert.assertThat("d" + "qkv".charAt(i), got[i])
          .isClose(values[i], tolerances[i], DenseAttention.SOURCE);
    }
  }

  /// Tensors begin anywhere: only one of them at a multiple of 16 bytes.
  @Test
  void everyTensorMayBeAtAnotherAlignment() {
    AttentionCase whole = AttentionCase.packed(2, 1, 16, 35);
    AttentionCase step =
        AttentionCase.packed(4, 1, 16, 1).cached(new int[] {40}, new int[] {2}, 43);
    for (AttentionCase c : List.of(whole, step)) {
      float[] q = rounded(c.q());
      float[] k = rounded(c.k());
      float[] v = rounded(c.v());
      for (DType type : new DType[] {DType.F32, DType.BF16}) {
        float[][] want = forward(c, type, 0, q, k, v);
        for (int tensor = 0; tensor < 4; tensor++) {
          float[][] got = forward(c, type, allBut(tensor), q, k, v);
          String what = "z in %s, all but %d shifted".formatted(type, tensor);
          TensorAssert.assertThat(what, got[0]).hasBits(want[0]);
        }
      }
    }
    float[][] in = backwardInputs(whole);
    float[][] want = backward(whole, 0, in);
    for (int tensor = 0; tensor < 8; tensor++) {
      float[][] got = backward(whole, allBut(tensor), in);
      for (int i = 0; i < 3; i++) {
        TensorAssert.assertThat("gradient %d, all but %d shifted".formatted(i, tensor), got[i])
            .hasBits(want[i]);
      }
    }
  }

  @Test
  void nothingComesFromHeadsThatDidNotAttendWhateverTheirDzHolds() {
    AttentionCase c = AttentionCase.packed(8, 2, 64, 13, 1, 80).mixed(false);
    float[][] in = backwardInputs(c);
    float[][] want = backward(c, 0, in);
    for (int cell = 0; cell < 94 * 8; cell++) {
      HeadPlan.Mode mode = c.plan().mode(c.layout().rowOf(cell / 8), cell % 8);
      if (mode == HeadPlan.Mode.SKIP || mode == HeadPlan.Mode.MEAN) {
        Arrays.fill(in[0], cell * 64, cell * 64 + 64, Float.NaN);
        Arrays.fill(in[4], cell * 64, cell * 64 + 64, Float.NaN);
        TensorAssert.assertThat(
                "dq of a head that did not attend",
                Arrays.copyOfRange(want[0], cell * 64, cell * 64 + 64))
            .hasBits(new float[64]);
      }
    }
    float[][] got = backward(c, 0, in);
    for (int i = 0; i < 3; i++) {
      TensorAssert.assertThat("gradient " + i, got[i]).hasBits(want[i]);
    }
  }

  /// dq of a query and dk, dv of a key depend on the pairs that see each other, on nothing else.
  @ParameterizedTest
  @ValueSource(ints = {0, 63, 64, 130, 199})
  void nanReachesOnlyWhatSeesIt(int poisoned) {
    for (int headDim : new int[] {64, 256}) {
      int window = 90;
      AttentionCase c = AttentionCase.packed(2, 1, headDim, 200).window(window);
      float[][] in = backwardInputs(c);
      float[][] want = backward(c, 0, in);
      int last = Math.min(200, poisoned + window);
      for (int which : new int[] {2, 3}) { // k, v
        float[][] bad = in.clone();
        bad[which] = in[which].clone();
        Arrays.fill(bad[which], poisoned * headDim, (poisoned + 1) * headDim, Float.NaN);
        float[][] got = backward(c, 0, bad);
        int of = 2 * headDim;
        assertPart("dq before the key", got[0], want[0], 0, poisoned * of);
        assertPart("dq past its window", got[0], want[0], last * of, 200 * of);
        assertNan("dq of those who see it", got[0], poisoned * of, last * of);
      }
      int first = Math.max(0, poisoned - window + 1);
      for (int which : new int[] {0, 1, 4, 5}) { // dz, q, z, lse
        float[][] bad = in.clone();
        bad[which] = in[which].clone();
        int width = in[which].length / 200;
        Arrays.fill(bad[which], poisoned * width, (poisoned + 1) * width, Float.NaN);
        float[][] got = backward(c, 0, bad);
        for (int i : new int[] {1, 2}) {
          assertPart("keys before its window", got[i], want[i], 0, first * headDim);
          int next = (poisoned + 1) * headDim;
          assertPart("keys after the query", got[i], want[i], next, 200 * headDim);
          if (i == 1 || which != 4) {
            assertNan("keys that it sees", got[i], first * headDim, next);
          }
        }
      }
    }
  }

  private static void assertPart(String what, float[] got, float[] want, int from, int to) {
    TensorAssert.assertThat(what, Arrays.copyOfRange(got, from, to))
        .hasBits(Arrays.copyOfRange(want, from, to));
  }

  private static void assertNan(String what, float[] got, int from, int to) {
    float[] nan = new float[to - from];
    Arrays.fill(nan, Float.NaN);
    TensorAssert.assertThat(what, Arrays.copyOfRange(got, from, to)).hasBits(nan);
  }

  // --- ways to compute it in F32 --------------------------------------------------------------

  /// Tiles that walk over all spans, tiles of one span each, and few queries of all heads.
  @Test
  void allWaysGiveTheSameBits() {
    for (int headDim : new int[] {20, 132}) {
      AttentionCase whole = AttentionCase.packed(2, 1, headDim, 650).window(600);
      float[] q = whole.q();
      float[] k = whole.k();
      float[] v = whole.v();
      float[][] want = forward(whole, DType.F32, 0, q, k, v);
      int done = 0;
      for (int length : new int[] {250, 5, 2, 60, 13, 1, 100, 8, 90, 121}) {
        AttentionCase part =
            AttentionCase.packed(2, 1, headDim, length)
                .window(600)
                .cached(new int[] {done}, new int[] {0}, 650);
        int from = done * 2;
        int to = (done + length) * 2;
        float[] own = Arrays.copyOfRange(q, from * headDim, to * headDim);
        float[][] got = forward(part, DType.F32, done % 3, own, k, v);
        TensorAssert.assertThat("z of %d tokens at %d".formatted(length, done), got[0])
            .hasBits(Arrays.copyOfRange(want[0], from * headDim, to * headDim));
        TensorAssert.assertThat("lse of %d tokens at %d".formatted(length, done), got[1])
            .hasBits(Arrays.copyOfRange(want[1], from, to));
        done += length;
      }
    }
  }

  private static HeadPlan planOfRow(AttentionCase batch, int row) {
    return HeadPlan.of(
        List.of(AttentionCase.mixedMask(batch.dims(), row)), 0, batch.dims().headDim(), false);
  }
}
