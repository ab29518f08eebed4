package io.github.retmask.benchmarks;

import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Kernels;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.tensor.Tensor;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;

/// Gates on the outputs of heads, one of them off, one at 0.3.
public class HeadGateBenchmark extends OpBenchmark {
  /// Rows x T x H x D.
  @Param({"32x96x8x16", "4x512x32x128"})
  public String size = "";

  private BatchLayout layout;
  private HeadPlan plan;
  private Tensor out;
  private Tensor z;
  private Tensor dz;
  private Tensor dGates;
  private Tensor dOut;

  @Override
  void prepare() {
    int[] n = numbers(size);
    int[] lengths = new int[n[0]];
    Arrays.fill(lengths, n[1]);
    layout = BatchLayout.packed(lengths);
    HeadMask mask =
        HeadMask.none(1, n[2])
            .withGate(List.of(new HeadId(0, 1)), 0f)
            .withGate(List.of(new HeadId(0, 2)), 0.3f);
    plan = HeadPlan.of(Collections.nCopies(n[0], mask), 0, n[3], true);
    z = normal("z", n[0] * n[1], n[2], n[3]);
    dOut = normal("dOut", z.shape().dims());
    out = zeros("out", z.shape().dims());
    dz = zeros("dz", z.shape().dims());
    dGates = zeros("dGates", n[0], n[2]);
  }

  @Override
  void prove(Kernels reference) {
    int[] n = numbers(size);
    Tensor wantOut = zeros("out", z.shape().dims());
    Tensor wantDz = zeros("dz", z.shape().dims());
    Tensor wantDGates = zeros("dGates", n[0], n[2]);
    reference.headGate(wantOut, z, layout, plan);
    reference.headGateBackward(wantDz, wantDGates, dOut, z, layout, plan);
    kernels.headGate(out, z, layout, plan);
    kernels.headGateBackward(dz, dGates, dOut, z, layout, plan);
    same(out, wantOut);
    same(dz, wantDz);
    close(dGates, wantDGates, n[1] * n[3]);
  }

  @Benchmark
  public void forward(Rate rate) {
    kernels.headGate(out, z, layout, plan);
    rate.gbyte += 1e-9 * bytes(out, z);
  }

  @Benchmark
  public void backward(Rate rate) {
    kernels.headGateBackward(dz, dGates, dOut, z, layout, plan);
    rate.gbyte += 1e-9 * bytes(dz, dOut, z);
  }
}
