package io.github.retmask.kernels.cpu;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;

/// Sum, cast and sum of squares of whole tensors, and the loop that all elementwise ops share.
/// Limited by memory.
///
/// Plain loops where C2 makes vectors of them by itself: they box nothing until it has.
final class VectorElementwise {
  /// Elements per thread below which another one is not worth waking.
  private static final long SMALL = 1 << 15;

  /// Elements that pass through arrays at once: some arrays of 8 KiB stay in L1.
  static final int STRETCH = 1 << 11;

  /// Elements of a partial sum of squares.
  private static final int PART = 1 << 14;

  private VectorElementwise() {}

  /// Computes a stretch of elements.
  interface Stretch {
    /// @param from first element
    /// @param count elements, at most [#STRETCH]
    void run(long from, int count, Scratch scratch);
  }

  /// Runs `body` over all elements, in stretches that start at multiples of [#STRETCH].
  static void stretches(WorkerPool pool, long size, Stretch body) {
    pool.ranges(
        size,
        STRETCH,
        SMALL,
        (from, to, scratch) -> {
          for (long i = from; i < to; i += STRETCH) {
            body.run(i, (int) Math.min(STRETCH, to - i), scratch);
          }
        });
  }

  /// The elements of a stretch in an array.
  static float[] read(Scratch scratch, int slot, MemorySegment from, long first, int count) {
    float[] array = scratch.floats(slot, STRETCH);
    MemorySegment.copy(from, Lanes.F32, 4 * first, array, 0, count);
    return array;
  }

  static void write(MemorySegment to, long first, float[] array, int count) {
    MemorySegment.copy(array, 0, to, Lanes.F32, 4 * first, count);
  }

  static void add(WorkerPool pool, Tensor out, Tensor a, Tensor b) {
    MemorySegment to = out.segment();
    MemorySegment first = a.segment();
    MemorySegment second = b.segment();
    stretches(
        pool,
        out.size(),
        (from, count, scratch) -> {
          float[] sum = read(scratch, 0, first, from, count);
          addTo(sum, read(scratch, 1, second, from, count), count);
          write(to, from, sum, count);
        });
  }

  /// `to += from` for `count` floats.
  static void addTo(float[] to, float[] from, int count) {
    for (int i = 0; i < count; i++) {
      to[i] += from[i];
    }
  }

  static void cast(WorkerPool pool, Tensor out, Tensor in) {
    MemorySegment to = out.segment();
    stretches(
        pool,
        out.size(),
        (i, count, scratch) -> {
          float[] wide = scratch.floats(0, STRETCH);
          Blocks.readWide(wide, 0, in, i, count, scratch);
          if (out.dtype() == DType.F32) {
            write(to, i, wide, count);
            return;
          }
          short[] bits = scratch.shorts(count);
          if (out.dtype() == DType.BF16) {
            toBFloat16(bits, wide, count);
          } else {
            toFloat16(bits, wide, count);
          }
          MemorySegment.copy(bits, 0, to, Lanes.I16, 2 * i, count);
        });
  }

  private static void toFloat16(short[] to, float[] from, int count) {
    for (int i = 0; i < count; i++) {
      to[i] = Float.floatToFloat16(from[i]);
    }
  }

  /// Adding half of the last kept bit rounds to nearest; the kept bit itself breaks ties to even.
  private static void toBFloat16(short[] to, float[] from, int count) {
    for (int i = 0; i < count; i++) {
      int bits = Float.floatToRawIntBits(from[i]);
      boolean nan = (bits & 0x7fffffff) > 0x7f800000;
      int rounded = nan ? bits | 0x400000 : bits + 0x7fff + (bits >>> 16 & 1); // NaN made quiet
      to[i] = (short) (rounded >>> 16);
    }
  }

  /// Parts of 16384 elements, each in 8 sums of double, added in ascending order.
  static double sumOfSquares(WorkerPool pool, Tensor x) {
    MemorySegment from = x.segment();
    double[] parts = new double[Math.toIntExact((x.size() + PART - 1) / PART)];
    pool.ranges(
        x.size(),
        PART,
        SMALL,
        (i0, i1, scratch) -> {
          for (long i = i0; i < i1; i += PART) {
            int count = (int) Math.min(PART, i1 - i);
            float[] values = scratch.floats(0, PART);
            MemorySegment.copy(from, Lanes.F32, 4 * i, values, 0, count);
            parts[(int) (i / PART)] = sumOfSquares(values, count);
          }
        });
    double sum = 0;
    for (double part : parts) {
      sum += part;
    }
    return sum;
  }

  /// Element i belongs to sum i mod 8, the last few to sum 0. Squares of floats are exact in double.
  private static double sumOfSquares(float[] x, int count) {
    double s0 = 0;
    double s1 = 0;
    double s2 = 0;
    double s3 = 0;
    double s4 = 0;
    double s5 = 0;
    double s6 = 0;
    double s7 = 0;
    int full = count & -8;
    for (int i = 0; i < full; i += 8) {
      s0 += square(x[i]);
      s1 += square(x[i + 1]);
      s2 += square(x[i + 2]);
      s3 += square(x[i + 3]);
      s4 += square(x[i + 4]);
      s5 += square(x[i + 5]);
      s6 += square(x[i + 6]);
      s7 += square(x[i + 7]);
    }
    for (int i = full; i < count; i++) {
      s0 += square(x[i]);
    }
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7));
  }

  private static double square(double x) {
    return x * x;
  }
}
