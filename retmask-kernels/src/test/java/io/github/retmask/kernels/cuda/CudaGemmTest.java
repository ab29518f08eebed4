package io.github.retmask.kernels.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Projection;
import io.github.retmask.backend.TensorAssert;
import io.github.retmask.tensor.BlockBytes;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/// Products of BF16 matrices: our own kernels in every tile, cuBLAS, and what the ops choose.
class CudaGemmTest {
  private static final double EPS = TensorAssert.EPS;

  /// Half a unit in the last place of BF16, relative; a little more for what F32 lost before.
  private static final double HALF = 0x1.02p-8;

  private static final String SOURCE = "an F32 sum of exact products, rounded once";

  private final Random random = new Random(11);

  @AfterEach
  void recover() {
    EmulatedGpu.recover();
  }

  /// Normal values that BF16 holds exactly.
  private float[] normal(int length) {
    float[] values = new float[length];
    for (int i = 0; i < length; i++) {
      int bits = Float.floatToRawIntBits((float) random.nextGaussian());
      values[i] = Float.intBitsToFloat(bits & 0xffff0000);
    }
    return values;
  }

  /// A matrix that begins `shift` elements into its memory.
  private static Tensor matrix(
      TensorArena arena, DType type, float[] values, int shift, int rows, int columns) {
    Tensor part =
        arena
            .allocate("matrix", type, values.length + shift)
            .slice(shift, values.length + shift)
            .view(rows, columns);
    if (type == DType.F32) {
      return part.copyFrom(values);
    }
    short[] halves = new short[values.length];
    for (int i = 0; i < halves.length; i++) {
      halves[i] = (short) (Float.floatToRawIntBits(values[i]) >>> 16);
    }
    byte[] bytes = new byte[2 * values.length];
    MemorySegment.copy(
        halves,
        0,
        MemorySegment.ofArray(bytes),
        ValueLayout.JAVA_SHORT_UNALIGNED,
        0,
        halves.length);
    return part.copyFrom(
        Tensor.host("matrix", type, Shape.of(rows, columns), MemorySegment.ofArray(bytes)));
  }

  /// `C[m,n] = before + sum_k A[m,k] B[k,n]` in double, with the bound of an F32 sum in any order.
  ///
  /// @param roundsTwice whether the product may be rounded before it is added
  private static void check(
      String what,
      Tensor got,
      float[] before,
      Element a,
      Element b,
      int steps,
      boolean roundsTwice) {
    int rows = (int) got.dim(0);
    int columns = (int) got.dim(1);
    double[] want = new double[rows * columns];
    double[] tolerance = new double[want.length];
    for (int i = 0; i < want.length; i++) {
      int m = i / columns;
      int n = i % columns;
      want[i] = before[i];
      double abs = Math.abs(before[i]);
      for (int k = 0; k < steps; k++) {
        double product = (double) a.at(m, k) * b.at(k, n);
        want[i] += product;
        abs += Math.abs(product);
      }
      tolerance[i] = (steps + 2) * EPS * abs;
      if (got.dtype() == DType.BF16) {
        double product = roundsTwice ? Math.abs(want[i] - before[i]) : 0;
        tolerance[i] += HALF * (Math.abs(want[i]) + product + tolerance[i]);
      }
    }
    TensorAssert.assertThat(what, got.toFloats(), rows, columns).isClose(want, tolerance, SOURCE);
  }

  private interface Element {
    float at(int row, int column);
  }

  private static Element in(float[] matrix, int columns) {
    return (r, c) -> matrix[r * columns + c];
  }

  private static Element transposed(float[] matrix, int columns) {
    return (r, c) -> matrix[c * columns + r];
  }

  /// The products under test.
  private interface Products {
    void forward(Tensor out, Tensor x, Tensor weight, Tensor bias);

    void backwardInput(Tensor dx, Tensor dOut, Tensor weight, Accumulate into);

    void backwardWeight(Tensor dWeight, Tensor dOut, Tensor x);

    /// Whether a product in BF16 is rounded before it is added to anything.
    default boolean roundsTwice() {
      return false;
    }
  }

  /// All three products of one shape, `[N,I] x [O,I]`.
  private void checkAll(
      TensorArena arena, Products products, DType outs, int shift, int rows, int inner, int width) {
    float[] x = normal(rows * inner);
    float[] w = normal(width * inner);
    float[] bias = normal(width);
    float[] biasRows = new float[rows * width];
    for (int i = 0; i < biasRows.length; i++) {
      biasRows[i] = bias[i % width];
    }
    Tensor onDevice = matrix(arena, DType.BF16, x, shift, rows, inner);
    Tensor weight = matrix(arena, DType.BF16, w, shift, width, inner);
    Tensor out = matrix(arena, outs, nan(rows * width), shift, rows, width);
    products.forward(out, onDevice, weight, matrix(arena, outs, bias, 0, 1, width).view(width));
    check("out", out, biasRows, in(x, inner), transposed(w, inner), inner, products.roundsTwice());

    float[] d = normal(rows * width);
    Tensor dOut = matrix(arena, DType.BF16, d, shift, rows, width);
    for (Accumulate into : Accumulate.values()) {
      float[] before = into == Accumulate.ADD ? normal(rows * inner) : nan(rows * inner);
      Tensor dx = matrix(arena, DType.BF16, before, shift, rows, inner);
      products.backwardInput(dx, dOut, weight, into);
      float[] from = into == Accumulate.ADD ? before : new float[rows * inner];
      check("dx " + into, dx, from, in(d, width), in(w, inner), width, products.roundsTwice());
    }

    float[] before = normal(width * inner);
    Tensor dWeight = matrix(arena, DType.F32, before, shift, width, inner);
    products.backwardWeight(dWeight, dOut, onDevice);
    check("dWeight", dWeight, before, transposed(d, width), in(x, inner), rows, false);
  }

  private static float[] nan(int count) {
    float[] values = new float[count];
    Arrays.fill(values, Float.NaN);
    return values;
  }

  private static Products inTiles(TensorCoreGemm gemm, TensorCoreGemm.Tile tile) {
    TensorCoreGemm.Tile backward =
        tile == TensorCoreGemm.Tile.SKINNY ? TensorCoreGemm.Tile.SMALL : tile;
    return new Products() {
      @Override
      public void forward(Tensor out, Tensor x, Tensor weight, Tensor bias) {
        gemm.forward(tile, out, x, weight, bias);
      }

      @Override
      public void backwardInput(Tensor dx, Tensor dOut, Tensor weight, Accumulate into) {
        gemm.backwardInput(backward, dx, dOut, weight, into);
      }

      @Override
      public void backwardWeight(Tensor dWeight, Tensor dOut, Tensor x) {
        gemm.backwardWeight(backward, dWeight, dOut, x);
      }
    };
  }

  @ParameterizedTest
  @EnumSource
  void tensorCoresMultiplyInEveryTile(TensorCoreGemm.Tile tile) {
    try (Kernels cuda = TestGpu.open(1);
        TensorArena arena = cuda.arena(TensorArena.Lifetime.STEP)) {
      Gpu gpu = ((CudaKernels) cuda).op();
      try (TensorCoreGemm gemm = new TensorCoreGemm(gpu)) {
        Products products = inTiles(gemm, tile);
        checkAll(arena, products, DType.BF16, 0, 1, 8, 8);
        checkAll(
            arena, products, DType.BF16, 0, tile.m + 8, 296, tile.n + 8); // wide, rings go round
        checkAll(arena, products, DType.F32, 0, tile.m - 7, 72, tile.n - 9); // not all wide
        checkAll(arena, products, DType.BF16, 0, 19, 12, 20); // half a chunk
        checkAll(arena, products, DType.BF16, 1, 19, 33, 21);
        checkAll(arena, products, DType.BF16, 1, 19, 24, 16); // wide but for where it begins
        checkAll(arena, products, DType.F32, 0, 16, 21, 24); // lines in chunks, steps not
        checkAll(arena, products, DType.F32, 3, 5, 1, 3);
      }
    }
  }

  @Test
  void cublasGivesTheSameProducts() {
    if (!TestGpu.isReal()) {
      System.setProperty(CublasLibrary.PROPERTY, EmulatedGpu.cublas().toString());
    }
    try (Kernels cuda = TestGpu.open(1);
        TensorArena arena = cuda.arena(TensorArena.Lifetime.STEP)) {
      String why = CublasLibrary.load();
      Assumptions.assumeTrue(why == null, "NOT TESTED: products by cuBLAS: " + why);
      checkCublas(arena, ((CudaKernels) cuda).op());
    } finally {
      System.clearProperty(CublasLibrary.PROPERTY);
    }
  }

  private void checkCublas(TensorArena arena, Gpu gpu) {
    try (CublasGemm gemm = new CublasGemm(gpu)) {
      Products products =
          new Products() {
            @Override
            public void forward(Tensor out, Tensor x, Tensor weight, Tensor bias) {
              gemm.forward(out, x, weight, bias);
            }

            @Override
            public void backwardInput(Tensor dx, Tensor dOut, Tensor weight, Accumulate into) {
              gemm.backwardInput(dx, dOut, weight, into);
            }

            @Override
            public void backwardWeight(Tensor dWeight, Tensor dOut, Tensor x) {
              gemm.backwardWeight(dWeight, dOut, x);
            }

            @Override
            public boolean roundsTwice() {
              return true; // seen with cuBLAS 13 on an H100
            }
          };
      assertTrue(gemm.name().startsWith("cuBLAS 1"), gemm.name());
      checkAll(arena, products, DType.BF16, 0, 40, 72, 24);
      checkAll(arena, products, DType.F32, 1, 7, 33, 21);
      checkAll(arena, products, DType.BF16, 0, 3, 2, 300); // a row of biases takes two blocks
      checkAll(arena, products, DType.F32, 0, 1, 1, 1);
      Tensor tooFar = matrix(arena, DType.BF16, normal(6), 0, 2, 3);
      Tensor weight = matrix(arena, DType.BF16, normal(6), 0, 3, 2);
      assertThrows(
          IllegalStateException.class,
          () -> gemm.forward(tooFar, tooFar.view(3, 2), weight.view(2, 3), null),
          "leading dimension 2 of 3 columns");
    }
  }

  /// JCuda's binding asks for CUDA 12's library; in a JVM that has only CUDA 13's it is changed.
  @Test
  void cublas13IsAsGoodAs12() throws Exception {
    Assumptions.assumeFalse(TestGpu.isReal(), "skipped: the names are those of stand-ins");
    List<String> command =
        new ArrayList<>(
            List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--add-modules",
                "jdk.incubator.vector",
                "--enable-native-access=ALL-UNNAMED",
                "-D" + CudaLibrary.DRIVER_PROPERTY + "=" + EmulatedGpu.driver(),
                "-D" + CublasLibrary.PROPERTY + "=" + EmulatedGpu.cublas(13),
                "-cp",
                System.getProperty("java.class.path"),
                CudaGemmTest.class.getName()));
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), output);
    assertTrue(output.contains("multiplied by cuBLAS 12.0"), output); // what the stand-in says
  }

  static void main(String[] args) {
    try (Kernels cuda = new CudaBackend().open(1);
        TensorArena arena = cuda.arena(TensorArena.Lifetime.STEP)) {
      Gpu gpu = ((CudaKernels) cuda).op();
      String name = gpu.gemm().name(); // loads the library
      new CudaGemmTest().checkCublas(arena, gpu);
      System.out.println("multiplied by " + name);
    }
  }

  @Test
  void anObjectThatDoesNotNeedTheLibraryIsRefused() throws Exception {
    Assumptions.assumeFalse(TestGpu.isReal(), "skipped: the object is a stand-in");
    byte[] driver = Files.readAllBytes(EmulatedGpu.driver());
    assertThrows(
        IllegalStateException.class,
        () -> ElfNeeds.renamed(driver, "libcublas.so.12", "libcublas.so.13"));
  }

  // --- what the ops choose --------------------------------------------------------------------

  static Stream<DType> weights() {
    return Stream.of(DType.values()).filter(DType::isFloat);
  }

  @ParameterizedTest
  @MethodSource("weights")
  void linearLayersOfAnyWeight(DType type) {
    for (int rows : new int[] {1, 3, 8, 9, 40}) {
      for (int inner : new int[] {256, 1024}) {
        linear(type, rows, inner, 37);
      }
      if (!type.isBlock()) {
        linear(type, rows, 517, 19);
        linear(type, rows, 1064, 19); // few rows: a second turn, not whole
      }
    }
  }

  private void linear(DType type, int rows, int inner, int width) {
    float[] x = normal(rows * inner);
    float[] bias = normal(width);
    try (Kernels cuda = TestGpu.open(1);
        TensorArena arena = cuda.arena(TensorArena.Lifetime.STEP)) {
      Tensor weight = arena.allocate("weight", type, width, inner);
      if (type.isBlock()) {
        byte[] blocks = BlockBytes.random(type, rows, width * inner).bytes();
        weight.copyFrom(Tensor.host("weight", type, weight.shape(), MemorySegment.ofArray(blocks)));
      } else {
        cuda.cast(weight, matrix(arena, DType.F32, normal(width * inner), 0, width, inner));
      }
      Tensor halves = arena.allocate("halves", DType.BF16, width, inner);
      cuda.cast(halves, weight);
      float[] biasRows = new float[rows * width];
      for (int i = 0; i < biasRows.length; i++) {
        biasRows[i] = bias[i % width];
      }
      for (DType outs : new DType[] {DType.BF16, DType.F32}) {
        Tensor out = arena.allocate("out", outs, rows, width);
        cuda.matmul(
            out,
            matrix(arena, DType.BF16, x, 0, rows, inner),
            weight,
            matrix(arena, DType.BF16, bias, 0, 1, width).view(width));
        float[] w = halves.toFloats();
        check("out " + outs, out, biasRows, in(x, inner), transposed(w, inner), inner, false);
      }
    }
  }

  /// Of several weights for one input, whatever their lengths, biases and outputs: the bits of each
  /// alone.
  @Test
  void linearLayersOfOneInput() {
    for (int rows : new int[] {1, 3, 8, 9}) {
      together(rows, DType.BF16, DType.BF16, DType.BF16);
      together(rows, DType.F32, DType.F32, DType.F32);
      together(rows, DType.BF16, DType.BF16);
      together(rows, DType.BF16, DType.F32);
      together(rows, DType.BF16, DType.BF16, DType.BF16, DType.BF16);
    }
  }

  private void together(int rows, DType... outs) {
    int inner = 296;
    int[] widths = {37, 5, 64, 16};
    DType[] biases = {DType.BF16, null, DType.F32, DType.BF16};
    try (Kernels cuda = TestGpu.open(1);
        TensorArena arena = cuda.arena(TensorArena.Lifetime.STEP)) {
      Tensor x = matrix(arena, DType.BF16, normal(rows * inner), 0, rows, inner);
      List<Projection> together = new ArrayList<>();
      List<Projection> alone = new ArrayList<>();
      for (int i = 0; i < outs.length; i++) {
        int width = widths[i];
        Tensor weight = matrix(arena, DType.BF16, normal(width * inner), 0, width, inner);
        Tensor bias =
            biases[i] == null
                ? null
                : matrix(arena, biases[i], normal(width), 0, 1, width).view(width);
        for (List<Projection> to : List.of(together, alone)) {
          Tensor out = matrix(arena, outs[i], nan(rows * width), 0, rows, width);
          to.add(new Projection(out, weight, bias));
        }
      }
      cuda.matmuls(x, together);
      for (int i = 0; i < alone.size(); i++) {
        Projection one = alone.get(i);
        cuda.matmul(one.out(), x, one.weight(), one.bias());
        float[] want = one.out().toFloats();
        assertTrue(Float.isFinite(want[want.length - 1]));
        assertArrayEquals(want, together.get(i).out().toFloats(), rows + " rows, weight " + i);
      }
    }
  }

  @Test
  void biasGradientsOfManyRows() {
    int rows = 207;
    int width = 45;
    float[] d = normal(rows * width);
    float[] before = normal(width);
    for (DType type : new DType[] {DType.BF16, DType.F32}) {
      try (Kernels cuda = TestGpu.open(1);
          TensorArena arena = cuda.arena(TensorArena.Lifetime.STEP)) {
        Tensor dBias = matrix(arena, DType.F32, before, 0, 1, width);
        cuda.matmulBackwardWeight(
            arena.floats("dWeight", width, 3),
            dBias.view(width),
            matrix(arena, type, d, 0, rows, width),
            matrix(arena, type, normal(rows * 3), 0, rows, 3));
        check("dBias", dBias, before, (m, k) -> 1, in(d, width), rows, false);
      }
    }
  }

  /// The gradient of the logits is rounded to BF16 before it is multiplied.
  @Test
  void logProbabilitiesOfBf16States() {
    int tokens = 19;
    int inner = 40;
    int vocab = 2051; // more than a block takes of a token
    float[] hidden = normal(tokens * inner);
    float[] head = normal(vocab * inner);
    float[] dLogps = normal(tokens);
    int[] targets = new int[tokens];
    Arrays.setAll(targets, m -> m * 31 % vocab);
    try (Kernels cuda = TestGpu.open(1);
        TensorArena arena = cuda.arena(TensorArena.Lifetime.STEP)) {
      Tensor logps = arena.floats("logps", tokens);
      Tensor lse = arena.floats("lse", tokens);
      Tensor dHidden = arena.allocate("dHidden", DType.BF16, tokens, inner);
      Tensor dHead = arena.floats("dHead", vocab, inner);
      cuda.tokenLogProbsAndGradients(
          logps,
          lse,
          dHidden,
          dHead,
          arena.floats("dLogps", tokens).copyFrom(dLogps),
          matrix(arena, DType.BF16, hidden, 0, tokens, inner),
          matrix(arena, DType.BF16, head, 0, vocab, inner),
          arena.ints("targets", targets));
      double[][] dLogits = new double[tokens][vocab];
      double[] wantLse = new double[tokens];
      double[] wantLogps = new double[tokens];
      double[] tolerance = new double[tokens];
      for (int m = 0; m < tokens; m++) {
        double[] logits = new double[vocab];
        double sum = 0;
        double error = 0;
        for (int v = 0; v < vocab; v++) {
          double abs = 0;
          for (int i = 0; i < inner; i++) {
            double product = (double) hidden[m * inner + i] * head[v * inner + i];
            logits[v] += product;
            abs += Math.abs(product);
          }
          error = Math.max(error, (inner + 4) * EPS * abs);
          sum += Math.exp(logits[v]);
        }
        wantLse[m] = Math.log(sum);
        wantLogps[m] = logits[targets[m]] - wantLse[m];
        tolerance[m] = 3 * error + (vocab + 10) * EPS + 2 * EPS * Math.abs(wantLse[m]);
        for (int v = 0; v < vocab; v++) {
          double p = Math.exp(logits[v] - wantLse[m]);
          dLogits[m][v] = dLogps[m] * ((v == targets[m] ? 1 : 0) - p);
        }
      }
      TensorAssert.assertThat("lse", lse.toFloats()).isClose(wantLse, tolerance, SOURCE);
      TensorAssert.assertThat("logps", logps.toFloats()).isClose(wantLogps, tolerance, SOURCE);
      String source = "dLogits and the result rounded to BF16";
      double[] want = new double[tokens * inner];
      double[] bound = new double[want.length];
      for (int m = 0; m < tokens; m++) {
        for (int i = 0; i < inner; i++) {
          int at = m * inner + i;
          for (int v = 0; v < vocab; v++) {
            double product = dLogits[m][v] * head[v * inner + i];
            want[at] += product;
            bound[at] += (HALF + tolerance[m]) * Math.abs(product);
          }
          bound[at] += HALF * Math.abs(want[at]) + 1e-6;
        }
      }
      TensorAssert.assertThat("dHidden", dHidden.toFloats()).isClose(want, bound, source);
      want = new double[vocab * inner];
      bound = new double[want.length];
      for (int v = 0; v < vocab; v++) {
        for (int i = 0; i < inner; i++) {
          int at = v * inner + i;
          for (int m = 0; m < tokens; m++) {
            double product = dLogits[m][v] * hidden[m * inner + i];
            want[at] += product;
            bound[at] += (HALF + tolerance[m]) * Math.abs(product);
          }
          bound[at] += 1e-6;
        }
      }
      TensorAssert.assertThat("dHead", dHead.toFloats()).isClose(want, bound, source);
    }
  }
}
