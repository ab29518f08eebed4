package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.AdamWStep;
import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.generate.Sampling;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.Arrays;
import java.util.Collections;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// Every op at the shapes of Llama 3 8B and at many more tokens than one would give it. Nothing is
/// computed: what is seen is whether launches keep the limits of grids, blocks and shared memory, and
/// sizes those of integers.
class CudaLargeShapesTest {
  private static final int TOKENS = 300_000;
  private static final int C = 4096;
  private static final int H = 32;
  private static final int KV = 8;
  private static final int D = 128;
  private static final int F = 14_336;
  private static final int V = 128_256;

  private Kernels kernels;
  private Ops ops;
  private TensorArena arena;

  @BeforeEach
  void open() {
    Assumptions.assumeFalse(TestGpu.isReal(), "skipped: only where nothing is computed");
    kernels = TestGpu.openBFloat16(1);
    EmulatedGpu.idle(2000);
    ops = new Ops(kernels);
    arena = kernels.arena(TensorArena.Lifetime.STEP);
  }

  @AfterEach
  void close() {
    if (kernels != null) {
      arena.close();
      kernels.close();
      EmulatedGpu.idle(0);
    }
  }

  private Tensor of(DType type, long... dims) {
    return arena.allocate("x", type, dims);
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void rowsAndLinearLayers(DType type) {
    int[] numbers = new Random(1).ints(TOKENS, 0, 4000).toArray();
    Tensor ids = arena.ints("ids", numbers);
    Tensor x = of(type, TOKENS, C);
    Tensor rstd = arena.floats("rstd", TOKENS);
    Tensor weight = of(type, C);
    ops.embedding(x, ids, of(type, V, C));
    ops.embeddingBackward(arena.floats("dTable", V, C), x, ids);
    ops.gatherRows(of(type, TOKENS, C), x, ids);
    ops.rmsNorm(of(type, TOKENS, C), rstd, x, weight, 1e-5f);
    ops.addRmsNorm(of(type, TOKENS, C), rstd, x, x, of(type, TOKENS, C), weight, 1e-5f);
    Tensor dx = of(type, TOKENS, C);
    ops.rmsNormBackward(dx, arena.floats("dw", C), x, x, rstd, weight, Accumulate.ADD);
    Tensor q = of(type, TOKENS, H, D);
    Tensor cos = arena.floats("cos", 4000, D / 2);
    ops.rope(q, q, cos, cos, ids);
    ops.ropeBackward(q, q, cos, cos, ids);
    Tensor heads = arena.floats("rstd", (long) TOKENS * H);
    ops.normRope(of(type, TOKENS, H, D), heads, q, of(type, D), 1e-5f, cos, cos, ids, null, null);
    Tensor gate = of(type, TOKENS, F);
    Tensor matrix = of(type, F, C);
    ops.matmul(gate, x, matrix, of(type, F));
    ops.matmulBackwardInput(dx, gate, matrix, Accumulate.ADD);
    ops.matmulBackwardWeight(arena.floats("dW", F, C), arena.floats("db", F), gate, x);
    for (int rows : new int[] {1, 8, 9, 200}) {
      ops.matmul(of(type, rows, V), x.slice(0, rows), of(type, V, C), null);
    }
    ops.swiglu(gate, gate, of(type, TOKENS, F));
    ops.swigluBackward(of(type, TOKENS, F), gate, gate, gate, gate);
    ops.add(gate, gate, gate);
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void attention(DType type) {
    int[] lengths = new int[5000]; // the first one long
    Arrays.fill(lengths, 30);
    lengths[0] = TOKENS - 30 * 4999;
    BatchLayout layout = BatchLayout.packed(lengths);
    HeadPlan plan = HeadPlan.neutral(lengths.length, H);
    AttentionSpec spec = new AttentionSpec(AttentionSpec.NO_WINDOW, 0.1f);
    Tensor q = of(type, TOKENS, H, D);
    Tensor k = of(type, TOKENS, KV, D);
    Tensor z = of(type, TOKENS, H, D);
    Tensor lse = arena.floats("lse", TOKENS, H);
    int[] every = IntStream.range(0, TOKENS).toArray();
    int[][][] spans = new int[TOKENS][][];
    Arrays.fill(spans, new int[][] {{0, 9}});
    AttentionReadout all = AttentionReadout.of(arena, H, every, spans);
    ops.attention(z, lse, q, k, k, layout, plan, spec, all);
    Tensor dk = of(type, TOKENS, KV, D);
    ops.attentionBackward(q, dk, dk, z, q, k, k, z, lse, layout, plan, spec);
    ops.headGate(z, z, layout, plan);
    ops.headGateBackward(z, arena.floats("dGates", lengths.length, H), z, z, layout, plan);
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void decodingOfManyRows(DType type) {
    int rows = 512;
    int context = 131_072;
    int[] one = new int[rows];
    Arrays.fill(one, 1);
    int[] past = new int[rows];
    Arrays.fill(past, context - 1);
    past[0] = 4 * context - 1;
    int[] starts = new int[rows];
    Arrays.setAll(starts, r -> r == 0 ? 0 : 4 * context + (r - 1) * context);
    Tensor k = of(type, (rows + 3L) * context, KV, D);
    ops.attention(
        of(type, rows, H, D),
        arena.floats("lse", rows, H),
        of(type, rows, H, D),
        k,
        k,
        BatchLayout.cached(one, past, starts),
        HeadPlan.neutral(rows, H),
        new AttentionSpec(AttentionSpec.NO_WINDOW, 0.1f),
        AttentionReadout.of(arena, H, IntStream.range(0, rows).toArray()));
    Tensor logits = arena.floats("logits", rows, V);
    ops.drawTokens(logits, Collections.nCopies(rows, Sampling.of(0.7, 1).draw(0, 0)));
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void lossAndUpdate(DType type) {
    Tensor hidden = of(type, TOKENS, C);
    Tensor head = of(type, V, C);
    Tensor targets = arena.ints("targets", new Random(2).ints(TOKENS, 0, V).toArray());
    Tensor logps = arena.floats("logps", TOKENS);
    Tensor lse = arena.floats("lse", TOKENS);
    ops.tokenLogProbs(logps, lse, hidden, head, targets);
    Tensor dHead = arena.floats("dHead", V, C);
    ops.tokenLogProbsAndGradients(
        logps, lse, of(type, TOKENS, C), dHead, logps, hidden, head, targets);
    long most = 3L << 31; // elements of one tensor
    Tensor param = arena.floats("param", most);
    AdamWStep step = new AdamWStep(1, 1e-5, 0.9, 0.999, 1e-8, 0.01, 1);
    ops.adamW(param, arena.floats("g", most), arena.floats("m", most), param, step);
    ops.sumOfSquares(param);
    ops.cast(arena.allocate("half", DType.BF16, most), param);
  }
}
