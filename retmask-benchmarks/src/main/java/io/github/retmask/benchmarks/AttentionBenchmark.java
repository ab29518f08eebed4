package io.github.retmask.benchmarks;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Kernels;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;

/// Causal attention: 4 D flops per visible (query, key) pair and kept head forward, 10 D backward
/// (with the scores computed again); decoding reads every key and value once.
public class AttentionBenchmark extends OpBenchmark {
  /// Rows x T x H x Hkv x D.
  @Param({"32x96x8x8x16", "8x160x8x8x24", "1x1024x8x2x64"})
  public String size = "";

  /// Part of the heads that are off, whose time should be saved.
  @Param({"0", "0.5"})
  public double off;

  private BatchLayout layout;
  private BatchLayout decoding;
  private HeadPlan plan;
  private AttentionSpec spec;
  private int kept;
  private Tensor z;
  private Tensor lse;
  private Tensor q;
  private Tensor k;
  private Tensor v;
  private Tensor dz;
  private Tensor dq;
  private Tensor dk;
  private Tensor dv;
  private Tensor q1;
  private Tensor z1;
  private Tensor lse1;

  @Override
  void prepare() {
    int[] n = numbers(size);
    int rows = n[0];
    int length = n[1];
    int tokens = rows * length;
    int[] lengths = new int[rows];
    Arrays.fill(lengths, length);
    layout = BatchLayout.packed(lengths);
    int[] ones = new int[rows];
    int[] past = new int[rows];
    int[] keyStart = new int[rows];
    Arrays.fill(ones, 1);
    Arrays.fill(past, length - 1);
    Arrays.setAll(keyStart, r -> r * length);
    decoding = BatchLayout.cached(ones, past, keyStart);
    kept = n[2] - (int) (off * n[2]);
    List<HeadId> masked = new ArrayList<>();
    for (int h = kept; h < n[2]; h++) {
      masked.add(new HeadId(0, h));
    }
    HeadMask mask = HeadMask.none(1, n[2]).withGate(masked, 0f);
    plan = HeadPlan.of(Collections.nCopies(rows, mask), 0, n[4], false);
    spec = new AttentionSpec(AttentionSpec.NO_WINDOW, (float) (1 / Math.sqrt(n[4])));
    q = normal("q", tokens, n[2], n[4]);
    k = normal("k", tokens, n[3], n[4]);
    v = normal("v", tokens, n[3], n[4]);
    dz = normal("dz", tokens, n[2], n[4]);
    z = zeros("z", tokens, n[2], n[4]);
    lse = zeros("lse", tokens, n[2]);
    dq = zeros("dq", tokens, n[2], n[4]);
    dk = zeros("dk", tokens, n[3], n[4]);
    dv = zeros("dv", tokens, n[3], n[4]);
    q1 = normal("q", rows, n[2], n[4]);
    z1 = zeros("z", rows, n[2], n[4]);
    lse1 = zeros("lse", rows, n[2]);
  }

  @Override
  void prove(Kernels reference) {
    int[] n = numbers(size);
    int terms = 8 * n[1]; // sums over T keys of products with rounded weights
    Tensor wantZ = zeros("z", z.shape().dims());
    Tensor wantLse = zeros("lse", lse.shape().dims());
    Tensor wantDq = zeros("dq", dq.shape().dims());
    Tensor wantDk = zeros("dk", dk.shape().dims());
    Tensor wantDv = zeros("dv", dv.shape().dims());
    Tensor wantZ1 = zeros("z", z1.shape().dims());
    reference.attention(wantZ, wantLse, q, k, v, layout, plan, spec, null);
    reference.attentionBackward(
        wantDq, wantDk, wantDv, dz, q, k, v, wantZ, wantLse, layout, plan, spec);
    reference.attention(wantZ1, lse1, q1, k, v, decoding, plan, spec, null);
    kernels.attention(z, lse, q, k, v, layout, plan, spec, null);
    kernels.attentionBackward(dq, dk, dv, dz, q, k, v, z, lse, layout, plan, spec);
    kernels.attention(z1, lse1, q1, k, v, decoding, plan, spec, null);
    close(z, wantZ, terms);
    close(dq, wantDq, terms);
    close(dk, wantDk, terms);
    close(dv, wantDv, terms);
    close(z1, wantZ1, terms);
  }

  /// Billions of (query, key) pairs times D of the kept heads.
  private double pairs() {
    int[] n = numbers(size);
    return 1e-9 * n[0] * kept * n[4] * n[1] * (n[1] + 1) / 2;
  }

  @Benchmark
  public void forward(Rate rate) {
    kernels.attention(z, lse, q, k, v, layout, plan, spec, null);
    rate.gflop += 4 * pairs();
    rate.gbyte += 1e-9 * bytes(z, lse, q, k, v);
  }

  @Benchmark
  public void backward(Rate rate) {
    kernels.attentionBackward(dq, dk, dv, dz, q, k, v, z, lse, layout, plan, spec);
    rate.gflop += 10 * pairs();
    rate.gbyte += 1e-9 * bytes(dq, dk, dv, dz, q, k, v, z, lse);
  }

  @Benchmark
  public void decode(Rate rate) {
    kernels.attention(z1, lse1, q1, k, v, decoding, plan, spec, null);
    rate.gflop += 4 * pairs() * 2 / (layout.length(0) + 1);
    rate.gbyte += 1e-9 * bytes(k, v);
  }
}
