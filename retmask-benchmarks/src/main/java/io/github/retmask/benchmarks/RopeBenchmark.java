package io.github.retmask.benchmarks;

import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.Tensor;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;

/// Rotary position embedding of queries or keys.
public class RopeBenchmark extends OpBenchmark {
  /// Rows x T x H x D.
  @Param({"32x96x8x16", "4x512x32x128"})
  public String size = "";

  private Tensor out;
  private Tensor x;
  private Tensor cos;
  private Tensor sin;
  private Tensor positions;

  @Override
  void prepare() {
    int[] n = numbers(size);
    int[] at = new int[n[0] * n[1]];
    for (int i = 0; i < at.length; i++) {
      at[i] = i % n[1];
    }
    positions = arena().ints("positions", at);
    x = normal("x", at.length, n[2], n[3]);
    out = zeros("out", x.shape().dims());
    cos = normal("cos", n[1], n[3] / 2); // any factors will do
    sin = normal("sin", n[1], n[3] / 2);
  }

  @Override
  void prove(Kernels reference) {
    Tensor want = zeros("out", x.shape().dims());
    reference.rope(want, x, cos, sin, positions);
    kernels.rope(out, x, cos, sin, positions);
    close(out, want, 2);
    reference.ropeBackward(want, x, cos, sin, positions);
    kernels.ropeBackward(out, x, cos, sin, positions);
    close(out, want, 2);
  }

  @Benchmark
  public void forward(Rate rate) {
    kernels.rope(out, x, cos, sin, positions);
    rate.gflop += 3e-9 * x.size();
    rate.gbyte += 1e-9 * bytes(out, x);
  }
}
