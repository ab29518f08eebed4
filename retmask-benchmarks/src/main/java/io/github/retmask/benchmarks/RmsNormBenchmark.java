package io.github.retmask.benchmarks;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.Tensor;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;

/// Root-mean-square norm of rows.
public class RmsNormBenchmark extends OpBenchmark {
  /// Rows x width.
  @Param({"3072x128", "24576x16", "512x4096"})
  public String size = "";

  private Tensor out;
  private Tensor rstd;
  private Tensor x;
  private Tensor weight;
  private Tensor dx;
  private Tensor dWeight;
  private Tensor dOut;

  @Override
  void prepare() {
    int[] n = numbers(size);
    x = normal("x", n[0], n[1]);
    weight = normal("weight", n[1]);
    dOut = normal("dOut", n[0], n[1]);
    out = zeros("out", n[0], n[1]);
    rstd = zeros("rstd", n[0]);
    dx = zeros("dx", n[0], n[1]);
    dWeight = zeros("dWeight", n[1]);
  }

  @Override
  void prove(Kernels reference) {
    int[] n = numbers(size);
    Tensor wantOut = zeros("out", n[0], n[1]);
    Tensor wantDx = zeros("dx", n[0], n[1]);
    Tensor wantDWeight = zeros("dWeight", n[1]);
    reference.rmsNorm(wantOut, rstd, x, weight, 1e-5f);
    reference.rmsNormBackward(wantDx, wantDWeight, dOut, x, rstd, weight, Accumulate.SET);
    kernels.rmsNorm(out, rstd, x, weight, 1e-5f);
    kernels.rmsNormBackward(dx, dWeight, dOut, x, rstd, weight, Accumulate.SET);
    close(out, wantOut, n[1]);
    close(dx, wantDx, n[1]);
    close(dWeight, wantDWeight, n[0]);
  }

  @Benchmark
  public void forward(Rate rate) {
    kernels.rmsNorm(out, rstd, x, weight, 1e-5f);
    rate.gflop += 4e-9 * x.size();
    rate.gbyte += 1e-9 * bytes(out, x);
  }

  @Benchmark
  public void backward(Rate rate) {
    kernels.rmsNormBackward(dx, dWeight, dOut, x, rstd, weight, Accumulate.SET);
    rate.gflop += 9e-9 * x.size();
    rate.gbyte += 1e-9 * bytes(dx, dOut, x);
  }
}
