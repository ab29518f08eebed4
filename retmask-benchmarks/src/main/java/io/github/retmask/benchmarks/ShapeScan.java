package io.github.retmask.benchmarks;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.Backends;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.Locale;
import java.util.Random;

/// Looks for cliffs: sizes that an op computes at less than half of the speed of a neighbour.
///
/// `ShapeScan OP SIZE NUMBER FROM TO STEP [TYPE] [THREADS]` lets the NUMBER-th of a size's numbers, from
/// 0 on, run from FROM to TO, prints GFLOP/s of each (the fastest call of three passes), and marks
/// cliffs; the exit code is then 1. OP and its SIZE:
///
/// | op | size |
/// |---|---|
/// | `matmul` | N x I x O, TYPE of the weight F32, BF16 or F16 |
/// | `attention` | new tokens x past tokens x heads x kv heads x D, TYPE F32 |
public final class ShapeScan {
  private static final int PASSES = 3;
  private static final int LEAST_CALLS = 4;
  private static final long NANOS = 30_000_000; // of calls in a pass
  private static final long WARM_UP = 3_000_000_000L; // nanoseconds

  private final Kernels kernels;
  private final DType type;
  private final Random random = new Random(1);

  private ShapeScan(Kernels kernels, DType type) {
    this.kernels = kernels;
    this.type = type;
  }

  static void main(String[] args) {
    if (args.length < 6) {
      System.err.println("ShapeScan matmul|attention SIZE NUMBER FROM TO STEP [TYPE] [THREADS]");
      System.exit(2);
    }
    DType type = args.length > 6 ? DType.valueOf(args[6]) : DType.F32;
    int threads = args.length > 7 ? Integer.parseInt(args[7]) : 1;
    int from = Integer.parseInt(args[3]);
    int step = Integer.parseInt(args[5]);
    double[] rates = new double[Math.max(0, Integer.parseInt(args[4]) - from) / step + 1];
    try (Kernels kernels = Backends.open("vector", threads)) {
      ShapeScan scan = new ShapeScan(kernels, type);
      int[] size = OpBenchmark.numbers(args[1]);
      long warm = System.nanoTime() + WARM_UP;
      for (int pass = 0; pass < PASSES; ) {
        boolean isWarm = System.nanoTime() >= warm;
        for (int i = 0; i < rates.length; i++) {
          size[Integer.parseInt(args[2])] = from + i * step;
          double rate = scan.rate(args[0], size);
          rates[i] = isWarm ? Math.max(rates[i], rate) : 0;
        }
        pass += isWarm ? 1 : 0;
      }
    }
    boolean any = false;
    for (int i = 0; i < rates.length; i++) {
      boolean isCliff = isCliff(rates, i);
      any |= isCliff;
      String mark = isCliff ? "  less than half of a neighbour" : "";
      System.out.printf(Locale.ROOT, "%6d %8.2f%s%n", from + i * step, rates[i], mark);
    }
    System.exit(any ? 1 : 0);
  }

  private static boolean isCliff(double[] rates, int i) {
    return i > 0 && !(2 * rates[i] >= rates[i - 1])
        || i + 1 < rates.length && !(2 * rates[i] >= rates[i + 1]);
  }

  /// Billions of additions and multiplications a second.
  private double rate(String op, int[] size) {
    try (TensorArena arena = kernels.arena(TensorArena.Lifetime.STEP)) {
      return switch (op) {
        case "matmul" -> {
          Runnable call = matmul(arena, size[0], size[1], size[2]);
          yield 2.0 * size[0] * size[1] * size[2] / nanos(call);
        }
        case "attention" -> {
          double pairs = size[0] * (size[1] + (size[0] + 1) / 2.0);
          yield 4 * pairs * size[2] * size[4] / nanos(attention(arena, size));
        }
        default ->
            throw new IllegalArgumentException("no op " + op + "; there are matmul, attention");
      };
    }
  }

  private static double nanos(Runnable call) {
    double best = Double.POSITIVE_INFINITY;
    long end = System.nanoTime() + NANOS;
    for (int calls = 0; calls < LEAST_CALLS || System.nanoTime() < end; calls++) {
      long begin = System.nanoTime();
      call.run();
      best = Math.min(best, System.nanoTime() - begin);
    }
    return best;
  }

  private Runnable matmul(TensorArena arena, int n, int inner, int outs) {
    Tensor x = normal(arena, n, inner);
    Tensor weight = arena.allocate("weight", type, outs, inner);
    kernels.cast(weight, normal(arena, outs, inner));
    Tensor out = arena.floats("out", n, outs);
    return () -> kernels.matmul(out, x, weight, null);
  }

  private Runnable attention(TensorArena arena, int[] size) {
    int length = size[0];
    int past = size[1];
    int heads = size[2];
    int keys = past + length;
    BatchLayout layout = BatchLayout.cached(new int[] {length}, new int[] {past}, new int[] {0});
    HeadPlan plan = HeadPlan.neutral(1, heads);
    float scale = (float) (1 / Math.sqrt(size[4]));
    AttentionSpec spec = new AttentionSpec(AttentionSpec.NO_WINDOW, scale);
    Tensor q = normal(arena, length, heads, size[4]);
    Tensor k = normal(arena, keys, size[3], size[4]);
    Tensor v = normal(arena, keys, size[3], size[4]);
    Tensor z = arena.floats("z", length, heads, size[4]);
    Tensor lse = arena.floats("lse", length, heads);
    return () -> kernels.attention(z, lse, q, k, v, layout, plan, spec, null);
  }

  private Tensor normal(TensorArena arena, long... dims) {
    Tensor t = arena.floats("input", dims);
    float[] values = new float[(int) t.size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return t.copyFrom(values);
  }
}
