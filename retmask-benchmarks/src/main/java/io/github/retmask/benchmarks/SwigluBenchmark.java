package io.github.retmask.benchmarks;

import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.Tensor;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;

/// SwiGLU, elementwise: three tensors of `[N,F]` forward, five backward.
public class SwigluBenchmark extends OpBenchmark {
  /// N x F.
  @Param({"3072x256", "512x11008"})
  public String size = "";

  private Tensor out;
  private Tensor gate;
  private Tensor up;
  private Tensor dGate;
  private Tensor dUp;
  private Tensor dOut;

  @Override
  void prepare() {
    int[] n = numbers(size);
    gate = normal("gate", n[0], n[1]);
    up = normal("up", n[0], n[1]);
    dOut = normal("dOut", n[0], n[1]);
    out = zeros("out", n[0], n[1]);
    dGate = zeros("dGate", n[0], n[1]);
    dUp = zeros("dUp", n[0], n[1]);
  }

  @Override
  void prove(Kernels reference) {
    Tensor wantOut = zeros("out", out.shape().dims());
    Tensor wantDGate = zeros("dGate", out.shape().dims());
    Tensor wantDUp = zeros("dUp", out.shape().dims());
    reference.swiglu(wantOut, gate, up);
    reference.swigluBackward(wantDGate, wantDUp, dOut, gate, up);
    kernels.swiglu(out, gate, up);
    kernels.swigluBackward(dGate, dUp, dOut, gate, up);
    close(out, wantOut, 8); // exp, division and a few products
    close(dGate, wantDGate, 8);
    close(dUp, wantDUp, 8);
  }

  @Benchmark
  public void forward(Rate rate) {
    kernels.swiglu(out, gate, up);
    rate.gbyte += 1e-9 * bytes(out, gate, up);
  }

  @Benchmark
  public void backward(Rate rate) {
    kernels.swigluBackward(dGate, dUp, dOut, gate, up);
    rate.gbyte += 1e-9 * bytes(dGate, dUp, dOut, gate, up);
  }
}
