package io.github.retmask.benchmarks;

import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import org.openjdk.jmh.annotations.AuxCounters;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/// One op of one backend on random data. Before anything is timed, its outputs are compared with the
/// reference backend's; a wrong result ends the run.
@State(Scope.Benchmark)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.SECONDS)
@Warmup(iterations = 3, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(1)
public abstract class OpBenchmark {
  /// Unit roundoff of F32.
  private static final double EPS = 0x1p-24;

  @Param({"reference", "vector"})
  public String backend = "";

  /// Threads that compute; 0 for one per core.
  @Param("0")
  public int threads;

  /// The backend under test.
  Kernels kernels;

  /// Of this JVM's machine and threads; JMH runs one benchmark a JVM.
  private static Roofline.@Nullable Roof roof;

  private TensorArena arena;
  private Random random;

  /// What a second of the benchmark did. One of the first two says what limits the op.
  @AuxCounters(AuxCounters.Type.OPERATIONS)
  @State(Scope.Thread)
  public static class Rate {
    /// Billions of additions and multiplications, as the formula has them.
    public double gflop;

    /// Billions of bytes that the op has to read and write at least.
    public double gbyte;

    /// Of the time that the measured roof allows at the least. Above 100 where caches hold the data.
    public double percentOfRoof() {
      return roof == null ? 0 : 100 * roof.seconds(gflop, gbyte);
    }
  }

  /// Opens the backend, makes the data, proves the result, and measures the roof.
  @Setup(Level.Trial)
  public void open() {
    int cores = Runtime.getRuntime().availableProcessors();
    kernels = Backends.open(backend, threads == 0 ? cores : threads);
    arena = kernels.arena(TensorArena.Lifetime.MODEL);
    random = new Random(1);
    prepare();
    try (Kernels reference = Backends.open("reference", 1)) {
      prove(reference);
    }
    roof = Roofline.measure(kernels.threads());
  }

  /// Makes the inputs.
  abstract void prepare();

  /// Compares every output with that of `reference`.
  abstract void prove(Kernels reference);

  /// Frees everything.
  @TearDown(Level.Trial)
  public void close() {
    arena.close();
    kernels.close();
  }

  final TensorArena arena() {
    return arena;
  }

  /// A new output, all zero.
  final Tensor zeros(String name, long... dims) {
    return arena.floats(name, dims);
  }

  /// A new input of standard normal values.
  final Tensor normal(String name, long... dims) {
    Tensor t = arena.floats(name, dims);
    for (long i = 0; i < t.size(); i++) {
      t.set(i, (float) random.nextGaussian());
    }
    return t;
  }

  /// New I32 values below `bound`.
  final Tensor below(String name, int bound, int count) {
    return arena.ints(name, random.ints(count, 0, bound).toArray());
  }

  /// Bytes of some tensors.
  static long bytes(Tensor... tensors) {
    long sum = 0;
    for (Tensor t : tensors) {
      sum += t.storage().bytes();
    }
    return sum;
  }

  /// Numbers of a size such as `3072x128`.
  static int[] numbers(String size) {
    String[] parts = size.split("x");
    int[] numbers = new int[parts.length];
    for (int i = 0; i < parts.length; i++) {
      numbers[i] = Integer.parseInt(parts[i]);
    }
    return numbers;
  }

  /// Fails unless every bit agrees.
  static void same(Tensor got, Tensor want) {
    close(got, want, 0);
  }

  /// Fails unless every element differs by at most `terms` rounding errors of the largest wanted
  /// one: the error of a sum of that many terms.
  static void close(Tensor got, Tensor want, int terms) {
    double largest = 0;
    for (long i = 0; i < want.size(); i++) {
      largest = Math.max(largest, Math.abs(want.get(i)));
    }
    double tolerance = terms * EPS * largest;
    for (long i = 0; i < want.size(); i++) {
      double diff = Math.abs((double) got.get(i) - want.get(i));
      if (!(diff <= tolerance)) {
        throw new AssertionError(
            "%s: element %d is %s, the reference has %s; tolerance %s"
                .formatted(got, i, got.get(i), want.get(i), tolerance));
      }
    }
  }
}
