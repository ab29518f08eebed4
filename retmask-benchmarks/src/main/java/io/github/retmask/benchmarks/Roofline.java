package io.github.retmask.benchmarks;

import java.util.Locale;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/// What this machine can do at most through the Vector API: multiply-adds in registers, and reading
/// memory that no cache holds; on one thread and on all cores. The best of some repetitions.
public final class Roofline {
  private static final VectorSpecies<Float> SPECIES = FloatVector.SPECIES_PREFERRED;
  private static final int FMA_STEPS = 1 << 20;
  private static final int READ_FLOATS = 1 << 26; // 256 MiB a thread
  private static final int REPETITIONS = 12;

  private Roofline() {}

  static void main(String[] args) throws InterruptedException {
    int cores = Runtime.getRuntime().availableProcessors();
    System.out.printf(
        Locale.ROOT, "%s, %d cores, Java %s%n", SPECIES, cores, System.getProperty("java.version"));
    for (int threads : cores == 1 ? new int[] {1} : new int[] {1, cores}) {
      double flops = 2.0 * 12 * SPECIES.length() * FMA_STEPS * threads;
      System.out.printf(
          Locale.ROOT,
          "%d threads: %.1f GFLOP/s multiply-add, %.1f GB/s read%n",
          threads,
          best(threads, flops, Roofline::multiplyAdd),
          best(threads, 4.0 * READ_FLOATS * threads, new Reader()));
    }
  }

  /// Work of one thread; the result keeps it from being optimised away.
  private interface Work {
    float run(int thread);
  }

  /// Units per nanosecond of the best repetition.
  private static double best(int threads, double units, Work work) throws InterruptedException {
    AtomicReference<Float> result = new AtomicReference<>(0f);
    double best = 0;
    for (int repetition = 0; repetition < REPETITIONS; repetition++) {
      CountDownLatch start = new CountDownLatch(1);
      Thread[] running = new Thread[threads];
      for (int t = 0; t < threads; t++) {
        int thread = t;
        running[t] =
            Thread.ofPlatform()
                .start(
                    () -> {
                      try {
                        start.await();
                      } catch (InterruptedException e) {
                        return;
                      }
                      result.accumulateAndGet(work.run(thread), Float::sum);
                    });
      }
      long begin = System.nanoTime();
      start.countDown();
      for (Thread thread : running) {
        thread.join();
      }
      best = Math.max(best, units / (System.nanoTime() - begin));
    }
    if (result.get().isNaN()) {
      throw new AssertionError("the sums are not numbers");
    }
    return best;
  }

  /// Twelve independent chains hide the latency.
  private static float multiplyAdd(int thread) {
    FloatVector a = FloatVector.broadcast(SPECIES, 0.999f);
    FloatVector b = FloatVector.broadcast(SPECIES, 0.001f + thread);
    FloatVector s0 = a;
    FloatVector s1 = a;
    FloatVector s2 = a;
    FloatVector s3 = a;
    FloatVector s4 = a;
    FloatVector s5 = a;
    FloatVector s6 = a;
    FloatVector s7 = a;
    FloatVector s8 = a;
    FloatVector s9 = a;
    FloatVector s10 = a;
    FloatVector s11 = a;
    for (int i = 0; i < FMA_STEPS; i++) {
      s0 = s0.fma(a, b);
      s1 = s1.fma(a, b);
      s2 = s2.fma(a, b);
      s3 = s3.fma(a, b);
      s4 = s4.fma(a, b);
      s5 = s5.fma(a, b);
      s6 = s6.fma(a, b);
      s7 = s7.fma(a, b);
      s8 = s8.fma(a, b);
      s9 = s9.fma(a, b);
      s10 = s10.fma(a, b);
      s11 = s11.fma(a, b);
    }
    FloatVector low = s0.add(s1).add(s2).add(s3).add(s4).add(s5);
    FloatVector high = s6.add(s7).add(s8).add(s9).add(s10).add(s11);
    return low.add(high).reduceLanes(VectorOperators.ADD);
  }

  /// Sums an array of its own per thread, made when the thread first comes.
  private static final class Reader implements Work {
    private static final int STRETCH = 1 << 12;
    private final float[][] arrays = new float[Runtime.getRuntime().availableProcessors()][];

    @Override
    public float run(int thread) {
      if (arrays[thread] == null) {
        arrays[thread] = new float[READ_FLOATS];
      }
      float sum = 0;
      for (int at = 0; at < READ_FLOATS; at += STRETCH) {
        sum += sum(arrays[thread], at);
      }
      return sum;
    }

    private static float sum(float[] array, int at) {
      int width = SPECIES.length();
      FloatVector s0 = FloatVector.zero(SPECIES);
      FloatVector s1 = s0;
      FloatVector s2 = s0;
      FloatVector s3 = s0;
      for (int i = at; i < at + STRETCH; i += 4 * width) {
        s0 = s0.add(FloatVector.fromArray(SPECIES, array, i));
        s1 = s1.add(FloatVector.fromArray(SPECIES, array, i + width));
        s2 = s2.add(FloatVector.fromArray(SPECIES, array, i + 2 * width));
        s3 = s3.add(FloatVector.fromArray(SPECIES, array, i + 3 * width));
      }
      return s0.add(s1).add(s2).add(s3).reduceLanes(VectorOperators.ADD);
    }
  }
}
