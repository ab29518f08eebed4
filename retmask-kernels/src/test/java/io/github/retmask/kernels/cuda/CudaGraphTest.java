package io.github.retmask.kernels.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.generate.Completion;
import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Generator;
import io.github.retmask.generate.Sampling;
import io.github.retmask.generate.StopRule;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.Batch;
import io.github.retmask.model.KvCache;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.RandomModel;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.model.TokenStates;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import jcuda.driver.JCudaDriver;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// Steps of decoding as CUDA graphs: the same bits as kernel by kernel, whatever changes between steps,
/// and no graph more than there must be.
class CudaGraphTest {
  private static final int VOCAB = 50;

  /// A model on the GPU, and what a test needs to decode with it.
  private static final class Session implements AutoCloseable {
    final CudaKernels kernels;
    final Transformer model;
    final TensorArena step;
    private final HostArena host = new HostArena();

    Session(DType weights, QkNorm qkNorm, boolean graphs) {
      EmulatedGpu.schedule(EmulatedGpu.Order.ASCENDING, EmulatedGpu.Copies.LATE);
      kernels =
          (CudaKernels)
              CudaBackend.open(
                  TestGpu.isReal() ? CudaLibrary.named() : EmulatedGpu.driver(),
                  1,
                  Gpu.Memory.POOLED,
                  DType.BF16,
                  graphs);
      ModelConfig config =
          RandomModel.config(NormPlacement.PRE, qkNorm, AttentionSpec.NO_WINDOW, false);
      Weights exact = RandomModel.weights(config, host, 4);
      model = new Transformer(config, weights == DType.F32 ? exact : rounded(exact), ops());
      step = kernels.arena(TensorArena.Lifetime.STEP);
    }

    Ops ops() {
      return new Ops(kernels);
    }

    Graphs graphs() {
      return kernels.op().graphs();
    }

    private Weights rounded(Weights exact) {
      try (Kernels cpu = new ReferenceBackend().open(1)) {
        return exact.map(
            w -> {
              Tensor half = host.allocate(w.name(), DType.BF16, w.shape().dims());
              cpu.cast(half, w);
              return half;
            });
      }
    }

    /// Reads prompts of the rows, then decodes; logits of every step of decoding.
    ///
    /// @param lengths of the prompts
    List<float[]> decode(KvCache cache, int[] lengths, List<HeadMask> masks, int steps) {
      List<float[]> logits = new ArrayList<>();
      Random random = new Random(9);
      for (int t = 0; t <= steps; t++) {
        List<Batch.Row> rows = new ArrayList<>();
        int[] last = new int[lengths.length];
        int tokens = 0;
        for (int r = 0; r < lengths.length; r++) {
          if (t == 0) {
            cache.clear(r);
          }
          int[] ids = random.ints(t == 0 ? lengths[r] : 1, 0, VOCAB).toArray();
          Batch.Phase phase = t == 0 ? Batch.Phase.PREFILL : Batch.Phase.DECODE;
          rows.add(new Batch.Row(r, ids, masks.get(r), phase));
          tokens += ids.length;
          last[r] = tokens - 1;
        }
        step.reset();
        Batch batch = new Batch(rows);
        Tensor out =
            t == 0
                ? forward(batch, cache, last)
                : ops().together(() -> forward(batch, cache, last));
        if (t > 0) {
          logits.add(out.toHost().toFloats());
        }
      }
      return logits;
    }

    private Tensor forward(Batch batch, KvCache cache, int[] tokens) {
      TokenStates states = model.states(batch, cache, ReadoutRequest.NONE, step, tokens);
      return model.logits(states.hidden(), step);
    }

    @Override
    public void close() {
      step.close();
      model.close();
      host.close();
      kernels.close();
    }
  }

  @AfterEach
  void recover() {
    EmulatedGpu.recover();
  }

  private static HeadMask none() {
    return HeadMask.none(3, 6);
  }

  private static HeadMask masked() {
    return none()
        .withGate(List.of(new HeadId(0, 1), new HeadId(1, 4), new HeadId(2, 0)), 0)
        .withKind(List.of(new HeadId(0, 2)), new HeadKind.Local(2, 5))
        .withKind(List.of(new HeadId(2, 3)), HeadKind.UNIFORM);
  }

  private static void assertSame(List<float[]> want, List<float[]> got) {
    assertEquals(want.size(), got.size());
    for (int t = 0; t < want.size(); t++) {
      assertArrayEquals(want.get(t), got.get(t), "step " + t);
    }
  }

  /// Twins, one intact and one masked, beside a row that passes from one span of keys to the next.
  @ParameterizedTest
  @EnumSource(
      value = DType.class,
      names = {"F32", "BF16"})
  void decodingHasTheSameBitsAsKernelByKernel(DType type) {
    int[] lengths = {9, 9, CudaAttention.SPAN - 4};
    List<HeadMask> masks = List.of(none(), masked(), masked());
    List<float[]> want;
    try (Session plain = new Session(type, QkNorm.PER_HEAD, false);
        KvCache cache = new KvCache(plain.model, 3, 300)) {
      want = plain.decode(cache, lengths, masks, 10);
      assertEquals(0, plain.graphs().replayed());
    }
    try (Session session = new Session(type, QkNorm.PER_HEAD, true);
        KvCache cache = new KvCache(session.model, 3, 300)) {
      assertSame(want, session.decode(cache, lengths, masks, 10));
      // Steps 1 and 5 are the first with one span and with two; the first one of all finds the
      // memory
      // of steps in several pieces.
      assertTrue(session.graphs().captured() <= 2, session.graphs().captured() + " graphs");
      assertTrue(session.graphs().replayed() >= 6, session.graphs().replayed() + " replays");
    }
  }

  @Test
  void anotherMaskReplaysTheSameGraph() {
    int[] lengths = {7, 12};
    List<List<HeadMask>> inTurn =
        List.of(
            List.of(none(), none()),
            List.of(masked(), none()),
            List.of(none(), masked()),
            List.of(HeadMask.off(3, 6, List.of(new HeadId(1, 1))), masked()));
    List<List<float[]>> want = new ArrayList<>();
    try (Session plain = new Session(DType.F32, QkNorm.NONE, false);
        KvCache cache = new KvCache(plain.model, 2, 64)) {
      inTurn.forEach(masks -> want.add(plain.decode(cache, lengths, masks, 4)));
      assertFalse(Arrays.equals(want.get(0).get(3), want.get(1).get(3)), "the mask does something");
    }
    try (Session session = new Session(DType.F32, QkNorm.NONE, true);
        KvCache cache = new KvCache(session.model, 2, 64)) {
      for (int turn = 0; turn < inTurn.size(); turn++) {
        assertSame(want.get(turn), session.decode(cache, lengths, inTurn.get(turn), 4));
      }
      assertEquals(1, session.graphs().captured());
      assertTrue(session.graphs().replayed() >= 14, session.graphs().replayed() + " replays");
    }
  }

  /// Gates between 0 and 1 and means take a launch and an array more.
  @Test
  void masksThatTakeOtherKernelsHaveAGraphOfTheirOwn() {
    List<HeadId> two = List.of(new HeadId(0, 1), new HeadId(2, 5));
    float[] z = new float[8];
    Arrays.fill(z, 0.5f);
    List<HeadMask> inTurn =
        List.of(
            none(),
            none().withGate(two, 0.3f),
            none().withKind(two, new HeadKind.Mean(z)),
            masked(),
            none().withGate(two, 0.7f));
    try (Session plain = new Session(DType.F32, QkNorm.PER_HEAD, false);
        Session session = new Session(DType.F32, QkNorm.PER_HEAD, true);
        KvCache plainCache = new KvCache(plain.model, 2, 64);
        KvCache cache = new KvCache(session.model, 2, 64)) {
      for (HeadMask mask : inTurn) {
        assertSame(
            plain.decode(plainCache, new int[] {5, 6}, List.of(mask, none()), 4),
            session.decode(cache, new int[] {5, 6}, List.of(mask, none()), 4));
      }
      assertEquals(3, session.graphs().captured());
    }
  }

  @Test
  void eachNumberOfRowsHasItsGraph() {
    int[][] batches = {{3}, {3, 5}, {3}, {3, 5}, {3, 5, 4}, {3}};
    try (Session plain = new Session(DType.BF16, QkNorm.WHOLE, false);
        Session session = new Session(DType.BF16, QkNorm.WHOLE, true);
        KvCache plainCache = new KvCache(plain.model, 3, 64);
        KvCache cache = new KvCache(session.model, 3, 64)) {
      for (int[] lengths : batches) {
        List<HeadMask> masks = List.of(masked(), none(), masked()).subList(0, lengths.length);
        assertSame(
            plain.decode(plainCache, lengths, masks, 3), session.decode(cache, lengths, masks, 3));
      }
      assertEquals(3, session.graphs().captured());
    }
  }

  @Test
  void aGraphHoldsProductsOfCublas() {
    int rows = 9; // more than our own kernels of few rows take
    int[] lengths = new int[rows];
    Arrays.setAll(lengths, r -> 2 + r);
    List<HeadMask> masks = new ArrayList<>();
    for (int r = 0; r < rows; r++) {
      masks.add(r % 2 == 0 ? none() : masked());
    }
    if (!TestGpu.isReal()) {
      System.setProperty(CublasLibrary.PROPERTY, EmulatedGpu.cublas().toString());
    }
    try (Session plain = new Session(DType.BF16, QkNorm.NONE, false);
        Session session = new Session(DType.BF16, QkNorm.NONE, true);
        KvCache plainCache = new KvCache(plain.model, rows, 32);
        KvCache cache = new KvCache(session.model, rows, 32)) {
      String why = CublasLibrary.load();
      Assumptions.assumeTrue(why == null, "NOT TESTED: graphs with cuBLAS: " + why);
      assertTrue(session.kernels.op().gemm().name().startsWith("cuBLAS"));
      assertSame(
          plain.decode(plainCache, lengths, masks, 5), session.decode(cache, lengths, masks, 5));
      assertEquals(1, session.graphs().captured());
      assertTrue(session.graphs().replayed() >= 3);
    } finally {
      System.clearProperty(CublasLibrary.PROPERTY);
    }
  }

  @Test
  void theGeneratorDecodesWithGraphs() {
    List<GenerationRequest> requests = new ArrayList<>();
    for (int i = 0; i < 6; i++) {
      requests.add(
          new GenerationRequest(
              RandomModel.ids(RandomModel.plain(), 3 + 2 * (i / 2), 5 + i / 2),
              i % 2 == 0 ? none() : masked(),
              i < 3 ? Sampling.GREEDY : Sampling.of(0.8, 11),
              i,
              12,
              StopRule.NEVER,
              i == 4));
    }
    Generator.Options options = new Generator.Options(3, 64, 1L << 30);
    try (Session plain = new Session(DType.F32, QkNorm.NONE, false);
        Session session = new Session(DType.F32, QkNorm.NONE, true);
        Generator one = new Generator(plain.model, options);
        Generator other = new Generator(session.model, options)) {
      List<Completion> want = one.generate(requests);
      List<Completion> got = other.generate(requests);
      for (int i = 0; i < requests.size(); i++) {
        assertArrayEquals(want.get(i).ids(), got.get(i).ids(), "request " + i);
      }
      assertArrayEquals(want.get(4).attention().weights(), got.get(4).attention().weights());
      assertEquals(0, plain.graphs().replayed());
      assertTrue(session.graphs().replayed() > 5, session.graphs().replayed() + " replays");
    }
  }

  // --- steps that are not decoding ------------------------------------------------------------

  private static Tensor filled(TensorArena arena, int size, float value) {
    float[] values = new float[size];
    Arrays.fill(values, value);
    return arena.floats("x", size).copyFrom(values);
  }

  @Test
  void aStepThatReadsItsResultGoesOnWithoutGraph() {
    try (Session session = new Session(DType.F32, QkNorm.NONE, true)) {
      Ops ops = session.ops();
      Tensor sum = filled(session.step, 5, 0);
      for (int run = 1; run < 5; run++) {
        float added = run;
        float seen =
            ops.together(
                () -> {
                  ops.zero(sum);
                  ops.add(sum, sum, filled(session.step, 5, added));
                  float before = sum.get(3);
                  ops.add(sum, sum, sum);
                  return before;
                });
        assertEquals(run, seen);
        assertEquals(2 * run, sum.get(4));
      }
      assertEquals(0, session.graphs().captured());
    }
  }

  @Test
  void bytesThatNoImageHoldsGoTheirOwnWay() {
    try (Session session = new Session(DType.F32, QkNorm.NONE, true)) {
      Ops ops = session.ops();
      int large = (int) (Step.IMAGE_BYTES / Float.BYTES);
      Tensor sum =
          ops.together(
              () -> {
                Tensor small = filled(session.step, 5, 3);
                Tensor all = filled(session.step, large, 4);
                ops.add(small, small, all.slice(large - 5, large));
                return small;
              });
      assertArrayEquals(new float[] {7, 7, 7, 7, 7}, sum.toFloats());
    }
  }

  /// Attention with a read-out brings five arrays, one of them while a launch takes its arguments.
  @Test
  void anImageMayBeFullAnywhereInAnOp() {
    BatchLayout layout = BatchLayout.cached(new int[] {1, 1}, new int[] {9, 4}, new int[] {0, 20});
    HeadPlan plan = HeadPlan.of(List.of(masked(), none()), 0, 8, true);
    try (Session session = new Session(DType.F32, QkNorm.NONE, true)) {
      Ops ops = session.ops();
      float[] want = null;
      for (int room = 2048; room >= 0; room -= 256) {
        session.step.reset();
        TensorArena arena = session.step;
        Tensor q = arena.floats("q", 2, 6, 8).copyFrom(normal(1, 96));
        Tensor k = arena.floats("k", 40, 2, 8).copyFrom(normal(2, 640));
        Tensor v = arena.floats("v", 40, 2, 8).copyFrom(normal(3, 640));
        Tensor z = arena.floats("z", 2, 6, 8);
        Tensor lse = arena.floats("lse", 2, 6);
        int[][][] spans = {{{0, 5}, {2, 9}}, {{1, 3}, {0, 1}}};
        AttentionReadout readout = AttentionReadout.of(arena, 6, new int[] {0, 1}, spans);
        int filling = (int) (Step.IMAGE_BYTES - room) / Float.BYTES;
        ops.together(
            () -> {
              filled(arena, filling, 1);
              AttentionSpec spec = new AttentionSpec(AttentionSpec.NO_WINDOW, 0.4f);
              ops.attention(z, lse, q, k, v, layout, plan, spec, readout);
              return z;
            });
        float[] got = Arrays.copyOf(z.toFloats(), 96 + 24);
        System.arraycopy(readout.spanMass().toFloats(), 0, got, 96, 24);
        want = want == null ? got : want;
        assertArrayEquals(want, got, room + " bytes of room");
      }
    }
  }

  private static float[] normal(long seed, int length) {
    Random random = new Random(seed);
    float[] values = new float[length];
    for (int i = 0; i < length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  @Test
  void whatWasQueuedBeforeAFailureIsDone() {
    try (Session session = new Session(DType.F32, QkNorm.NONE, true)) {
      Ops ops = session.ops();
      Tensor x = filled(session.step, 5, 2);
      assertThrows(
          IllegalArgumentException.class,
          () ->
              ops.together(
                  () -> {
                    ops.add(x, x, x);
                    ops.add(x, x, filled(session.step, 4, 1));
                    return x;
                  }));
      assertArrayEquals(new float[] {4, 4, 4, 4, 4}, x.toFloats());
    }
  }

  @Test
  void memoryGivenBackDuringAStepIsNotReusedBeforeItsEnd() {
    try (Session session = new Session(DType.F32, QkNorm.NONE, true)) {
      Ops ops = session.ops();
      for (int run = 0; run < 4; run++) {
        Tensor sum = filled(session.step, 100, 1);
        ops.together(
            () -> {
              try (TensorArena brief = session.kernels.arena(TensorArena.Lifetime.STEP)) {
                Tensor two = filled(brief, 100, 2);
                ops.add(sum, sum, two);
              }
              return sum;
            });
        assertEquals(3, sum.get(99));
      }
    }
  }

  @Test
  void whereNothingCanBeCapturedStepsGoOnKernelByKernel() {
    try (Session session = new Session(DType.F32, QkNorm.NONE, true)) {
      Ops ops = session.ops();
      Gpu gpu = session.kernels.op();
      Tensor sum = filled(session.step, 5, 1);
      for (int run = 0; run < 5; run++) {
        ops.together(
            () -> {
              gpu.queue("wait", new long[0], JCudaDriver::cuStreamSynchronize);
              ops.add(sum, sum, sum);
              return sum;
            });
      }
      assertArrayEquals(new float[] {32, 32, 32, 32, 32}, sum.toFloats());
      assertFalse(session.graphs().isEnabled());
      assertEquals(0, session.graphs().captured());
    }
  }

  @Test
  void graphsCanBeTurnedOff() {
    try (Session session = new Session(DType.F32, QkNorm.NONE, false)) {
      assertFalse(session.graphs().isEnabled());
    }
    if (!TestGpu.isReal()) {
      System.setProperty(CudaLibrary.DRIVER_PROPERTY, EmulatedGpu.driver().toString());
    }
    try {
      for (boolean graphs : new boolean[] {true, false}) {
        System.setProperty(CudaBackend.GRAPHS_PROPERTY, String.valueOf(graphs));
        try (CudaKernels kernels = (CudaKernels) new CudaBackend().open(1)) {
          assertEquals(graphs, kernels.op().graphs().isEnabled());
        }
      }
      System.setProperty(CudaBackend.GRAPHS_PROPERTY, "no");
      assertThrows(IllegalArgumentException.class, () -> new CudaBackend().open(1));
    } finally {
      System.clearProperty(CudaBackend.GRAPHS_PROPERTY);
      System.clearProperty(CudaLibrary.DRIVER_PROPERTY);
    }
  }
}
