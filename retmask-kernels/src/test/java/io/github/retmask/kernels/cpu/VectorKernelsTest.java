package io.github.retmask.kernels.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.KernelsContract;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.Projection;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.Arrays;
import org.junit.jupiter.api.Test;

class VectorKernelsTest extends KernelsContract {

  @Override
  protected Kernels open(int threads) {
    return new VectorBackend().open(threads);
  }

  @Test
  void scoresThatAllOverflowLeaveNoNumber() {
    for (int length : new int[] {1, 70}) { // streamed and packed
      try (Kernels kernels = open(1);
          TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
        float[] huge = new float[length];
        Arrays.fill(huge, 1e30f);
        Tensor q = arena.floats("q", length, 1, 1).copyFrom(huge);
        Arrays.fill(huge, -1e30f);
        Tensor k = arena.floats("k", length, 1, 1).copyFrom(huge);
        Tensor z = arena.floats("z", length, 1, 1);
        Tensor lse = arena.floats("lse", length, 1);
        BatchLayout layout = BatchLayout.packed(length);
        AttentionSpec spec = new AttentionSpec(AttentionSpec.NO_WINDOW, 1);
        new Ops(kernels).attention(z, lse, q, k, k, layout, HeadPlan.neutral(1, 1), spec, null);
        assertThat(lse.toFloats()).containsOnly(Float.NEGATIVE_INFINITY);
        assertThat(z.toFloats()).containsOnly(Float.NaN);
      }
    }
  }

  @Test
  void productsOfNothingAreNothing() {
    try (Kernels kernels = open(2);
        TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      Tensor x = arena.floats("x", 40, 8);
      Tensor some = arena.floats("some", 40, 3).copyFrom(new float[120]);
      some.segment().fill((byte) 1);
      Ops ops = new Ops(kernels);
      ops.matmuls(
          x,
          new Projection(arena.floats("none", 40, 0), arena.floats("no rows", 0, 8), null),
          new Projection(some, arena.floats("weight", 3, 8), null));
      assertThat(some.toFloats()).containsOnly(0f);
      ops.matmul(arena.floats("no tokens", 0, 3), x.slice(0, 0), arena.floats("w", 3, 8), null);
    }
  }
}
