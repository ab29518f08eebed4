package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Projection;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.backend.TensorAssert;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Sizes at which products are cut: into passes over k, blocks of rows and columns, and tasks.
class VectorMatmulTest {

  private static Tensor random(TensorArena arena, long seed, long... dims) {
    Tensor t = arena.floats("t" + seed, dims);
    Random random = new Random(seed);
    for (long i = 0; i < t.size(); i++) {
      t.set(i, (float) random.nextGaussian());
    }
    return t;
  }

  private static float[] chain(float[] x, float[] w, int n, int k, int o) {
    float[] out = new float[n * o];
    for (int i = 0; i < out.length; i++) {
      float sum = 0;
      for (int j = 0; j < k; j++) {
        sum = Math.fma(x[i / o * k + j], w[i % o * k + j], sum);
      }
      out[i] = sum;
    }
    return out;
  }

  /// The first `count` of every `width` elements.
  private static float[] columns(float[] all, int width, int count) {
    float[] some = new float[all.length / width * count];
    for (int row = 0; row < all.length / width; row++) {
      System.arraycopy(all, row * width, some, row * count, count);
    }
    return some;
  }

  @ParameterizedTest
  @CsvSource({
    "23,   300, 321", // few rows: every task packs
    "24,   257,  65",
    "48,     1, 300",
    "199,  520, 257", // blocks of rows and columns
    "24,   512,   4", // dot products
    "23,  1024, 131",
    "25,  4100,  99", // several passes over each chain
    "39,  4100,  70",
    "1000, 256,  64", // small weights: every task packs rows
    "300,  100, 250",
    "150,  600,  60",
    "50, 24000, 300", // B in parts
    "150, 16000, 50", // A in parts
    "200, 30000, 10" // x and the weight change places
  })
  void everyCutGivesTheSameBits(int n, int k, int o) {
    try (Kernels one = new VectorKernels(1);
        Kernels reference = new ReferenceBackend().open(1);
        TensorArena arena = one.arena(TensorArena.Lifetime.STEP)) {
      Tensor x = random(arena, 1, n, k);
      Tensor w = random(arena, 2, o, k);
      Tensor want = arena.floats("want", n, o);
      reference.matmul(want, x, w, null);
      for (int threads = 1; threads <= 3; threads++) {
        try (Kernels kernels = new VectorKernels(threads)) {
          Tensor out = arena.floats("out", n, o);
          Tensor some = w.slice(0, o / 2 + 1);
          Tensor outOfSome = arena.floats("outOfSome", n, o / 2 + 1);
          kernels.matmuls(
              x, List.of(new Projection(outOfSome, some, null), new Projection(out, w, null)));
          TensorAssert.assertThat("out of some rows", outOfSome.toFloats(), n, o / 2 + 1)
              .hasBits(columns(want.toFloats(), o, o / 2 + 1));
          TensorAssert.assertThat("out with " + threads + " threads", out.toFloats(), n, o)
              .hasBits(want.toFloats());
        }
      }
    }
  }

  /// Whether they fill tiles or not, and however they are transposed.
  @ParameterizedTest
  @ValueSource(ints = {520, 523})
  void everyNumberOfRowsGivesTheBitsOfEachAlone(int k) {
    int o = 40;
    try (Kernels kernels = new VectorKernels(1);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Tensor x = random(arena, 1, 40, k);
      Tensor w = random(arena, 2, o, k);
      Tensor alone = arena.floats("alone", 40, o);
      for (int row = 0; row < 40; row++) {
        kernels.matmul(alone.slice(row, row + 1), x.slice(row, row + 1), w, null);
      }
      for (int rows = 1; rows <= 40; rows++) {
        Tensor out = arena.floats("out", rows, o);
        kernels.matmul(out, x.slice(0, rows), w, null);
        TensorAssert.assertThat("out", out.toFloats(), rows, o)
            .hasBits(alone.slice(0, rows).toFloats());
      }
    }
  }

  /// The last steps of chains that are not all of one length.
  @ParameterizedTest
  @CsvSource({"513, F32", "519, BF16", "1023, F32", "1023, BF16", "1022, F16"})
  void rowsThatAreNoWholeNumberOfVectorsGiveTheSameBits(int k, DType type) {
    int o = 21;
    try (Kernels kernels = new VectorKernels(2);
        Kernels reference = new ReferenceBackend().open(1);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Tensor w = arena.allocate("w", type, o, k);
      kernels.cast(w, random(arena, 2, o, k));
      Tensor bias = random(arena, 3, o);
      for (int n = 1; n <= 10; n++) {
        Tensor x = random(arena, n, n, k);
        Tensor out = arena.floats("out", n, o);
        Tensor want = arena.floats("want", n, o);
        kernels.matmul(out, x, w, bias);
        reference.matmul(want, x, w, bias);
        TensorAssert.assertThat("out", out.toFloats(), n, o).hasBits(want.toFloats());
      }
    }
  }

  /// Few outputs, where x and the weight change places, and the sizes around them.
  @ParameterizedTest
  @CsvSource({"520, F32", "523, F32", "523, BF16", "544, F16", "544, Q8_0", "544, Q4_0"})
  void fewOutputsGiveTheSameBits(int k, DType type) {
    try (Kernels kernels = new VectorKernels(2);
        Kernels reference = new ReferenceBackend().open(1);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      for (int o : new int[] {0, 1, 2, 3, 4, 5, 8, 17, 24, 25}) {
        Tensor stored = weight(arena, type, o, k);
        Tensor w = kernels.place(stored, arena);
        Tensor bias = random(arena, 3, o);
        Tensor other = random(arena, 4, 7, k);
        for (int n : new int[] {0, 1, 2, 3, 4, 9, 15, 16, 17, 200, 600}) {
          Tensor x = random(arena, n, n, k);
          Tensor out = arena.floats("out", n, o);
          Tensor outOfOther = arena.floats("outOfOther", n, 7);
          Tensor want = arena.floats("want", n, o);
          kernels.matmuls(
              x, List.of(new Projection(outOfOther, other, null), new Projection(out, w, bias)));
          reference.matmul(want, x, stored, bias);
          TensorAssert.assertThat("out", out.toFloats(), n, o).hasBits(want.toFloats());
          Tensor wantOfOther = arena.floats("wantOfOther", n, 7);
          reference.matmul(wantOfOther, x, other, null);
          TensorAssert.assertThat("out of other", outOfOther.toFloats(), n, 7)
              .hasBits(wantOfOther.toFloats());
          kernels.matmul(out, x, w, null);
          reference.matmul(want, x, stored, null);
          TensorAssert.assertThat("out", out.toFloats(), n, o).hasBits(want.toFloats());
        }
      }
    }
  }

  /// Random values, or blocks of random bytes with small scales.
  private static Tensor weight(TensorArena arena, DType type, int o, int k) {
    Tensor w = arena.allocate("w", type, o, k);
    if (!type.isBlock()) {
      try (Kernels kernels = new VectorKernels(1)) {
        kernels.cast(w, random(arena, 2, o, k));
      }
      return w;
    }
    Random random = new Random(2);
    byte[] bytes = new byte[(int) w.segment().byteSize()];
    random.nextBytes(bytes);
    for (int block = 0; block < bytes.length; block += type.blockBytes()) {
      short scale = Float.floatToFloat16(random.nextFloat() * 0.02f);
      bytes[block] = (byte) scale;
      bytes[block + 1] = (byte) (scale >> 8);
    }
    MemorySegment.copy(bytes, 0, w.segment(), ValueLayout.JAVA_BYTE, 0, bytes.length);
    return w;
  }

  /// Tensors that a program keeps on the heap are read another way.
  @ParameterizedTest
  @CsvSource({
    "3, 600, 21", // dot products
    "3, 603, 21",
    "30, 603, 5",
    "24, 600, 48" // packed: blocks that off the heap are transposed where they lie
  })
  void tensorsOnTheHeapGiveTheSameBits(int n, int k, int o) {
    try (Kernels kernels = new VectorKernels(2);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Tensor x = random(arena, 1, n, k);
      Tensor w = random(arena, 2, o, k);
      byte[] bytes = w.segment().toArray(ValueLayout.JAVA_BYTE);
      Tensor heap = Tensor.host("w", DType.F32, w.shape(), MemorySegment.ofArray(bytes));
      Tensor want = arena.floats("want", n, o);
      Tensor out = arena.floats("out", n, o);
      kernels.matmul(want, x, w, null);
      kernels.matmul(out, x, heap, null);
      TensorAssert.assertThat("out", out.toFloats(), n, o).hasBits(want.toFloats());
      bytes = x.segment().toArray(ValueLayout.JAVA_BYTE);
      heap = Tensor.host("x", DType.F32, x.shape(), MemorySegment.ofArray(bytes));
      out = arena.floats("out", n, o);
      kernels.matmul(out, heap, w, null);
      TensorAssert.assertThat("out", out.toFloats(), n, o).hasBits(want.toFloats());
    }
  }

  @ParameterizedTest
  @CsvSource({"700, 70, 130", "48, 400, 300", "30, 300, 300", "5000, 3, 257", "30, 8192, 600"})
  void theGradientOfTheInputIsTheChainOverOutputs(int n, int o, int i) {
    try (Kernels kernels = new VectorKernels(2);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Tensor dOut = random(arena, 3, n, o);
      Tensor w = random(arena, 4, o, i);
      float[] transposed = new float[o * i];
      for (int j = 0; j < transposed.length; j++) {
        transposed[j] = w.get((long) j % o * i + j / o);
      }
      Tensor dx = arena.floats("dx", n, i);
      kernels.matmulBackwardInput(dx, dOut, w, Accumulate.SET);
      TensorAssert.assertThat("dx", dx.toFloats(), n, i)
          .hasBits(chain(dOut.toFloats(), transposed, n, o, i));
    }
  }

  @Test
  void theGradientOfTheWeightAddsUpToTheSameBitsInOneCallAndInMany() {
    int n = 601;
    try (Kernels kernels = new VectorKernels(2);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Tensor dOut = random(arena, 5, n, 200);
      Tensor x = random(arena, 6, n, 70);
      Tensor whole = arena.floats("dWeight", 200, 70);
      Tensor wholeBias = arena.floats("dBias", 200);
      Tensor parts = arena.floats("dWeight", 200, 70);
      Tensor partsBias = arena.floats("dBias", 200);
      kernels.matmulBackwardWeight(whole, wholeBias, dOut, x);
      int[] cuts = {0, 1, 20, 300, n};
      for (int c = 1; c < cuts.length; c++) {
        kernels.matmulBackwardWeight(
            parts, partsBias, dOut.slice(cuts[c - 1], cuts[c]), x.slice(cuts[c - 1], cuts[c]));
      }
      TensorAssert.assertThat("dWeight", parts.toFloats(), 200, 70).hasBits(whole.toFloats());
      TensorAssert.assertThat("dBias", partsBias.toFloats()).hasBits(wholeBias.toFloats());
    }
  }

  @Test
  void narrowWeightsAreWidenedInEveryCut() {
    int n = 60;
    int k = 300;
    int o = 260;
    try (Kernels kernels = new VectorKernels(2);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Tensor x = random(arena, 7, n, k);
      for (DType type : new DType[] {DType.BF16, DType.F16}) {
        Tensor w = arena.allocate("w", type, o, k);
        kernels.cast(w, random(arena, 8, o, k));
        for (int rows : new int[] {1, n}) {
          Tensor out = arena.floats("out", rows, o);
          kernels.matmul(out, x.slice(0, rows), w, null);
          float[] want = chain(x.slice(0, rows).toFloats(), w.toFloats(), rows, k, o);
          TensorAssert.assertThat(type + " out", out.toFloats(), rows, o).hasBits(want);
        }
      }
    }
  }

  @Test
  void aSumOverNothingIsZero() {
    try (Kernels kernels = new VectorKernels(2);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Tensor out = random(arena, 9, 60, 70);
      kernels.matmul(out, arena.floats("x", 60, 0), arena.floats("w", 70, 0), null);
      TensorAssert.assertThat("out", out.toFloats()).hasBits(new float[60 * 70]);
    }
  }

  @ParameterizedTest
  @CsvSource({"1, 1", "40, 1", "1, 301", "40, 301", "1, 513", "40, 513", "40, 1032"})
  void aSumThatRoundsToMinusZeroStays(int n, int k) {
    try (Kernels kernels = new VectorKernels(2);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Tensor x = arena.floats("x", n, k);
      Tensor w = arena.floats("w", 70, k);
      Tensor out = arena.floats("out", n, 70);
      x.copyFrom(filled(n * k, -1e-30f));
      w.copyFrom(filled(70 * k, 1e-30f));
      kernels.matmul(out, x, w, null);
      TensorAssert.assertThat("out", out.toFloats()).hasBits(filled(n * 70, -0f));
    }
  }

  private static float[] filled(int count, float value) {
    float[] array = new float[count];
    Arrays.fill(array, value);
    return array;
  }
}
