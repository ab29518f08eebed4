package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.LE;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;

/// Sum, cast and sum of squares of whole tensors. Limited by memory.
final class VectorElementwise {
  /// Elements per thread below which another one is not worth waking.
  static final long SMALL = 1 << 15;

  /// Elements of one call of a loop: an int counter stays far from its limit, and the loop's method
  /// is called often enough to be compiled as a whole.
  static final int STRETCH = 1 << 13;

  /// Elements of a partial sum of squares.
  private static final int PART = 1 << 14;

  private VectorElementwise() {}

  /// A loop over a stretch of elements.
  interface Stretch {
    void run(long from, int count);
  }

  /// Runs `body` over all elements, in stretches that start at multiples of [#STRETCH].
  static void stretches(WorkerPool pool, long size, Stretch body) {
    pool.ranges(
        size,
        STRETCH,
        SMALL,
        (from, to, _) -> {
          for (long i = from; i < to; i += STRETCH) {
            body.run(i, (int) Math.min(STRETCH, to - i));
          }
        });
  }

  static void add(WorkerPool pool, Tensor out, Tensor a, Tensor b) {
    MemorySegment to = out.segment();
    MemorySegment first = a.segment();
    MemorySegment second = b.segment();
    stretches(pool, out.size(), (from, count) -> add(to, first, second, 4 * from, count));
  }

  private static void add(MemorySegment out, MemorySegment a, MemorySegment b, long at, int count) {
    int i = 0;
    for (; i <= count - WIDTH; i += WIDTH) {
      long o = at + i * 4L;
      Lanes.load(a, o).add(Lanes.load(b, o)).intoMemorySegment(out, o, LE);
    }
    for (; i < count; i++) {
      long o = at + i * 4L;
      Lanes.set(out, o, Lanes.get(a, o) + Lanes.get(b, o));
    }
  }

  /// `to += from` for `count` floats.
  static void add(MemorySegment to, long toAt, MemorySegment from, long at, int count) {
    int i = 0;
    for (; i <= count - WIDTH; i += WIDTH) {
      Lanes.load(to, toAt + i * 4L)
          .add(Lanes.load(from, at + i * 4L))
          .intoMemorySegment(to, toAt + i * 4L, LE);
    }
    for (; i < count; i++) {
      Lanes.set(to, toAt + i * 4L, Lanes.get(to, toAt + i * 4L) + Lanes.get(from, at + i * 4L));
    }
  }

  static void cast(WorkerPool pool, Tensor out, Tensor in) {
    MemorySegment to = out.segment();
    MemorySegment from = in.segment();
    int inBytes = in.dtype().bytes();
    stretches(
        pool,
        out.size(),
        (i, count) -> {
          switch (out.dtype()) {
            case F32 -> Panels.widen(to, 4 * i, from, i * inBytes, in.dtype(), count);
            case BF16 -> toBFloat16(to, from, i, in.dtype(), count);
            default -> toFloat16(to, from, i, in.dtype(), count);
          }
        });
  }

  private static float widened(MemorySegment from, long i, DType type) {
    return switch (type) {
      case BF16 -> Float.intBitsToFloat(from.get(Lanes.I16, i * 2) << 16);
      case F16 -> Float.float16ToFloat(from.get(Lanes.I16, i * 2));
      default -> from.get(Lanes.F32, i * 4);
    };
  }

  private static void toFloat16(
      MemorySegment to, MemorySegment from, long at, DType type, int count) {
    for (int i = 0; i < count; i++) {
      to.set(Lanes.I16, (at + i) * 2, Float.floatToFloat16(widened(from, at + i, type)));
    }
  }

  /// Adding half of the last kept bit rounds to nearest; the kept bit itself breaks ties to even.
  private static void toBFloat16(
      MemorySegment to, MemorySegment from, long at, DType type, int count) {
    for (int i = 0; i < count; i++) {
      int bits = Float.floatToRawIntBits(widened(from, at + i, type));
      boolean nan = (bits & 0x7fffffff) > 0x7f800000;
      int rounded = nan ? bits | 0x400000 : bits + 0x7fff + (bits >>> 16 & 1); // NaN made quiet
      to.set(Lanes.I16, (at + i) * 2, (short) (rounded >>> 16));
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
        (i0, i1, _) -> {
          for (long i = i0; i < i1; i += PART) {
            int count = (int) Math.min(PART, i1 - i);
            parts[(int) (i / PART)] = sumOfSquares(from, 4 * i, count);
          }
        });
    double sum = 0;
    for (double part : parts) {
      sum += part;
    }
    return sum;
  }

  private static double sumOfSquares(MemorySegment x, long at, int count) {
    double s0 = 0;
    double s1 = 0;
    double s2 = 0;
    double s3 = 0;
    double s4 = 0;
    double s5 = 0;
    double s6 = 0;
    double s7 = 0;
    int i = 0;
    for (; i <= count - 8; i += 8) {
      long o = at + i * 4L;
      s0 += square(x, o);
      s1 += square(x, o + 4);
      s2 += square(x, o + 8);
      s3 += square(x, o + 12);
      s4 += square(x, o + 16);
      s5 += square(x, o + 20);
      s6 += square(x, o + 24);
      s7 += square(x, o + 28);
    }
    for (; i < count; i++) {
      s0 += square(x, at + i * 4L);
    }
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7));
  }

  private static double square(MemorySegment x, long at) {
    double value = Lanes.get(x, at);
    return value * value;
  }
}
