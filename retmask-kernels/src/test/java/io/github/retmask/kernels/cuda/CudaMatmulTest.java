package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.backend.TensorAssert;
import io.github.retmask.tensor.BlockBytes;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Shape;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Products on the GPU where the contract's shapes do not reach: every kernel whatever the shape would
/// choose, rings and slices that go round several times, long chunks of logits.
class CudaMatmulTest {
  private final Random random = new Random(7);

  @AfterEach
  void recover() {
    EmulatedGpu.recover();
  }

  /// A way to compute a forward product.
  private interface Way {
    void multiply(Gpu gpu, Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias);
  }

  private float[] normal(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  /// Random weights on the host.
  private Tensor weight(TensorArena host, DType type, int outs, int inner) {
    if (type == DType.F32) {
      return host.floats("weight", outs, inner).copyFrom(normal(outs * inner));
    }
    byte[] bytes = new byte[Math.toIntExact(type.bytes((long) outs * inner))];
    if (type.isBlock()) {
      bytes = BlockBytes.random(type, random.nextInt(), outs * inner).bytes();
    } else {
      for (int i = 0; i < outs * inner; i++) {
        float value = (float) random.nextGaussian();
        int half =
            type == DType.BF16
                ? Float.floatToRawIntBits(value) >>> 16
                : Float.floatToFloat16(value);
        bytes[2 * i] = (byte) half;
        bytes[2 * i + 1] = (byte) (half >> 8);
      }
    }
    Tensor weight = host.allocate("weight", type, outs, inner);
    return weight.copyFrom(
        Tensor.host("weight", type, Shape.of(outs, inner), MemorySegment.ofArray(bytes)));
  }

  private static Tensor placed(TensorArena device, Tensor host) {
    return device.allocate(host.name(), host.dtype(), host.shape().dims()).copyFrom(host);
  }

  /// The same bits as the reference.
  private void check(Way way, DType type, int rows, int inner, int outs) {
    try (Kernels reference = new ReferenceBackend().open(1);
        Kernels cuda = TestGpu.open(1);
        TensorArena host = new HostArena();
        TensorArena device = cuda.arena(TensorArena.Lifetime.STEP)) {
      Tensor x = host.floats("x", rows, inner).copyFrom(normal(rows * inner));
      Tensor weight = weight(host, type, outs, inner);
      Tensor bias = host.floats("bias", outs).copyFrom(normal(outs));
      Tensor want = host.floats("want", rows, outs);
      reference.matmul(want, x, weight, bias);
      Tensor out = placed(device, nan(host, rows, outs));
      way.multiply(
          ((CudaKernels) cuda).op(),
          out,
          placed(device, x),
          placed(device, weight),
          placed(device, bias));
      TensorAssert.assertThat("out", out.toFloats(), rows, outs).hasBits(want.toFloats());
    }
  }

  private static Tensor nan(TensorArena arena, int rows, int columns) {
    float[] nan = new float[rows * columns];
    Arrays.fill(nan, Float.NaN);
    return arena.floats("out", rows, columns).copyFrom(nan);
  }

  static Stream<DType> weights() {
    return Arrays.stream(DType.values()).filter(DType::isFloat);
  }

  /// Whole blocks of at least so many elements.
  private static int whole(DType type, int elements) {
    return Math.ceilDiv(elements, type.blockSize()) * type.blockSize();
  }

  @ParameterizedTest
  @MethodSource("weights")
  void fewRows(DType type) {
    for (int rows : new int[] {1, 2, 4, 5, 8, 9}) {
      check(CudaMatmul::fewRows, type, rows, whole(type, 512), 9);
    }
    check(CudaMatmul::fewRows, type, 1, whole(type, 1544), 1);
    check(CudaMatmul::fewRows, type, 3, whole(type, 1544), 41);
    check(CudaMatmul::fewRows, type, 8, whole(type, 3080), 35);
  }

  @ParameterizedTest
  @MethodSource("weights")
  void eachOutput(DType type) {
    check(CudaMatmul::eachOutput, type, 1, whole(type, 7), 130);
    check(CudaMatmul::eachOutput, type, 2, whole(type, 515), 3);
    check(CudaMatmul::eachOutput, type, 3, whole(type, 521), 129);
  }

  @ParameterizedTest
  @MethodSource("weights")
  void tiles(DType type) {
    for (int size : new int[] {32, 64}) {
      Way way = (gpu, out, x, weight, bias) -> CudaMatmul.tiles(gpu, out, x, weight, bias, size);
      check(way, type, 1, whole(type, 513), 1);
      check(way, type, 65, whole(type, 544), 63);
      check(way, type, 33, whole(type, 1027), 97);
    }
  }

  /// Products that underflow make every sum -0, which no step beyond the last may turn into 0.
  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void sumsOfMinusZeroKeepTheirSign(DType type) {
    for (int inner : new int[] {1, 3, 13, 515, 518, 545}) {
      checkMinusZero(CudaMatmul::eachOutput, type, 2, inner, 5);
      checkMinusZero(CudaMatmul::matmul, type, 9, inner, 5); // product and tiles
      for (int size : new int[] {32, 64}) {
        Way way = (gpu, out, x, w, bias) -> CudaMatmul.tiles(gpu, out, x, w, bias, size);
        checkMinusZero(way, type, 2, Math.max(512, inner), 5);
      }
    }
    checkMinusZero(CudaMatmul::fewRows, type, 3, 1544, 5);
    try (Kernels cuda = TestGpu.open(1);
        TensorArena device = cuda.arena(TensorArena.Lifetime.STEP)) {
      int rows = 13;
      int inner = 5;
      int outs = 19;
      Tensor weight = device.allocate("weight", type, outs, inner);
      cuda.cast(weight, device.floats("wide", outs, inner).copyFrom(all(0x1p-100f, outs * inner)));
      Tensor dOut = device.floats("dOut", rows, outs).copyFrom(all(-0x1p-100f, rows * outs));
      for (Accumulate into : Accumulate.values()) {
        Tensor dx = device.floats("dx", rows, inner).copyFrom(all(-0f, rows * inner));
        cuda.matmulBackwardInput(dx, dOut, weight, into);
        TensorAssert.assertThat("dx", dx.toFloats()).hasBits(all(-0f, rows * inner));
      }
      Tensor x = device.floats("x", rows, inner).copyFrom(all(0x1p-100f, rows * inner));
      Tensor dWeight = device.floats("dWeight", outs, inner).copyFrom(all(-0f, outs * inner));
      cuda.matmulBackwardWeight(dWeight, null, dOut, x);
      TensorAssert.assertThat("dWeight", dWeight.toFloats()).hasBits(all(-0f, outs * inner));
    }
  }

  private static void checkMinusZero(Way way, DType type, int rows, int inner, int outs) {
    try (Kernels cuda = TestGpu.open(1);
        TensorArena device = cuda.arena(TensorArena.Lifetime.STEP)) {
      Tensor x = device.floats("x", rows, inner).copyFrom(all(-0x1p-100f, rows * inner));
      Tensor weight = device.allocate("weight", type, outs, inner);
      cuda.cast(weight, device.floats("wide", outs, inner).copyFrom(all(0x1p-100f, outs * inner)));
      Tensor out = device.floats("out", rows, outs);
      way.multiply(((CudaKernels) cuda).op(), out, x, weight, null);
      TensorAssert.assertThat("out of " + inner + " steps", out.toFloats())
          .hasBits(all(-0f, rows * outs));
    }
  }

  private static float[] all(float value, int count) {
    float[] values = new float[count];
    Arrays.fill(values, value);
    return values;
  }

  // --- token_log_probs ------------------------------------------------------------------------

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16", "Q8_0"})
  void chunksOfTokensGiveTheBitsOfAll(DType type) {
    int tokens = 300;
    int width = 32;
    int vocab = 37;
    float[] hidden = normal(tokens * width);
    float[] dLogps = normal(tokens);
    int[] targets = new int[tokens];
    Arrays.setAll(targets, m -> m * 7 % vocab);
    try (Kernels cuda = TestGpu.open(1);
        TensorArena host = new HostArena();
        TensorArena device = cuda.arena(TensorArena.Lifetime.STEP)) {
      Tensor lmHead = placed(device, weight(host, type, vocab, width));
      Gpu gpu = ((CudaKernels) cuda).op();
      List<Tensor> whole = List.of();
      for (long most : new long[] {1 << 20, 1}) { // one chunk, then chunks of 128
        Tensor logps = device.floats("logps", tokens);
        Tensor lse = device.floats("lse", tokens);
        Tensor dHidden = device.floats("dHidden", tokens, width);
        Tensor dLmHead = device.floats("dLmHead", vocab, width);
        gpu.op();
        CudaTokenLogProbs.chunks(
            gpu,
            most,
            logps,
            lse,
            dHidden,
            dLmHead,
            device.floats("dLogps", tokens).copyFrom(dLogps),
            device.floats("hidden", tokens, width).copyFrom(hidden),
            lmHead,
            device.ints("targets", targets));
        List<Tensor> results = List.of(logps, lse, dHidden, dLmHead);
        for (int i = 0; i < whole.size(); i++) {
          TensorAssert.assertThat(results.get(i).name(), results.get(i).toFloats())
              .hasBits(whole.get(i).toFloats());
        }
        whole = results;
      }
    }
  }

  /// A vocabulary of more than a block takes of a token.
  @ParameterizedTest
  @ValueSource(ints = {2047, 2049, 4100})
  void gradientsOfALargeVocabulary(int vocab) {
    int tokens = 3;
    float[] hidden = {1, 0.5f, -2};
    float[] dLogps = {0.75f, -3, 1.5f};
    int[] targets = {0, vocab - 1, vocab / 2};
    float[] head = normal(vocab);
    try (Kernels cuda = TestGpu.open(1);
        TensorArena device = cuda.arena(TensorArena.Lifetime.STEP)) {
      Tensor dHead = device.floats("dHead", vocab, 1).copyFrom(all(0, vocab));
      cuda.tokenLogProbsAndGradients(
          device.floats("logps", tokens),
          device.floats("lse", tokens),
          device.floats("dHidden", tokens, 1),
          dHead,
          device.floats("dLogps", tokens).copyFrom(dLogps),
          device.floats("hidden", tokens, 1).copyFrom(hidden),
          device.floats("lm_head", vocab, 1).copyFrom(head),
          device.ints("targets", targets));
      double[] want = new double[vocab];
      double[] tolerance = new double[vocab];
      for (int m = 0; m < tokens; m++) {
        double sum = 0;
        for (float weight : head) {
          sum += Math.exp(hidden[m] * weight);
        }
        for (int v = 0; v < vocab; v++) {
          double p = Math.exp(hidden[m] * head[v]) / sum;
          double size = Math.abs(dLogps[m] * hidden[m]);
          want[v] += dLogps[m] * hidden[m] * ((v == targets[m] ? 1 : 0) - p);
          // A sum of 9 and a tree, logits and lse below 16, then some roundings of the product.
          tolerance[v] += TensorAssert.EPS * size * (80 * p + 4);
        }
      }
      TensorAssert.assertThat("dHead", dHead.toFloats())
          .isClose(want, tolerance, "F32 sums of 9 exponentials and a tree");
    }
  }

  /// Elements beyond the vocabulary are no logits of zero.
  @Test
  void logitsMayLieFarBelowZero() {
    for (int vocab : new int[] {1, 2, 3, 4, 37, 2047}) {
      float[] head = new float[vocab];
      double sum = 0;
      for (int v = 0; v < vocab; v++) {
        head[v] = -300 - v % 7;
        sum += Math.exp(-(v % 7));
      }
      double want = Math.log(sum) - 300;
      try (Kernels cuda = TestGpu.open(1);
          TensorArena device = cuda.arena(TensorArena.Lifetime.STEP)) {
        Tensor logps = device.floats("logps", 1);
        Tensor lse = device.floats("lse", 1);
        cuda.tokenLogProbs(
            logps,
            lse,
            device.floats("hidden", 1, 1).copyFrom(1f),
            device.floats("lm_head", vocab, 1).copyFrom(head),
            device.ints("targets", vocab - 1));
        double[] tolerance = {40 * TensorAssert.EPS + TensorAssert.EPS * 300};
        TensorAssert.assertThat("lse", lse.toFloats())
            .isClose(new double[] {want}, tolerance, "F32 sums of 5 exponentials and a tree");
        TensorAssert.assertThat("logps", logps.toFloats())
            .isClose(new double[] {head[vocab - 1] - want}, tolerance, "the same");
      }
    }
  }

  @Test
  void aLargeVocabularyIsReducedByAllThreads() {
    int vocab = 9001;
    float[] logits = new float[2 * vocab];
    for (int i = 0; i < logits.length; i++) {
      logits[i] = i % 977 * 0.01f - i % 13;
    }
    logits[4000] = 50;
    logits[vocab + 3] = Float.NEGATIVE_INFINITY;
    try (Kernels cuda = TestGpu.open(1);
        TensorArena device = cuda.arena(TensorArena.Lifetime.STEP)) {
      // The identity picks rows of the head: logits as they are.
      Tensor hidden = device.floats("hidden", 2, 2).copyFrom(1f, 0, 0, 1);
      float[] head = new float[2 * vocab];
      for (int v = 0; v < vocab; v++) {
        head[2 * v] = logits[v];
        head[2 * v + 1] = Math.max(-1e30f, logits[vocab + v]);
      }
      Tensor logps = device.floats("logps", 2);
      Tensor lse = device.floats("lse", 2);
      cuda.tokenLogProbs(
          logps,
          lse,
          hidden,
          device.floats("lm_head", vocab, 2).copyFrom(head),
          device.ints("targets", 4000, 9000));
      double[] want = new double[2];
      double[] tolerance = new double[2];
      for (int m = 0; m < 2; m++) {
        double sum = 0;
        for (int v = 0; v < vocab; v++) {
          sum += Math.exp(logits[m * vocab + v]);
        }
        want[m] = Math.log(sum);
        tolerance[m] = (vocab / 512 + 40) * TensorAssert.EPS + TensorAssert.EPS * want[m];
      }
      TensorAssert.assertThat("lse", lse.toFloats())
          .isClose(want, tolerance, "F32 sums of 20 exponentials and a tree");
    }
  }
}
