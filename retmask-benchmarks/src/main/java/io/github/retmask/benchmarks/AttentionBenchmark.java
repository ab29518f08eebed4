package io.github.retmask.benchmarks;

import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Kernels;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.Param;

/// Causal attention: 4 D flops per visible (query, key) pair and kept head forward, 10 D backward
/// (with the scores computed again); decoding reads every visible key and value once.
public class AttentionBenchmark extends OpBenchmark {
  private static final int SAMPLES = 6;

  /// Rows x T x H x Hkv x D.
  @Param({"32x96x8x8x16", "8x160x8x8x24", "1x2048x8x2x64", "1x2048x8x2x128"})
  public String size = "";

  /// Part of the heads that are off, whose time should be saved.
  @Param({"0", "0.5"})
  public double off;

  /// Keys that a query sees; 0 for all.
  @Param("0")
  public int window;

  /// Keys that a query of every head sees beside the first four; 0 for all.
  @Param("0")
  public int local;

  /// Whether every query's top key, and its weight on one key in ten, are read out.
  @Param("false")
  public boolean readout;

  /// New tokens per row when decoding.
  @Param("1")
  public int step;

  private int rows;
  private int length;
  private int heads;
  private int kvHeads;
  private int headDim;
  private int kept;
  private BatchLayout layout;
  private BatchLayout decoding;
  private HeadPlan plan;
  private AttentionSpec spec;
  private @Nullable AttentionReadout read;
  private @Nullable AttentionReadout readWhileDecoding;
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
    rows = n[0];
    length = n[1];
    heads = n[2];
    kvHeads = n[3];
    headDim = n[4];
    int tokens = rows * length;
    layout = BatchLayout.packed(filled(length));
    int[] keyStart = IntStream.range(0, rows).map(r -> r * length).toArray();
    decoding = BatchLayout.cached(filled(step), filled(length - step), keyStart);
    kept = heads - (int) (off * heads);
    plan = HeadPlan.of(Collections.nCopies(rows, mask()), 0, headDim, false);
    spec =
        new AttentionSpec(
            window == 0 ? AttentionSpec.NO_WINDOW : window, (float) (1 / Math.sqrt(headDim)));
    read = readout ? readout(tokens) : null;
    readWhileDecoding = readout ? readout(rows * step) : null;
    q = normal("q", tokens, heads, headDim);
    k = normal("k", tokens, kvHeads, headDim);
    v = normal("v", tokens, kvHeads, headDim);
    dz = normal("dz", tokens, heads, headDim);
    z = zeros("z", tokens, heads, headDim);
    lse = zeros("lse", tokens, heads);
    dq = zeros("dq", tokens, heads, headDim);
    dk = zeros("dk", tokens, kvHeads, headDim);
    dv = zeros("dv", tokens, kvHeads, headDim);
    q1 = normal("q", (long) rows * step, heads, headDim);
    z1 = zeros("z", (long) rows * step, heads, headDim);
    lse1 = zeros("lse", (long) rows * step, heads);
  }

  private int[] filled(int value) {
    int[] values = new int[rows];
    Arrays.fill(values, value);
    return values;
  }

  private HeadMask mask() {
    List<HeadId> masked = new ArrayList<>();
    List<HeadId> others = new ArrayList<>();
    for (int h = 0; h < heads; h++) {
      (h < kept ? others : masked).add(new HeadId(0, h));
    }
    HeadMask mask = HeadMask.none(1, heads).withGate(masked, 0f);
    return local == 0 ? mask : mask.withKind(others, new HeadKind.Local(4, local));
  }

  private AttentionReadout readout(int tokens) {
    int[][][] spans = new int[tokens][][];
    Arrays.fill(spans, new int[][] {{0, length / 10}});
    return AttentionReadout.of(arena(), heads, IntStream.range(0, tokens).toArray(), spans);
  }

  /// Compares decoding, some queries' z, lse and dq, and some keys' dk and dv: all of them would take
  /// the reference hours for long rows.
  @Override
  void prove(Kernels reference) {
    kernels.attention(z, lse, q, k, v, layout, plan, spec, read);
    kernels.attentionBackward(dq, dk, dv, dz, q, k, v, z, lse, layout, plan, spec);
    kernels.attention(z1, lse1, q1, k, v, decoding, plan, spec, readWhileDecoding);
    int terms = 8 * length; // sums over T keys of products with rounded weights
    Tensor wantZ1 = zeros("z", z1.shape().dims());
    Tensor wantLse1 = zeros("lse", lse1.shape().dims());
    reference.attention(wantZ1, wantLse1, q1, k, v, decoding, plan, spec, null);
    close(z1, wantZ1, terms);
    closeWhereAttended(lse1, wantLse1, terms);
    for (int sample = 0; sample < SAMPLES; sample++) {
      int row = sample % rows;
      int position = (int) ((length - 1L) * (sample + 1) / SAMPLES); // at 0 dq is zero
      proveQuery(reference, row, position, terms);
      proveKey(row, position, terms);
    }
  }

  private void proveQuery(Kernels reference, int row, int position, int terms) {
    long token = (long) row * length + position;
    BatchLayout alone =
        BatchLayout.cached(new int[] {1}, new int[] {position}, new int[] {row * length});
    HeadPlan own = HeadPlan.of(List.of(mask()), 0, headDim, false);
    Tensor wantZ = zeros("z", 1, heads, headDim);
    Tensor wantLse = zeros("lse", 1, heads);
    reference.attention(wantZ, wantLse, q.slice(token, token + 1), k, v, alone, own, spec, null);
    close(z.slice(token, token + 1), wantZ, terms);
    closeWhereAttended(lse.slice(token, token + 1), wantLse, terms);
    Tensor wantDq = zeros("dq", 1, heads, headDim);
    for (int h = 0; h < kept; h++) {
      double[] sum = new double[headDim];
      for (int j = 0; j <= position; j++) {
        if (sees(position, j)) {
          add(sum, dScore(row, position, j, h), k, keyAt(row, j, h));
        }
      }
      for (int d = 0; d < headDim; d++) {
        wantDq.set((long) h * headDim + d, (float) (spec.scale() * sum[d]));
      }
    }
    close(dq.slice(token, token + 1), wantDq, terms);
  }

  /// Compares log-sum-exps of the heads that are on; the others' are -infinity.
  private void closeWhereAttended(Tensor got, Tensor want, int terms) {
    int tokens = (int) want.dim(0);
    Tensor gotKept = zeros("lse", tokens, kept);
    Tensor wantKept = zeros("lse", tokens, kept);
    for (int i = 0; i < tokens * kept; i++) {
      long at = (long) i / kept * heads + i % kept;
      gotKept.set(i, got.get(at));
      wantKept.set(i, want.get(at));
    }
    close(gotKept, wantKept, terms);
  }

  private void proveKey(int row, int position, int terms) {
    long token = (long) row * length + position;
    Tensor wantDk = zeros("dk", 1, kvHeads, headDim);
    Tensor wantDv = zeros("dv", 1, kvHeads, headDim);
    for (int g = 0; g < kvHeads; g++) {
      double[] key = new double[headDim];
      double[] value = new double[headDim];
      int group = heads / kvHeads;
      for (int h = g * group; h < Math.min(kept, (g + 1) * group); h++) {
        for (int i = position; i < length; i++) {
          if (sees(i, position)) {
            add(key, dScore(row, i, position, h), q, queryAt(row, i, h));
            add(value, weight(row, i, position, h), dz, queryAt(row, i, h));
          }
        }
      }
      for (int d = 0; d < headDim; d++) {
        wantDk.set((long) g * headDim + d, (float) (spec.scale() * key[d]));
        wantDv.set((long) g * headDim + d, (float) value[d]);
      }
    }
    close(dk.slice(token, token + 1), wantDk, terms);
    close(dv.slice(token, token + 1), wantDv, terms);
  }

  private boolean sees(int i, int j) {
    return j <= i && (window == 0 || j > i - window) && (local == 0 || j < 4 || j > i - local);
  }

  private long queryAt(int row, int i, int h) {
    return (((long) row * length + i) * heads + h) * headDim;
  }

  private long keyAt(int row, int j, int h) {
    return (((long) row * length + j) * kvHeads + h / (heads / kvHeads)) * headDim;
  }

  private double weight(int row, int i, int j, int h) {
    double score = spec.scale() * dot(q, queryAt(row, i, h), k, keyAt(row, j, h));
    return Math.exp(score - lse.get(((long) row * length + i) * heads + h));
  }

  private double dScore(int row, int i, int j, int h) {
    long at = queryAt(row, i, h);
    return weight(row, i, j, h) * (dot(dz, at, v, keyAt(row, j, h)) - dot(dz, at, z, at));
  }

  private double dot(Tensor a, long aAt, Tensor b, long bAt) {
    double sum = 0;
    for (int d = 0; d < headDim; d++) {
      sum += (double) a.get(aAt + d) * b.get(bAt + d);
    }
    return sum;
  }

  private void add(double[] sum, double factor, Tensor t, long at) {
    for (int d = 0; d < headDim; d++) {
      sum[d] += factor * t.get(at + d);
    }
  }

  /// Billions of visible (query, key) pairs times D of the kept heads, for queries from `first` on.
  private double pairs(int first) {
    long pairs = 0;
    for (long i = first; i < length; i++) {
      long seen = window == 0 ? i + 1 : Math.min(i + 1, window);
      pairs += local == 0 ? seen : Math.min(seen, local + Math.min(4, Math.max(0, i + 1 - local)));
    }
    return 1e-9 * rows * kept * headDim * pairs;
  }

  @Benchmark
  public void forward(Rate rate) {
    kernels.attention(z, lse, q, k, v, layout, plan, spec, read);
    rate.gflop += 4 * pairs(0);
    rate.gbyte += 1e-9 * bytes(z, lse, q, k, v);
  }

  @Benchmark
  public void backward(Rate rate) {
    kernels.attentionBackward(dq, dk, dv, dz, q, k, v, z, lse, layout, plan, spec);
    rate.gflop += 10 * pairs(0);
    rate.gbyte += 1e-9 * bytes(dq, dk, dv, dz, q, k, v, z, lse);
  }

  @Benchmark
  public void decode(Rate rate) {
    kernels.attention(z1, lse1, q1, k, v, decoding, plan, spec, readWhileDecoding);
    rate.gflop += 4 * pairs(length - step);
    int seen = window == 0 ? length : Math.min(length, window + step - 1);
    int group = heads / kvHeads;
    double groups = (kept + group - 1) / group; // with a head that attends
    rate.gbyte += 1e-9 * bytes(k, v) * seen / length * groups / kvHeads;
  }
}
