package io.github.retmask.benchmarks.peers;

import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Ops;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// The linear layer of retmask.
final class RetmaskSgemm implements Sgemm {
  private final Ops ops;
  private @Nullable TensorArena arena;
  private @Nullable Tensor out;
  private @Nullable Tensor x;
  private @Nullable Tensor w;

  RetmaskSgemm(int threads) {
    ops = new Ops(Backends.open("vector", threads));
  }

  @Override
  public void load(float[] xs, float[] ws, int m, int k, int n) {
    if (arena != null) {
      arena.close();
    }
    arena = ops.arena(TensorArena.Lifetime.MODEL);
    x = arena.floats("x", m, k).copyFrom(xs);
    w = arena.floats("w", n, k).copyFrom(ws);
    out = arena.floats("out", m, n);
  }

  @Override
  public void multiply() {
    ops.matmul(
        Objects.requireNonNull(out), Objects.requireNonNull(x), Objects.requireNonNull(w), null);
  }

  @Override
  public float at(int row, int column) {
    Tensor product = Objects.requireNonNull(out);
    return product.get(row * product.dim(1) + column);
  }
}
