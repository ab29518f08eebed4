package io.github.retmask.kernels.cuda;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.util.List;
import java.util.Locale;

/// Launchers of `elementwise.cu`, and the grid of all elementwise ops.
final class CudaElementwise {
  private static final String STEM = "elementwise";

  /// Threads of a block.
  static final int THREADS = 256;

  /// The parts of a sum of squares: this many where there are elements enough, multiples of [#UNIT].
  private static final int PARTS = 1024;

  private static final int SMALLEST_PART = 1 << 13;
  private static final int UNIT = 1 << 10;

  private CudaElementwise() {}

  /// Blocks of which each thread takes one item.
  static long blocks(long items) {
    return Math.ceilDiv(items, THREADS);
  }

  /// Packs of 16 bytes that the elements fill.
  static long packs(Tensor t) {
    return Math.ceilDiv(t.size(), packed(t));
  }

  /// Elements in 16 bytes.
  static int packed(Tensor t) {
    return 16 / t.dtype().bytes();
  }

  static void add(Gpu gpu, Tensor out, Tensor a, Tensor b) {
    gpu.launch(STEM, "add" + Gpu.suffix(out))
        .tensor(out)
        .tensor(a)
        .tensor(b)
        .longs(out.size())
        .run(blocks(packs(out)), THREADS);
  }

  static void cast(Gpu gpu, Tensor out, Tensor in) {
    if (in.isOnHost()) {
      castFromHost(gpu, out, in);
    } else if (out.dtype() == in.dtype()) {
      gpu.copy(Launch.address(out), Launch.address(in), in.storage().bytes());
    } else {
      cast(gpu, out, in.dtype(), Launch.address(in));
    }
  }

  /// The copy in between is as large as a weight: it is given back at once.
  private static void castFromHost(Gpu gpu, Tensor out, Tensor in) {
    if (out.dtype() == in.dtype()) {
      gpu.write(Launch.address(out), in.segment());
      return;
    }
    long copy = gpu.driver().allocate(in.storage().bytes());
    try {
      gpu.write(copy, in.segment());
      cast(gpu, out, in.dtype(), copy);
    } finally {
      gpu.release(copy);
    }
  }

  private static void cast(Gpu gpu, Tensor out, DType from, long in) {
    String kernel = "cast_" + name(out.dtype()) + "_";
    if (from.isBlock()) {
      gpu.launch(STEM, kernel + "blocks")
          .tensor(out)
          .address(in)
          .integer(from.ordinal())
          .longs(out.size())
          .run(blocks(Math.ceilDiv(out.size(), 4)), THREADS);
      return;
    }
    gpu.launch(STEM, kernel + name(from))
        .tensor(out)
        .address(in)
        .longs(out.size())
        .run(blocks(Math.ceilDiv(out.size(), 8)), THREADS);
  }

  private static String name(DType type) {
    return type.name().toLowerCase(Locale.ROOT);
  }

  /// The sum of every tensor, after one wait. The parts of a sum depend on the length alone, and so do
  /// the bits.
  static double[] sumsOfSquares(Gpu gpu, List<Tensor> tensors) {
    long sums = gpu.scratch((long) tensors.size() * Double.BYTES);
    for (int i = 0; i < tensors.size(); i++) {
      sumOfSquares(gpu, sums + (long) i * Double.BYTES, tensors.get(i));
    }
    return gpu.downloadDoubles(sums, tensors.size());
  }

  private static void sumOfSquares(Gpu gpu, long sum, Tensor x) {
    long part = Math.max(SMALLEST_PART, Math.ceilDiv(Math.ceilDiv(x.size(), PARTS), UNIT) * UNIT);
    long count = Math.ceilDiv(x.size(), part);
    long parts = gpu.scratch(count * Double.BYTES);
    int shared = THREADS / 32 * Double.BYTES;
    gpu.launch(STEM, "sum_of_squares" + Gpu.suffix(x))
        .address(parts)
        .tensor(x)
        .longs(x.size())
        .longs(part)
        .run(count, 1, 1, THREADS, shared);
    gpu.launch(STEM, "sum_parts")
        .address(sum)
        .address(parts)
        .integer(count)
        .run(1, 1, 1, THREADS, shared);
  }
}
