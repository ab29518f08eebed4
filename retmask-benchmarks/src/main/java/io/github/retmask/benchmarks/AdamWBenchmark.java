package io.github.retmask.benchmarks;

import io.github.retmask.backend.AdamWStep;
import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.Tensor;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;

/// One AdamW update: 28 bytes per parameter.
public class AdamWBenchmark extends OpBenchmark {
  private static final AdamWStep STEP = new AdamWStep(10, 1e-3, 0.9, 0.95, 1e-8, 0.1, 0.5);

  /// Parameters.
  @Param({"32768", "16777216"})
  public int size;

  private Tensor param;
  private Tensor grad;
  private Tensor m;
  private Tensor v;

  @Override
  void prepare() {
    param = normal("param", size);
    grad = normal("grad", size);
    m = zeros("m", size);
    v = zeros("v", size);
  }

  @Override
  void prove(Kernels reference) {
    int few = Math.min(size, 100_003);
    Tensor some = grad.slice(0, few);
    Tensor want = zeros("param", few);
    Tensor wantM = zeros("m", few);
    Tensor wantV = zeros("v", few);
    Tensor got = zeros("param", few);
    Tensor gotM = zeros("m", few);
    Tensor gotV = zeros("v", few);
    reference.adamW(want, some, wantM, wantV, STEP);
    kernels.adamW(got, some, gotM, gotV, STEP);
    close(got, want, 8); // a few operations on every element
    close(gotM, wantM, 8);
    close(gotV, wantV, 8);
  }

  @Benchmark
  public void update(Rate rate) {
    kernels.adamW(param, grad, m, v, STEP);
    rate.gbyte += 28e-9 * size;
  }
}
