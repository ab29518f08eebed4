package io.github.retmask.kernels.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.Backends;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Kernels;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Gradients of attention over rows that several tasks share: they add to the same dq, in turns.
class VectorLongBackwardTest {
  private static final int HEADS = 4;
  private static final int KV_HEADS = 2;
  private static final int HEAD_DIM = 8;

  /// Two and four tasks per kv head.
  private static final int[] LENGTHS = {500, 1203};

  /// One of the kv heads has a local and a masked head.
  private static final HeadMask MASK =
      HeadMask.none(1, HEADS)
          .withKind(List.of(new HeadId(0, 2)), new HeadKind.Local(3, 450))
          .withGate(List.of(new HeadId(0, 3)), 0f);

  @ParameterizedTest
  @ValueSource(ints = {AttentionSpec.NO_WINDOW, 700})
  void isThatOfTheReferenceAndTheSameOnAnyNumberOfThreads(int window) {
    float[][] want = gradients("reference", 1, window);
    float[][] first = gradients("vector", 1, window);
    for (int i = 0; i < want.length; i++) {
      assertThat(distance(first[i], want[i])).as("d%s", "qkv".charAt(i)).isLessThan(1e-5f);
    }
    for (int threads = 2; threads <= 5; threads++) {
      assertThat(gradients("vector", threads, window)).as("%d threads", threads).isEqualTo(first);
    }
  }

  /// Largest difference, of the largest element; NaN where there is one.
  private static float distance(float[] got, float[] want) {
    float largest = 0;
    float difference = 0;
    for (int i = 0; i < want.length; i++) {
      largest = Math.max(largest, Math.abs(want[i]));
      difference = Math.max(difference, Math.abs(got[i] - want[i]));
    }
    return difference / largest;
  }

  /// dq, dk and dv.
  private static float[][] gradients(String backend, int threads, int window) {
    BatchLayout layout = BatchLayout.packed(LENGTHS);
    int tokens = layout.tokens();
    HeadPlan plan = HeadPlan.of(List.of(MASK, HeadMask.none(1, HEADS)), 0, HEAD_DIM, false);
    AttentionSpec spec = new AttentionSpec(window, 0.3f);
    try (Kernels kernels = Backends.open(backend, threads);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Random random = new Random(7);
      Tensor q = normal(arena, random, "q", tokens, HEADS);
      Tensor k = normal(arena, random, "k", tokens, KV_HEADS);
      Tensor v = normal(arena, random, "v", tokens, KV_HEADS);
      Tensor dz = normal(arena, random, "dz", tokens, HEADS);
      Tensor z = arena.floats("z", tokens, HEADS, HEAD_DIM);
      Tensor lse = arena.floats("lse", tokens, HEADS);
      kernels.attention(z, lse, q, k, v, layout, plan, spec, null);
      Tensor dq = arena.floats("dq", tokens, HEADS, HEAD_DIM);
      Tensor dk = arena.floats("dk", tokens, KV_HEADS, HEAD_DIM);
      Tensor dv = arena.floats("dv", tokens, KV_HEADS, HEAD_DIM);
      kernels.attentionBackward(dq, dk, dv, dz, q, k, v, z, lse, layout, plan, spec);
      return new float[][] {dq.toFloats(), dk.toFloats(), dv.toFloats()};
    }
  }

  private static Tensor normal(
      TensorArena arena, Random random, String name, int tokens, int heads) {
    float[] values = new float[tokens * heads * HEAD_DIM];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return arena.floats(name, tokens, heads, HEAD_DIM).copyFrom(values);
  }
}
