package io.github.retmask.benchmarks.peers;

import java.util.Objects;
import org.bytedeco.pytorch.NoGradGuard;
import org.bytedeco.pytorch.Tensor;
import org.bytedeco.pytorch.global.torch;
import org.jspecify.annotations.Nullable;

/// `linear` of libtorch.
final class TorchSgemm implements Sgemm {
  private final NoGradGuard noGradients = new NoGradGuard();
  private @Nullable Tensor x;
  private @Nullable Tensor w;
  private @Nullable Tensor out;

  TorchSgemm(int threads) {
    torch.set_num_threads(threads);
  }

  @Override
  public void load(float[] xs, float[] ws, int m, int k, int n) {
    for (Tensor old : new Tensor[] {x, w, out}) {
      if (old != null) {
        old.close();
      }
    }
    x = torch.tensor(xs).view(m, k);
    w = torch.tensor(ws).view(n, k);
    out = null;
  }

  @Override
  public void multiply() {
    if (out != null) {
      out.close();
    }
    out = torch.linear(Objects.requireNonNull(x), Objects.requireNonNull(w));
  }

  @Override
  public float at(int row, int column) {
    return Objects.requireNonNull(out).select(0, row).select(0, column).item_float();
  }
}
