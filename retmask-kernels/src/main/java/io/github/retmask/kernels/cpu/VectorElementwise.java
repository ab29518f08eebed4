package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.DoubleVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/// Sum, cast and sum of squares of whole tensors, and the loop that all elementwise ops share.
/// Limited by memory.
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

  /// `to += from` for `count` floats and the rest of the last vector.
  static void addTo(float[] to, float[] from, int count) {
    for (int i = 0; i < count; i += WIDTH) {
      FloatVector.fromArray(FLOAT, to, i)
          .add(FloatVector.fromArray(FLOAT, from, i))
          .intoArray(to, i);
    }
  }

  static void cast(WorkerPool pool, Tensor out, Tensor in) {
    MemorySegment to = out.segment();
    MemorySegment from = in.segment();
    DType type = in.dtype();
    long size = in.size();
    stretches(
        pool,
        out.size(),
        (i, count, scratch) -> {
          float[] wide = scratch.floats(0, STRETCH);
          Blocks.readWide(wide, 0, count, from, type, size, 0, i, 1, count, scratch);
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

  /// Parts of 16384 elements, each in 8 lanes of double, added in ascending order.
  static double sumOfSquares(WorkerPool pool, Tensor x) {
    MemorySegment from = x.segment();
    double[] parts = new double[Math.toIntExact((x.size() + PART - 1) / PART)];
    pool.ranges(
        x.size(),
        PART,
        SMALL,
        (i0, i1, scratch) -> {
          double[] sums = new double[8];
          for (long i = i0; i < i1; i += PART) {
            int count = (int) Math.min(PART, i1 - i);
            float[] values = scratch.floats(0, PART);
            MemorySegment.copy(from, Lanes.F32, 4 * i, values, 0, count);
            parts[(int) (i / PART)] = sumOfSquares(values, count, sums);
          }
        });
    double sum = 0;
    for (double part : parts) {
      sum += part;
    }
    return sum;
  }

  /// Element i belongs to sum i mod 8, the last few to sum 0. Squares of floats are exact in double.
  private static double sumOfSquares(float[] x, int count, double[] sums) {
    int full = count & -8;
    addSquares(x, full, sums);
    for (int i = full; i < count; i++) {
      sums[0] += (double) x[i] * x[i];
    }
    return ((sums[0] + sums[4]) + (sums[1] + sums[5]))
        + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
  }

  private static void addSquares(float[] x, int count, double[] sums) {
    if (WIDTH == 4) {
      addSquaresOfPairs(x, count, sums);
      return;
    }
    DoubleVector low = DoubleVector.zero(DoubleVector.SPECIES_256);
    DoubleVector high = low;
    for (int i = 0; i < count; i += 8) {
      FloatVector a = FloatVector.fromArray(FloatVector.SPECIES_256, x, i);
      DoubleVector b = widened(a, DoubleVector.SPECIES_256, 0);
      DoubleVector c = widened(a, DoubleVector.SPECIES_256, 1);
      low = low.add(b.mul(b));
      high = high.add(c.mul(c));
    }
    low.intoArray(sums, 0);
    high.intoArray(sums, 4);
  }

  /// The same sums where vectors hold two doubles.
  private static void addSquaresOfPairs(float[] x, int count, double[] sums) {
    DoubleVector s0 = DoubleVector.zero(DoubleVector.SPECIES_128);
    DoubleVector s2 = s0;
    DoubleVector s4 = s0;
    DoubleVector s6 = s0;
    for (int i = 0; i < count; i += 8) {
      FloatVector a = FloatVector.fromArray(FloatVector.SPECIES_128, x, i);
      FloatVector b = FloatVector.fromArray(FloatVector.SPECIES_128, x, i + 4);
      DoubleVector a0 = widened(a, DoubleVector.SPECIES_128, 0);
      DoubleVector a2 = widened(a, DoubleVector.SPECIES_128, 1);
      DoubleVector b4 = widened(b, DoubleVector.SPECIES_128, 0);
      DoubleVector b6 = widened(b, DoubleVector.SPECIES_128, 1);
      s0 = s0.add(a0.mul(a0));
      s2 = s2.add(a2.mul(a2));
      s4 = s4.add(b4.mul(b4));
      s6 = s6.add(b6.mul(b6));
    }
    s0.intoArray(sums, 0);
    s2.intoArray(sums, 2);
    s4.intoArray(sums, 4);
    s6.intoArray(sums, 6);
  }

  private static DoubleVector widened(FloatVector x, VectorSpecies<Double> species, int part) {
    return (DoubleVector) x.convertShape(VectorOperators.F2D, species, part);
  }
}
