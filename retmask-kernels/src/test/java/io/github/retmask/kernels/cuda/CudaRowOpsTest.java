package io.github.retmask.kernels.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.AdamWStep;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.CacheLines;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.backend.TensorAssert;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.kernels.cpu.VectorBackend;
import io.github.retmask.tensor.BlockBytes;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Ops of rows and elements where the contract's cases do not reach: rows that a whole block shares,
/// many blocks, any alignment, and BF16. The oracle is the reference on the same
/// values in F32.
///
/// Every case has the same bits at every alignment.
class CudaRowOpsTest {
  /// Half a unit in the last place of BF16, relative; a little more for what F32 lost before.
  private static final double HALF = 0x1.02p-8;

  private static final double EPS = TensorAssert.EPS;

  /// Elements of a case of which every tensor is shifted alone.
  private static final int SMALL = 25_000;

  // --- the bench ------------------------------------------------------------------------------

  private static final int NONE = -1;
  private static final int ALL = -2;

  /// One backend, one type of activations. Tensors begin at a multiple of 16 bytes, or one element
  /// behind: all, or the one of a number.
  private static final class Bench {
    private final Kernels kernels;
    private final TensorArena arena;
    private final DType type;
    private final int shifted;
    private int made;
    private int elements;

    Bench(Kernels kernels, TensorArena arena, DType type, int shifted) {
      this.kernels = kernels;
      this.arena = arena;
      this.type = type;
      this.shifted = shifted;
    }

    /// Activations; what is not exact in BF16 must not be given.
    Tensor in(String name, float[] values, long... dims) {
      return of(name, type, values, dims);
    }

    /// An output, full of NaN.
    Tensor out(String name, long... dims) {
      float[] nan = new float[Math.toIntExact(Shape.of(dims).size())];
      Arrays.fill(nan, Float.NaN);
      return in(name, nan, dims);
    }

    Tensor f32(String name, float[] values, long... dims) {
      return of(name, DType.F32, values, dims);
    }

    Tensor of(String name, DType dtype, float[] values, long... dims) {
      int shift = shifted == ALL || shifted == made ? 1 : 0;
      made++;
      elements += values.length;
      Tensor all = arena.allocate(name, dtype, values.length + shift);
      Tensor part = all.slice(shift, values.length + shift).view(dims);
      return part.copyFrom(host(name, dtype, values, dims));
    }

    Tensor ints(String name, int... values) {
      return arena.ints(name, values);
    }
  }

  private static Tensor host(String name, DType dtype, float[] values, long... dims) {
    byte[] bytes = new byte[Math.toIntExact(dtype.bytes(values.length))];
    Tensor tensor = Tensor.host(name, dtype, Shape.of(dims), MemorySegment.ofArray(bytes));
    if (dtype == DType.F32) {
      return tensor.copyFrom(values);
    }
    try (Kernels reference = new ReferenceBackend().open(1)) {
      HostArena arena = new HostArena();
      reference.cast(tensor, arena.floats(name, dims).copyFrom(values));
      arena.close();
    }
    return tensor;
  }

  private interface Computation {
    List<Tensor> on(Bench bench);
  }

  private static List<float[]> run(Bench bench, Computation work) {
    List<float[]> results = new ArrayList<>();
    for (Tensor result : work.on(bench)) {
      results.add(result.toHost().toFloats());
    }
    return results;
  }

  private static List<float[]> on(Kernels cpu, Computation work) {
    try (cpu;
        TensorArena arena = cpu.arena(TensorArena.Lifetime.STEP)) {
      return run(new Bench(cpu, arena, DType.F32, NONE), work);
    }
  }

  private static List<float[]> reference(Computation work) {
    return on(new ReferenceBackend().open(1), work);
  }

  /// The results on the GPU: the same bits with all tensors shifted, and in small cases with each of
  /// them alone.
  private static List<float[]> onGpu(DType type, Computation work) {
    try (Kernels kernels = TestGpu.open(1);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Bench bench = new Bench(kernels, arena, type, NONE);
      List<float[]> want = run(bench, work);
      int alone = bench.elements > SMALL ? 0 : bench.made;
      for (int shifted = ALL; shifted < alone; shifted++) {
        arena.reset();
        List<float[]> got = run(new Bench(kernels, arena, type, shifted), work);
        for (int i = 0; i < want.size(); i++) {
          assertArrayEquals(want.get(i), got.get(i), "output " + i + ", shifted " + shifted);
        }
      }
      return want;
    }
  }

  /// Outputs in BF16 are what F32 gives, rounded once: within the F32 tolerance and half a unit.
  private static void check(
      String what, DType type, float[] got, float[] want, double[] f32Tolerance) {
    double[] wide = new double[want.length];
    double[] tolerance = new double[want.length];
    for (int i = 0; i < want.length; i++) {
      wide[i] = want[i];
      tolerance[i] = f32Tolerance[i] + (type == DType.BF16 ? HALF * Math.abs(want[i]) : 0);
    }
    TensorAssert.assertThat(what, got).isClose(wide, tolerance, "F32 roundings, then one of BF16");
  }

  private static double[] relative(float[] want, double bound) {
    double[] tolerance = new double[want.length];
    Arrays.setAll(tolerance, i -> bound * Math.abs(want[i]) + Float.MIN_NORMAL);
    return tolerance;
  }

  /// Normal values that BF16 holds exactly.
  private static float[] normal(long seed, int length) {
    Random random = new Random(seed);
    float[] values = new float[length];
    for (int i = 0; i < length; i++) {
      int bits = Float.floatToRawIntBits((float) random.nextGaussian());
      values[i] = Float.intBitsToFloat(bits & 0xffff0000);
    }
    return values;
  }

  private static float[] rounded(DType type, float[] values) {
    return host("rounded", type, values, values.length).toFloats();
  }

  // --- rms_norm -------------------------------------------------------------------------------

  @ParameterizedTest
  @CsvSource({
    "F32,5,300",
    "F32,3,516",
    "F32,2,1000",
    "F32,2,4100",
    "F32,2,9001",
    "F32,1500,64",
    "F32,40,9",
    "BF16,11,520",
    "BF16,3,1032",
    "BF16,2,4096",
    "BF16,2,17000",
    "BF16,2000,128",
    "BF16,5,333",
    "BF16,40,9"
  })
  void rmsNormOfLongRowsAndOfMany(DType type, int rows, int width) {
    float[] x = normal(1, rows * width);
    float[] w = normal(2, width);
    DType weights = width % 3 == 0 ? DType.F32 : DType.BF16;
    Computation work =
        on -> {
          Tensor out = on.out("out", rows, width);
          Tensor rstd = on.f32("rstd", new float[rows], rows);
          Tensor weight = on.of("weight", weights, w, width);
          on.kernels.rmsNorm(out, rstd, on.in("x", x, rows, width), weight, 1e-6f);
          return List.of(out, rstd);
        };
    checkNorm(type, reference(work), onGpu(type, work));
  }

  @ParameterizedTest
  @CsvSource({
    "F32,5,300",
    "F32,3,516",
    "F32,2,9001",
    "F32,300,64",
    "F32,40,9",
    "BF16,2,4096",
    "BF16,2,17000",
    "BF16,300,128",
    "BF16,5,333"
  })
  void theNormOfASumIsTheSumThenItsNorm(DType type, int rows, int width) {
    float[] a = normal(1, rows * width);
    float[] b = normal(2, rows * width);
    float[] w = normal(3, width);
    Computation together =
        on -> {
          Tensor out = on.out("out", rows, width);
          Tensor rstd = on.f32("rstd", new float[rows], rows);
          Tensor first = on.in("a", a, rows, width);
          Tensor second = on.in("b", b, rows, width);
          Tensor weight = on.f32("weight", w, width);
          Tensor sum = rows % 2 == 0 ? first : on.out("sum", rows, width);
          on.kernels.addRmsNorm(out, rstd, sum, first, second, weight, 1e-6f);
          return List.of(sum, out, rstd);
        };
    Computation apart =
        on -> {
          Tensor out = on.out("out", rows, width);
          Tensor rstd = on.f32("rstd", new float[rows], rows);
          Tensor sum = on.in("a", a, rows, width);
          on.kernels.add(sum, sum, on.in("b", b, rows, width));
          on.kernels.rmsNorm(out, rstd, sum, on.f32("weight", w, width), 1e-6f);
          return List.of(sum, out, rstd);
        };
    List<float[]> want = onGpu(type, apart);
    List<float[]> got = onGpu(type, together);
    for (int i = 0; i < want.size(); i++) {
      assertArrayEquals(want.get(i), got.get(i), "output " + i);
    }
  }

  private static void checkNorm(DType type, List<float[]> want, List<float[]> got) {
    // A sum in 8 and more parts of at most 64 terms, halved by the root, and some roundings.
    check("out", type, got.get(0), want.get(0), relative(want.get(0), 60 * EPS));
    check("rstd", DType.F32, got.get(1), want.get(1), relative(want.get(1), 60 * EPS));
  }

  @ParameterizedTest
  @CsvSource({
    "F32,5,300",
    "F32,3,2048",
    "F32,3,8192",
    "F32,3,8200",
    "BF16,2,8192",
    "F32,1025,768",
    "F32,520,264",
    "F32,8300,68",
    "F32,70,9",
    "F32,70,257",
    "BF16,5,300",
    "BF16,3,4096",
    "BF16,2,9000",
    "BF16,1500,264",
    "BF16,3000,64",
    "BF16,70,9",
    "BF16,9,64"
  })
  void rmsNormBackwardOfLongRowsAndOfMany(DType type, int rows, int width) {
    float[] x = normal(3, rows * width);
    float[] d = normal(4, rows * width);
    float[] w = normal(5, width);
    float[] before = normal(6, rows * width);
    float[] rstd = new float[rows];
    for (int r = 0; r < rows; r++) {
      rstd[r] = 0.75f + r % 5 * 0.125f;
    }
    for (Accumulate into : Accumulate.values()) {
      Computation work =
          on -> {
            Tensor dx = on.in("dx", before, rows, width);
            Tensor dWeight = on.f32("dWeight", normal(7, width), width);
            on.kernels.rmsNormBackward(
                dx,
                dWeight,
                on.in("dOut", d, rows, width),
                on.in("x", x, rows, width),
                on.f32("rstd", rstd, rows),
                on.f32("weight", w, width),
                into);
            return List.of(dx, dWeight);
          };
      List<float[]> want = reference(work);
      List<float[]> got = onGpu(type, work);
      double[] dxTolerance = new double[rows * width];
      double[] dWeightTolerance = new double[width];
      Arrays.fill(dWeightTolerance, 8 * EPS);
      for (int r = 0; r < rows; r++) {
        double mean = 0;
        for (int i = 0; i < width; i++) {
          int at = r * width + i;
          mean += Math.abs(d[at] * w[i] * x[at]) / width;
          // Chains of at most 64 and trees; 24 is the sum's error in units of its mean magnitude.
          dWeightTolerance[i] += 24 * EPS * Math.abs(d[at] * x[at] * rstd[r]);
        }
        for (int i = 0; i < width; i++) {
          int at = r * width + i;
          double scale = rstd[r];
          dxTolerance[at] =
              80
                      * EPS
                      * (scale * Math.abs(d[at] * w[i])
                          + scale * scale * scale * mean * Math.abs(x[at]))
                  + 2 * EPS * Math.abs(before[at]);
        }
      }
      check("dx " + into, type, got.get(0), want.get(0), dxTolerance);
      check("dWeight " + into, DType.F32, got.get(1), want.get(1), dWeightTolerance);
    }
  }

  // --- rows -----------------------------------------------------------------------------------

  @ParameterizedTest
  @CsvSource({
    "F32,F32,5000",
    "F32,F32,8200",
    "F32,BF16,5001",
    "F32,F16,70",
    "BF16,BF16,9000",
    "BF16,F32,1023",
    "BF16,F16,64",
    "F32,BF16,1"
  })
  void embeddingOfLongRowsAndOfManyShortOnes(DType type, DType weights, int width) {
    int tokens = width > 1000 ? 3 : 700;
    float[] table = normal(8, 11 * width);
    int[] ids = new Random(9).ints(tokens, 0, 11).toArray();
    Computation work =
        on -> {
          Tensor out = on.out("out", tokens, width);
          on.kernels.embedding(out, on.ints("ids", ids), on.of("table", weights, table, 11, width));
          return List.of(out);
        };
    // What F16 rounded is exact in F32, and BF16 rounds it once more.
    float[] want = rounded(type, reference(work).getFirst());
    assertArrayEquals(want, onGpu(type, work).getFirst());
  }

  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void blocksAreDecodedByEmbeddingAndCast(DType blocks) {
    BlockBytes bytes = BlockBytes.random(blocks, 10, 7 * 512);
    int[] ids = {6, 0, 3, 3};
    for (DType type : new DType[] {DType.F32, DType.BF16}) {
      float[] want = rounded(type, bytes.values());
      float[] rows = new float[ids.length * 512];
      for (int n = 0; n < ids.length; n++) {
        System.arraycopy(want, ids[n] * 512, rows, n * 512, 512);
      }
      Computation work =
          on -> {
            Tensor table = on.arena.allocate("table", blocks, 7, 512);
            table.copyFrom(
                Tensor.host(
                    "host", blocks, Shape.of(7, 512), MemorySegment.ofArray(bytes.bytes())));
            Tensor out = on.out("out", ids.length, 512);
            on.kernels.embedding(out, on.ints("ids", ids), table);
            Tensor cast = on.out("cast", 7, 512);
            on.kernels.cast(cast, table);
            return List.of(out, cast);
          };
      List<float[]> got = onGpu(type, work);
      TensorAssert.assertThat("embedding of " + blocks, got.get(0)).hasBits(rows);
      TensorAssert.assertThat("cast of " + blocks, got.get(1)).hasBits(want);
    }
  }

  @ParameterizedTest
  @CsvSource({"F32,3000,50,30", "F32,40,4,1030", "BF16,3000,50,30", "BF16,40,4,1030", "F32,0,3,8"})
  void embeddingBackwardAddsEqualIdsInOrder(DType type, int tokens, int vocab, int width) {
    float[] d = normal(11, tokens * width);
    int[] ids = new int[tokens];
    Random random = new Random(12);
    Arrays.setAll(ids, n -> random.nextInt(1 + random.nextInt(vocab))); // some are frequent
    Computation work =
        on -> {
          Tensor dTable = on.f32("dTable", normal(13, vocab * width), vocab, width);
          on.kernels.embeddingBackward(
              dTable, on.in("dOut", d, tokens, width), on.ints("ids", ids));
          return List.of(dTable);
        };
    assertArrayEquals(reference(work).getFirst(), onGpu(type, work).getFirst());
  }

  @ParameterizedTest
  @CsvSource({
    "F32,3,5000",
    "F32,3,8200",
    "F32,500,3",
    "F32,500,8",
    "BF16,3,9001",
    "BF16,500,3",
    "BF16,500,8",
    "BF16,500,1"
  })
  void gatherAndScatterCopyRowsOfAnyLength(DType type, int rows, int width) {
    float[] in = normal(14, rows * width);
    int[] order = new int[rows];
    Arrays.setAll(order, n -> (n * 7 + 2) % rows); // a permutation, as 7 divides no number of rows
    Computation work =
        on -> {
          Tensor x = on.in("in", in, rows, width);
          Tensor gathered = on.out("gathered", rows, width);
          on.kernels.gatherRows(gathered, x, on.ints("order", order));
          Tensor scattered = on.out("scattered", rows + 1, width);
          on.kernels.scatterRows(scattered, x, on.ints("order", order));
          return List.of(gathered, scattered);
        };
    List<float[]> want = reference(work);
    List<float[]> got = onGpu(type, work);
    assertArrayEquals(want.get(0), got.get(0));
    assertArrayEquals(want.get(1), got.get(1)); // the last row is still NaN
  }

  // --- elements -------------------------------------------------------------------------------

  @ParameterizedTest
  @ValueSource(ints = {7, 8, 200_003})
  void addInBfloat16RoundsOnce(int length) {
    Computation work =
        on -> {
          Tensor out = on.out("out", length);
          Tensor b = on.in("b", normal(16, length), length);
          on.kernels.add(out, on.in("a", normal(15, length), length), b);
          on.kernels.add(b, out, b);
          return List.of(out, b);
        };
    List<float[]> got = onGpu(DType.BF16, work);
    float[] sum = rounded(DType.BF16, reference(work).getFirst());
    assertArrayEquals(sum, got.get(0));
    float[] b = normal(16, length);
    float[] twice = new float[length];
    for (int i = 0; i < length; i++) {
      twice[i] = sum[i] + b[i];
    }
    assertArrayEquals(rounded(DType.BF16, twice), got.get(1));
  }

  @ParameterizedTest
  @CsvSource({"F32,BF16", "F32,F16", "BF16,F32", "BF16,F16", "F16,F32", "F16,BF16"})
  void castsRoundOnceAtAnyAlignment(DType to, DType from) {
    int length = 2051; // more than a block takes
    Random random = new Random(27);
    float[] values = new float[length];
    for (int i = 0; i < length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    Computation work =
        on -> {
          Tensor out = on.of("out", to, new float[length], length);
          on.kernels.cast(out, on.of("in", from, values, length));
          return List.of(out);
        };
    float[] want = rounded(to, rounded(from, values));
    assertArrayEquals(want, onGpu(DType.F32, work).getFirst());
  }

  @ParameterizedTest
  @CsvSource({"F32,1003", "F32,70003", "BF16,1003", "BF16,70003"})
  void swigluInBothTypes(DType type, int length) {
    float[] gate = normal(17, length);
    for (int i = 0; i < length; i += 3) {
      gate[i] *= 16;
    }
    float[] up = normal(18, length);
    float[] d = normal(19, length);
    Computation work =
        on -> {
          Tensor g = on.in("gate", gate, 1, length);
          Tensor u = on.in("up", up, 1, length);
          Tensor out = on.out("out", 1, length);
          on.kernels.swiglu(out, g, u);
          Tensor dGate = on.out("dGate", 1, length);
          Tensor dUp = on.in("dOut", d, 1, length);
          on.kernels.swigluBackward(dGate, dUp, dUp, g, u);
          return List.of(out, dGate, dUp);
        };
    List<float[]> want = reference(work);
    List<float[]> got = onGpu(type, work);
    // The fast exponential and quotient of BF16 are good to 2^-20, far below its unit.
    double bound = type == DType.F32 ? 16 * EPS : 0x1p-20;
    check("out", type, got.get(0), want.get(0), relative(want.get(0), bound));
    check("dUp", type, got.get(2), want.get(2), relative(want.get(2), bound));
    double[] slope = new double[length]; // 1 + gate (1 - s) cancels
    Arrays.setAll(slope, i -> bound * Math.abs(d[i] * up[i]) * (1 + Math.abs(gate[i])));
    check("dGate", type, got.get(1), want.get(1), slope);
  }

  @Test
  void adamWHasTheBitsOfTheCpuAndTheWeightIsTheMasterRounded() {
    int length = 3003;
    float[] v = normal(30, length);
    for (int i = 0; i < length; i++) {
      v[i] *= v[i];
    }
    AdamWStep step = new AdamWStep(7, 0.1, 0.8, 0.99, 1e-5, 0.5, 0.9);
    Computation work =
        on -> {
          Tensor param = on.f32("param", normal(31, length), length);
          Tensor grad = on.f32("grad", normal(32, length), length);
          Tensor first = on.f32("m", normal(33, length), length);
          Tensor second = on.f32("v", v, length);
          Tensor weight = on.of("weight", DType.BF16, new float[length], length);
          on.kernels.adamW(param, grad, first, second, step);
          on.kernels.adamW(weight, param, grad, first, second, step);
          return List.of(param, first, second, weight);
        };
    List<float[]> want = on(new VectorBackend().open(1), work);
    List<float[]> got = onGpu(DType.F32, work);
    for (int i = 0; i < 4; i++) {
      assertArrayEquals(want.get(i), got.get(i), "output " + i);
    }
  }

  @Test
  void sumOfSquaresOfMoreThanTheLargestNumberOfParts() {
    int length = (1 << 23) + 12_345;
    float[] x = normal(20, 1 << 16);
    double want = 0;
    float[] all = new float[length];
    for (int i = 0; i < length; i++) {
      all[i] = x[i & 0xffff];
      want += (double) all[i] * all[i];
    }
    try (Kernels kernels = TestGpu.open(1);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Tensor tensor = arena.floats("x", length).copyFrom(all);
      assertEquals(want, kernels.sumOfSquares(tensor), 1e-12 * want);
      assertEquals(0, kernels.sumOfSquares(arena.floats("none", 0)));
      Tensor half = arena.allocate("half", DType.BF16, 1 << 16);
      kernels.cast(half, tensor.slice(0, 1 << 16));
      assertEquals(kernels.sumOfSquares(tensor.slice(0, 1 << 16)), kernels.sumOfSquares(half));
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void sumOfSquaresLeavesOutWhatLiesBehind(DType type) {
    float[] x = new float[4096];
    Arrays.fill(x, Float.NaN);
    try (Kernels kernels = TestGpu.open(1);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Tensor all = arena.allocate("x", type, x.length);
      for (int length : new int[] {1, 1021, 4093, 4095}) {
        Arrays.fill(x, 0, length, 2);
        all.copyFrom(host("x", type, x, x.length));
        assertEquals(4.0 * length, kernels.sumOfSquares(all.slice(0, length)));
      }
    }
  }

  // --- heads ----------------------------------------------------------------------------------

  @ParameterizedTest
  @CsvSource({
    "F32,128,128",
    "F32,16,8",
    "F32,96,90",
    "BF16,128,128",
    "BF16,32,16",
    "BF16,80,64",
    "BF16,7,6"
  })
  void ropeOfManyTokens(DType type, int headDim, int rotated) {
    int tokens = 30;
    int heads = 5;
    int half = rotated / 2;
    float[] x = normal(21, tokens * heads * headDim);
    float[] cos = normal(22, 40 * half);
    float[] sin = normal(23, 40 * half);
    int[] positions = new int[tokens];
    Arrays.setAll(positions, n -> 39 - n);
    Computation work =
        on -> {
          Tensor in = on.in("x", x, tokens, heads, headDim);
          Tensor out = on.out("out", tokens, heads, headDim);
          Tensor c = on.f32("cos", cos, 40, half);
          Tensor s = on.f32("sin", sin, 40, half);
          on.kernels.rope(out, in, c, s, on.ints("positions", positions));
          on.kernels.ropeBackward(in, in, c, s, on.ints("positions", positions));
          return List.of(out, in);
        };
    List<float[]> want = reference(work);
    List<float[]> got = onGpu(type, work);
    for (int i = 0; i < 2; i++) {
      double[] tolerance = new double[x.length];
      Arrays.fill(tolerance, 3 * EPS * 32); // products of normal values stay below 32
      check("rope " + i, type, got.get(i), want.get(i), tolerance);
    }
  }

  @ParameterizedTest
  @CsvSource({
    "F32,30,5,128,128,128",
    "F32,1,32,64,64,2048",
    "F32,9,3,24,16,24",
    "F32,9,3,12,6,36",
    "BF16,30,5,128,128,128",
    "BF16,1,32,128,128,4096",
    "BF16,3,8,96,32,96",
    "BF16,9,2,32,16,32",
    "BF16,9,3,16,8,0",
    "BF16,5,3,7,6,21",
    "BF16,70,2,64,64,0"
  })
  void normRopeHasTheBitsOfItsParts(
      DType type, int tokens, int heads, int headDim, int rotated, int width) {
    int half = rotated / 2;
    int size = tokens * heads * headDim;
    int[] positions = new int[tokens];
    Arrays.setAll(positions, n -> 79 - n);
    int[] rows = new int[tokens];
    Arrays.setAll(rows, n -> (11 * n + 5) % 80);
    for (boolean cached : new boolean[] {true, false}) {
      assertNormRope(type, tokens, heads, headDim, half, width, size, positions, rows, cached);
    }
  }

  private static void assertNormRope(
      DType type,
      int tokens,
      int heads,
      int headDim,
      int half,
      int width,
      int size,
      int[] positions,
      int[] rows,
      boolean cached) {
    List<List<float[]>> results = new ArrayList<>();
    for (boolean atOnce : new boolean[] {true, false}) {
      Computation work =
          on -> {
            Tensor x = on.in("x", normal(40, size), tokens, heads, headDim);
            Tensor out = on.out("out", tokens, heads, headDim);
            Tensor c = on.f32("cos", normal(41, 80 * half), 80, half);
            Tensor s = on.f32("sin", normal(42, 80 * half), 80, half);
            Tensor v = on.in("v", normal(43, size), tokens, heads, headDim);
            Tensor keys = on.in("keys", normal(44, 80 * heads * headDim), 80, heads, headDim);
            Tensor values = on.in("values", normal(45, 80 * heads * headDim), 80, heads, headDim);
            Tensor rstd = width == 0 ? null : on.f32("rstd", new float[size / width], size / width);
            Tensor norm = width == 0 ? null : on.in("norm", normal(46, width), width);
            Tensor places = on.ints("positions", positions);
            CacheLines cache = new CacheLines(keys, values, on.ints("rows", rows));
            Kernels k = on.kernels;
            if (atOnce) {
              k.normRope(
                  out,
                  rstd,
                  x,
                  norm,
                  1e-5f,
                  c,
                  s,
                  places,
                  cached ? v : null,
                  cached ? cache : null);
            } else {
              Tensor normed = x;
              if (norm != null) {
                normed = out;
                long n = rstd.size();
                k.rmsNorm(out.view(n, width), rstd, x.view(n, width), norm, 1e-5f);
              }
              k.rope(out, normed, c, s, places);
              if (cached) {
                k.scatterRows(keys, out, cache.rows());
                k.scatterRows(values, v, cache.rows());
              }
            }
            return width == 0 ? List.of(out, x, keys, values) : List.of(out, x, keys, values, rstd);
          };
      results.add(onGpu(type, work));
    }
    for (int i = 0; i < results.getFirst().size(); i++) {
      assertArrayEquals(results.get(1).get(i), results.get(0).get(i), "output " + i);
    }
  }

  @ParameterizedTest
  @CsvSource({
    "F32,11,64,100",
    "F32,11,17,100",
    "F32,4,8,100",
    "F32,4,3,1100", // more tiles than lanes
    "BF16,11,128,100",
    "BF16,11,20,100",
    "BF16,4,8,100"
  })
  void headGateOfRowsOfSeveralTiles(DType type, int heads, int headDim, int longest) {
    BatchLayout layout = BatchLayout.packed(longest, 1, 33, 32);
    int size = layout.tokens() * heads * headDim;
    float[] z = normal(24, size);
    float[] d = normal(25, size);
    HeadMask mask = HeadMask.none(1, heads).withGate(List.of(new HeadId(0, 3)), 0.375f);
    mask = mask.withGate(List.of(new HeadId(0, 1)), 1.5f);
    HeadMask off = mask.withGate(List.of(new HeadId(0, 2)), 0f);
    HeadPlan plan = HeadPlan.of(List.of(mask, off, off, mask), 0, headDim, true);
    Computation work =
        on -> {
          Tensor in = on.in("z", z, layout.tokens(), heads, headDim);
          Tensor out = on.out("out", layout.tokens(), heads, headDim);
          on.kernels.headGate(out, in, layout, plan);
          Tensor dz = on.in("dz", d, layout.tokens(), heads, headDim);
          Tensor dGates = on.f32("dGates", normal(26, 4 * heads), 4, heads);
          on.kernels.headGateBackward(dz, dGates, dz, in, layout, plan);
          on.kernels.headGate(in, in, layout, plan);
          return List.of(out, dz, in, dGates);
        };
    List<float[]> want = reference(work);
    List<float[]> got = onGpu(type, work);
    for (int i = 0; i < 3; i++) {
      assertArrayEquals(rounded(type, want.get(i)), got.get(i));
    }
    double[] tolerance = new double[4 * heads];
    Arrays.fill(tolerance, 4 * EPS);
    for (int i = 0; i < size; i++) {
      int cell = layout.rowOf(i / headDim / heads) * heads + i / headDim % heads;
      tolerance[cell] += 24 * EPS * Math.abs(d[i] * z[i]);
    }
    check("dGates", DType.F32, got.get(3), want.get(3), tolerance);
  }
}
