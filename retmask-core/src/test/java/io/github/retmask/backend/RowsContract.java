package io.github.retmask.backend;

import static io.github.retmask.backend.Workbench.exactIn;
import static io.github.retmask.backend.Workbench.normal;
import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import java.math.BigDecimal;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Rows in and out of tables, and what goes element by element.
abstract class RowsContract extends OpContract {

  RowsContract(KernelsContract contract) {
    super(contract);
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16", "F16"})
  void embeddingCopiesTheRowsOfItsIds(DType dtype) {
    float[] table = exactIn(dtype, normal(1, 7 * 13));
    int[] ids = {6, 0, 3, 3, 5};
    Tensor out = bench.garbage("out", 5, 13);
    bench.ops.embedding(out, bench.ints("ids", ids), bench.weight("table", dtype, table, 7, 13));
    TensorAssert.assertThat("embedding out", bench.floats(out), 5, 13)
        .hasBits(rowsOf(table, 13, ids));
  }

  @Test
  void embeddingBackwardAddsEqualIdsInOrder() {
    float[] dOut = normal(2, 9 * 17);
    dOut[0] = 1e8f; // with what follows, the sum depends on the order
    dOut[2 * 17] = 1;
    dOut[3 * 17] = -1e8f;
    int[] ids = {4, 1, 4, 4, 0, 1, 1, 1, 4};
    float[] want = normal(3, 5 * 17);
    Tensor dTable = bench.f32("dTable", want, 5, 17);
    for (int n = 0; n < ids.length; n++) {
      for (int c = 0; c < 17; c++) {
        want[ids[n] * 17 + c] += dOut[n * 17 + c];
      }
    }
    bench.ops.embeddingBackward(dTable, bench.f32("dOut", dOut, 9, 17), bench.ints("ids", ids));
    TensorAssert.assertThat("embedding_backward dTable", bench.floats(dTable), 5, 17).hasBits(want);
  }

  @Test
  void embeddingBackwardIsReproducible() {
    float[] dOut = normal(4, 207 * 33);
    int[] ids = new int[207];
    for (int n = 0; n < ids.length; n++) {
      ids[n] = n * n % 11;
    }
    assertReproducible(
        "embedding_backward",
        on -> {
          Tensor dTable = on.filled("dTable", 0.5f, 11, 33);
          on.ops.embeddingBackward(dTable, on.f32("dOut", dOut, 207, 33), on.ints("ids", ids));
          return new float[][] {on.floats(dTable)};
        });
  }

  @Test
  void gatherTakesRowsInAnyOrderAndMoreThanOnce() {
    float[] in = normal(5, 5 * 2 * 3);
    int[] rows = {4, 4, 0, 2, 1, 4, 3};
    Tensor out = bench.garbage("out", 7, 2, 3);
    bench.ops.gatherRows(out, bench.f32("in", in, 5, 2, 3), bench.ints("rows", rows));
    TensorAssert.assertThat("gather_rows out", bench.floats(out), 7, 2, 3)
        .hasBits(rowsOf(in, 6, rows));
  }

  @Test
  void scatterWritesItsRowsAndLeavesTheOthers() {
    float[] want = normal(6, 9 * 3 * 5);
    float[] in = normal(7, 4 * 3 * 5);
    Tensor out = bench.f32("out", want, 9, 3, 5);
    int[] rows = {8, 0, 3, 2};
    bench.ops.scatterRows(out, bench.f32("in", in, 4, 3, 5), bench.ints("rows", rows));
    for (int n = 0; n < rows.length; n++) {
      System.arraycopy(in, n * 15, want, rows[n] * 15, 15);
    }
    TensorAssert.assertThat("scatter_rows out", bench.floats(out), 9, 3, 5).hasBits(want);
  }

  @Test
  void gatherAndScatterCarryNanAndInfinity() {
    float[] in = {Float.NaN, 1, Float.NEGATIVE_INFINITY, -0f};
    Tensor out = bench.filled("out", 7, 3, 2);
    bench.ops.scatterRows(out, bench.f32("in", in, 2, 2), bench.ints("rows", 2, 0));
    TensorAssert.assertThat("scatter_rows out", bench.floats(out), 3, 2)
        .hasBits(Float.NEGATIVE_INFINITY, -0f, 7, 7, Float.NaN, 1);
    Tensor back = bench.garbage("back", 2, 2);
    bench.ops.gatherRows(back, out, bench.ints("rows", 2, 0));
    TensorAssert.assertThat("gather_rows out", bench.floats(back), 2, 2).hasBits(in);
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 3, 13, 15, 16, 17, 207, 70_001})
  void addIsOneRoundingPerElement(int length) {
    float[] a = normal(8, length);
    float[] b = normal(9, length);
    a[length / 2] = Float.POSITIVE_INFINITY;
    b[length - 1] = Float.NaN;
    float[] want = new float[length];
    for (int i = 0; i < length; i++) {
      want[i] = a[i] + b[i];
    }
    Tensor out = bench.garbage("out", length);
    bench.ops.add(out, bench.f32("a", a, length), bench.f32("b", b, length));
    TensorAssert.assertThat("add out", bench.floats(out)).hasBits(want);
    Tensor intoA = bench.f32("a", a, length);
    bench.ops.add(intoA, intoA, bench.f32("b", b, length));
    TensorAssert.assertThat("add into a", bench.floats(intoA)).hasBits(want);
    Tensor intoB = bench.f32("b", b, length);
    bench.ops.add(intoB, bench.f32("a", a, length), intoB);
    TensorAssert.assertThat("add into b", bench.floats(intoB)).hasBits(want);
    Tensor twice = bench.f32("a", a, length);
    bench.ops.add(twice, twice, twice);
    for (int i = 0; i < length; i++) {
      want[i] = a[i] + a[i];
    }
    TensorAssert.assertThat("add of itself", bench.floats(twice)).hasBits(want);
  }

  @Test
  void zeroClearsEveryTypeAndNothingBeside() {
    for (DType dtype : new DType[] {DType.F32, DType.BF16, DType.F16}) {
      Tensor t = bench.weight("t", dtype, new float[] {1, -2, 4, 8, -16, 32}, 3, 2);
      bench.ops.zero(t.slice(1, 2));
      TensorAssert.assertThat("zero " + dtype, bench.floats(t), 3, 2).hasBits(1, -2, 0, 0, -16, 32);
    }
    Tensor ids = bench.ints("ids", 3, -1, 5);
    bench.ops.zero(ids);
    assertThat(bench.ints(ids)).containsExactly(0, 0, 0);
  }

  @ParameterizedTest
  @EnumSource(names = {"BF16", "F16"})
  void castWidensEveryHalfExactly(DType half) {
    float[] all = new float[1 << 16];
    for (int bits = 0; bits < all.length; bits++) {
      all[bits] =
          half == DType.BF16
              ? Float.intBitsToFloat(bits << 16)
              : Float.float16ToFloat((short) bits);
    }
    Tensor out = bench.garbage("out", all.length);
    bench.ops.cast(out, bench.weight("in", half, all, all.length));
    TensorAssert.assertThat("cast " + half + " to F32", bench.floats(out)).hasBits(all);
    // And back again: what a half holds exactly stays.
    Tensor back = bench.weight("back", half, new float[all.length], all.length);
    bench.ops.cast(back, out);
    TensorAssert.assertThat("cast F32 to " + half, bench.floats(back)).hasBits(all);
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16", "F16"})
  void castTakesTensorsOfTheHost(DType dtype) {
    float[] values = Workbench.exactIn(dtype, normal(31, 3 * 1001));
    try (HostArena host = new HostArena()) {
      Tensor in =
          host.allocate("in", dtype, 3, 1001).copyFrom(bench.weight("w", dtype, values, 3, 1001));
      Tensor out = bench.garbage("out", 3, 1001);
      bench.ops.cast(out, in);
      TensorAssert.assertThat("cast from the host", bench.floats(out)).hasBits(values);
      Tensor part = bench.garbage("part", 1001);
      bench.ops.cast(part, in.slice(1, 2).view(1001));
      TensorAssert.assertThat("cast from the host", bench.floats(part))
          .hasBits(java.util.Arrays.copyOfRange(values, 1001, 2002));
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"BF16", "F16"})
  void castRoundsToNearestTiesToEven(DType half) {
    int halves = half == DType.BF16 ? 0x7f7f : 0x7bff; // the largest finite one
    float[] in = new float[6 * 2000];
    double[] low = new double[in.length];
    double[] high = new double[in.length];
    boolean[] lowIsEven = new boolean[in.length];
    for (int i = 0; i < in.length; i++) {
      int bits = (int) ((long) (i / 6) * (halves - 1) / 1999);
      low[i] = widen(half, bits);
      high[i] = widen(half, bits + 1);
      lowIsEven[i] = (bits & 1) == 0;
      double middle = (low[i] + high[i]) / 2;
      in[i] =
          switch (i % 6) {
            case 0 -> (float) middle;
            case 1 -> Math.nextUp((float) middle);
            case 2 -> Math.nextDown((float) middle);
            case 3 -> (float) low[i];
            case 4 -> (float) (low[i] + (high[i] - low[i]) / 4);
            default -> (float) (low[i] + (high[i] - low[i]) / 4 * 3);
          };
    }
    float[] want = new float[in.length];
    for (int i = 0; i < in.length; i++) {
      // Exact comparison: the differences of floats near each other need more than a double.
      BigDecimal value = new BigDecimal((double) in[i]);
      int nearer =
          value.subtract(new BigDecimal(low[i])).compareTo(new BigDecimal(high[i]).subtract(value));
      want[i] = (float) (nearer < 0 || nearer == 0 && lowIsEven[i] ? low[i] : high[i]);
    }
    Tensor out = bench.weight("out", half, new float[in.length], in.length);
    bench.ops.cast(out, bench.f32("in", in, in.length));
    TensorAssert.assertThat("cast to " + half, bench.floats(out)).hasBits(want);
    for (int i = 0; i < in.length; i++) {
      in[i] = -in[i];
      want[i] = -want[i];
    }
    bench.ops.cast(out, bench.f32("in", in, in.length));
    TensorAssert.assertThat("cast of negatives to " + half, bench.floats(out)).hasBits(want);
  }

  private static double widen(DType half, int bits) {
    return half == DType.BF16
        ? Float.intBitsToFloat(bits << 16)
        : Float.float16ToFloat((short) bits);
  }

  @Test
  void castOverflowsToInfinityAndKeepsNan() {
    float[] in = {
      Float.MAX_VALUE,
      -Float.MAX_VALUE,
      Float.POSITIVE_INFINITY,
      Float.NEGATIVE_INFINITY,
      Float.NaN,
      Float.intBitsToFloat(0x7f800001),
      Float.intBitsToFloat(0xffffffff),
      -0f
    };
    float inf = Float.POSITIVE_INFINITY;
    for (DType half : new DType[] {DType.BF16, DType.F16}) {
      Tensor out = bench.weight("out", half, new float[8], 8);
      bench.ops.cast(out, bench.f32("in", in, 8));
      TensorAssert.assertThat("cast to " + half, bench.floats(out))
          .hasBits(inf, -inf, inf, -inf, Float.NaN, Float.NaN, Float.NaN, -0f);
    }
  }

  @Test
  void castBetweenHalvesRoundsOnce() {
    float[] in = {1, -3.5f, 65504, 0x1p-24f, 1 + 0x1p-7f + 0x1p-9f, 1 + 0x1p-8f, 1 + 0x1.8p-7f};
    Tensor bf = bench.weight("bf", DType.BF16, new float[7], 7);
    bench.ops.cast(bf, bench.weight("in", DType.F16, in, 7));
    TensorAssert.assertThat("cast F16 to BF16", bench.floats(bf))
        .hasBits(1, -3.5f, 65536, 0x1p-24f, 1 + 0x1p-7f, 1, 1 + 0x1p-6f);
    Tensor half = bench.weight("half", DType.F16, new float[3], 3);
    bench.ops.cast(half, bench.weight("in", DType.BF16, new float[] {65536, 0x1p-25f, -2}, 3));
    TensorAssert.assertThat("cast BF16 to F16", bench.floats(half))
        .hasBits(Float.POSITIVE_INFINITY, 0, -2);
    Tensor same = bench.garbage("same", 7);
    bench.ops.cast(same, bench.f32("in", in, 7));
    TensorAssert.assertThat("cast F32 to F32", bench.floats(same)).hasBits(in);
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 3, 13, 15, 16, 17, 207, 70_001})
  void sumOfSquaresAccumulatesInDouble(int length) {
    float[] x = normal(10, length);
    x[length / 2] = 1e8f; // its square swallows the others in float
    double sum = 0;
    for (float value : x) {
      sum += (double) value * value;
    }
    double got = bench.ops.sumOfSquares(bench.f32("x", x, length));
    // Rounding of a double sum of positive terms in any order.
    assertThat(Math.abs(got - sum)).isLessThanOrEqualTo(2.0 * length * 0x1p-53 * sum);
    for (int threads = 1; threads <= 3; threads++) {
      try (Workbench on = open(threads)) {
        assertThat(on.ops.sumOfSquares(on.f32("x", x, length))).isEqualTo(got);
      }
    }
    Tensor within = bench.f32("x", concat(new float[3], x), length + 3).slice(3, length + 3);
    assertThat(bench.ops.sumOfSquares(within)).as("at another alignment").isEqualTo(got);
  }

  @Test
  void sumsOfSquaresOfSeveralTensorsAreTheirs() {
    List<Tensor> tensors =
        List.of(
            bench.f32("a", normal(11, 70_001), 70_001),
            bench.f32("b", normal(12, 3), 3),
            bench.f32("c", normal(13, 4 * 17), 4, 17));
    double[] each = tensors.stream().mapToDouble(bench.ops::sumOfSquares).toArray();
    assertThat(bench.ops.sumsOfSquares(tensors)).isEqualTo(each).doesNotContain(0);
    assertThat(bench.ops.sumsOfSquares(List.of())).isEmpty();
  }

  @Test
  void sumOfSquaresReachesBeyondFloatAndCarriesNan() {
    double huge = bench.ops.sumOfSquares(bench.f32("x", new float[] {1e30f, -1e30f}, 2));
    assertThat(huge).isEqualTo(2 * ((double) 1e30f * 1e30f));
    assertThat(bench.ops.sumOfSquares(bench.f32("x", new float[] {1, Float.NaN, 2}, 3))).isNaN();
  }

  private static float[] concat(float[] a, float[] b) {
    float[] both = Arrays.copyOf(a, a.length + b.length);
    System.arraycopy(b, 0, both, a.length, b.length);
    return both;
  }

  private static float[] rowsOf(float[] table, int width, int[] rows) {
    float[] out = new float[rows.length * width];
    for (int n = 0; n < rows.length; n++) {
      System.arraycopy(table, rows[n] * width, out, n * width, width);
    }
    return out;
  }
}
