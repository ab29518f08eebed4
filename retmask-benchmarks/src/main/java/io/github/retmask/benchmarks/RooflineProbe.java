package io.github.retmask.benchmarks;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import java.util.Locale;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/// The loops behind [Roofline], which runs them in a JVM of their own so that no other code shares
/// their profile.
///
/// `RooflineProbe THREADS` prints GFLOP/s of multiply-adds on vectors of `-Dbits`, then GB/s
/// of reading memory that no cache holds. Both are the best of the repetitions that fit a second:
/// what another process takes away says nothing about the machine.
public final class RooflineProbe {
  /// A constant to the compiler once this class is initialised.
  private static final VectorSpecies<Float> SPECIES =
      VectorSpecies.of(
          float.class,
          VectorShape.forBitSize(
              Integer.getInteger("bits", FloatVector.SPECIES_PREFERRED.vectorBitSize())));

  /// At most half a cache line, which reads faster than a whole one.
  private static final VectorSpecies<Integer> INTS =
      VectorSpecies.of(int.class, VectorShape.forBitSize(Math.min(256, SPECIES.vectorBitSize())));

  private static final ByteOrder LE = ByteOrder.LITTLE_ENDIAN;

  private static final int STEPS = 1 << 10; // of one call: small enough to be compiled as a whole
  private static final int CALLS = 1 << 14; // of one repetition, some 50 ms
  private static final int STRETCH = 1 << 12; // floats of one call
  private static final long READ_BYTES = 512L << 20; // of all threads, beyond any last-level cache
  private static final long LEAST_READ_BYTES = 64L << 20; // of one thread
  private static final long NANOS = 1_000_000_000L;
  private static final int LEAST_REPETITIONS = 5;

  private RooflineProbe() {}

  /// Work of one thread; the result keeps it from being optimised away.
  private interface Work {
    float run(int thread);
  }

  static void main(String[] args) throws InterruptedException {
    int threads = Integer.parseInt(args[0]);
    float[][] arrays =
        new float[threads][(int) (Math.max(READ_BYTES / threads, LEAST_READ_BYTES) / Float.BYTES)];
    double flops = callFlops() * CALLS * threads;
    double bytes = (double) Float.BYTES * arrays[0].length * threads;
    double fma = best(threads, flops, thread -> multiplyAdd(thread, CALLS));
    double read = best(threads, bytes, thread -> read(arrays[thread]));
    System.out.printf(Locale.ROOT, "%.2f %.2f%n", fma, read);
  }

  /// Does so many additions and multiplications in registers, on all threads.
  public static void compute(int threads, double flops) throws InterruptedException {
    int calls = (int) Math.ceil(flops / threads / callFlops());
    onAll(threads, thread -> multiplyAdd(thread, calls));
  }

  /// Reads memory, a part on each thread.
  ///
  /// @param memory off the heap
  public static void read(MemorySegment memory, int threads) throws InterruptedException {
    long part = memory.byteSize() / threads / STRETCH / Float.BYTES * STRETCH * Float.BYTES;
    onAll(threads, thread -> read(memory, thread * part, (thread + 1) * part));
  }

  private static double callFlops() {
    return 2.0 * 12 * SPECIES.length() * STEPS;
  }

  /// Units per nanosecond of the best repetition.
  private static double best(int threads, double units, Work work) throws InterruptedException {
    double best = 0;
    long end = System.nanoTime() + NANOS;
    for (int r = 0; r < LEAST_REPETITIONS || System.nanoTime() < end; r++) {
      long begin = System.nanoTime();
      onAll(threads, work);
      best = Math.max(best, units / (System.nanoTime() - begin));
    }
    return best;
  }

  private static void onAll(int threads, Work work) throws InterruptedException {
    float[] results = new float[threads];
    Thread[] others = new Thread[threads - 1];
    for (int t = 1; t < threads; t++) {
      int thread = t;
      others[t - 1] = Thread.ofPlatform().start(() -> results[thread] = work.run(thread));
    }
    results[0] = work.run(0);
    for (Thread other : others) {
      other.join();
    }
    for (float result : results) {
      if (Float.isNaN(result)) {
        throw new AssertionError("the sums are not numbers");
      }
    }
  }

  private static float multiplyAdd(int thread, int calls) {
    float sum = 0;
    for (int call = 0; call < calls; call++) {
      sum += chains(0.999f, 0.001f + thread);
    }
    return sum;
  }

  /// Twelve independent chains hide the latency. Products are added to the sums: a sum that is a
  /// factor makes C2 copy the addend first, which takes a fifth of the speed on processors that begin
  /// four instructions a cycle.
  private static float chains(float first, float second) {
    FloatVector a = FloatVector.broadcast(SPECIES, first);
    FloatVector b = FloatVector.broadcast(SPECIES, second);
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
    for (int i = 0; i < STEPS; i++) {
      s0 = a.fma(b, s0);
      s1 = a.fma(b, s1);
      s2 = a.fma(b, s2);
      s3 = a.fma(b, s3);
      s4 = a.fma(b, s4);
      s5 = a.fma(b, s5);
      s6 = a.fma(b, s6);
      s7 = a.fma(b, s7);
      s8 = a.fma(b, s8);
      s9 = a.fma(b, s9);
      s10 = a.fma(b, s10);
      s11 = a.fma(b, s11);
    }
    FloatVector low = s0.add(s1).add(s2).add(s3).add(s4).add(s5);
    FloatVector high = s6.add(s7).add(s8).add(s9).add(s10).add(s11);
    return low.add(high).reduceLanes(VectorOperators.ADD);
  }

  private static float read(float[] array) {
    float sum = 0;
    for (int at = 0; at < array.length; at += STRETCH) {
      sum += sum(array, at);
    }
    return sum;
  }

  private static float read(MemorySegment memory, long from, long to) {
    long bytes = STRETCH * Float.BYTES;
    long part = (to - from) / 4 / bytes * bytes;
    float sum = 0;
    for (long at = from; at < from + part; at += bytes) {
      sum += sum(memory, at, part);
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

  /// Four streams, a part apart. Weights may be any bits, NaN among them: integers are summed.
  private static float sum(MemorySegment memory, long at, long part) {
    int width = INTS.length();
    IntVector s0 = IntVector.zero(INTS);
    IntVector s1 = s0;
    IntVector s2 = s0;
    IntVector s3 = s0;
    for (int i = 0; i < STRETCH; i += width) {
      long from = at + i * 4L;
      s0 = s0.add(IntVector.fromMemorySegment(INTS, memory, from, LE));
      s1 = s1.add(IntVector.fromMemorySegment(INTS, memory, from + part, LE));
      s2 = s2.add(IntVector.fromMemorySegment(INTS, memory, from + 2 * part, LE));
      s3 = s3.add(IntVector.fromMemorySegment(INTS, memory, from + 3 * part, LE));
    }
    return s0.add(s1).add(s2).add(s3).reduceLanes(VectorOperators.ADD);
  }
}
