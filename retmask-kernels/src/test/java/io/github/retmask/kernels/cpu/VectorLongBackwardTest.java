package io.github.retmask.kernels.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.AttentionCase;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Gradients of attention over rows that several tasks share: they add to the same dq, in turns.
class VectorLongBackwardTest {
  private static final int HEADS = 4;
  private static final int KV_HEADS = 2;
  private static final int HEAD_DIM = 8;

  @ParameterizedTest
  @ValueSource(ints = {AttentionSpec.NO_WINDOW, 700})
  void isThatOfTheReferenceAndTheSameOnAnyNumberOfThreads(int window) {
    // Two and four tasks per kv head.
    AttentionCase c =
        AttentionCase.packed(HEADS, KV_HEADS, HEAD_DIM, 500, 1203).mixed(false).window(window);
    float[][] want = gradients("reference", 1, c);
    float[][] first = gradients("vector", 1, c);
    for (int i = 0; i < want.length; i++) {
      assertThat(distance(first[i], want[i])).as("d%s", "qkv".charAt(i)).isLessThan(1e-5f);
    }
    for (int threads = 2; threads <= 5; threads++) {
      assertThat(gradients("vector", threads, c)).as("%d threads", threads).isEqualTo(first);
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

  /// dq, dk and dv; dz are the queries in reverse.
  private static float[][] gradients(String backend, int threads, AttentionCase c) {
    float[] queries = c.q();
    float[] reversed = new float[queries.length];
    for (int i = 0; i < queries.length; i++) {
      reversed[i] = queries[queries.length - 1 - i];
    }
    try (Kernels kernels = Backends.open(backend, threads);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Tensor q = arena.floats("q", c.tokens(), HEADS, HEAD_DIM).copyFrom(queries);
      Tensor k = arena.floats("k", c.tokens(), KV_HEADS, HEAD_DIM).copyFrom(c.k());
      Tensor v = arena.floats("v", c.tokens(), KV_HEADS, HEAD_DIM).copyFrom(c.v());
      Tensor dz = arena.floats("dz", c.tokens(), HEADS, HEAD_DIM).copyFrom(reversed);
      Tensor z = arena.floats("z", c.tokens(), HEADS, HEAD_DIM);
      Tensor lse = arena.floats("lse", c.tokens(), HEADS);
      kernels.attention(z, lse, q, k, v, c.layout(), c.plan(), c.spec(), null);
      Tensor dq = arena.floats("dq", c.tokens(), HEADS, HEAD_DIM);
      Tensor dk = arena.floats("dk", c.tokens(), KV_HEADS, HEAD_DIM);
      Tensor dv = arena.floats("dv", c.tokens(), KV_HEADS, HEAD_DIM);
      kernels.attentionBackward(dq, dk, dv, dz, q, k, v, z, lse, c.layout(), c.plan(), c.spec());
      return new float[][] {dq.toFloats(), dk.toFloats(), dv.toFloats()};
    }
  }
}
