package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Projection;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Storage;
import io.github.retmask.tensor.Tensor;
import java.util.List;
import java.util.Locale;
import org.jspecify.annotations.Nullable;

/// The three products of a linear layer. In F32 they are those of the kernels of `matmul.cuh`: all ways
/// to compute a forward product give the same bits, so the shapes may choose. In BF16 a [Gemm]
/// multiplies, but for few rows, which are bounded by reading the weight.
final class CudaMatmul {
  /// Rows of x up to which reading the weight bounds the time.
  private static final int FEW = 8;

  private static final String BACKWARD = "matmul_backward";

  private CudaMatmul() {}

  static void matmul(Gpu gpu, Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    if (out.size() == 0) {
      return;
    }
    if (x.dtype() == DType.BF16) {
      Tensor halves = inBf16(gpu, weight);
      if (x.dim(0) > FEW) {
        gpu.gemm().forward(out, x, halves, bias);
      } else if (isWide(x) && isWide(halves)) {
        fewRows(gpu, out, x, halves, bias);
      } else {
        eachOutput(gpu, out, x, halves, bias);
      }
      return;
    }
    long rows = x.dim(0);
    long outs = weight.dim(0);
    boolean chained = Kernels.chains((int) x.dim(1)) > 1;
    if (rows <= FEW && chained && isWide(x) && isWide(weight)) {
      fewRows(gpu, out, x, weight, bias);
    } else if (rows <= FEW || !chained && weight.dtype().isBlock()) {
      eachOutput(gpu, out, x, weight, bias);
    } else if (chained) {
      // Large tiles read half as much of x and W, where there are enough to keep the GPU busy.
      long large = Math.ceilDiv(rows, 64) * Math.ceilDiv(outs, 64);
      tiles(gpu, out, x, weight, bias, 4 * large >= 3L * gpu.multiprocessors() ? 64 : 32);
    } else {
      begin(gpu, "matmul_product_", out, x, weight, bias)
          .run(Math.ceilDiv(outs, PRODUCT_N), Math.ceilDiv(rows, PRODUCT_M), 1, 128, PRODUCT_BYTES);
    }
  }

  /// The weight itself, or a copy that is rounded to BF16.
  static Tensor inBf16(Gpu gpu, Tensor weight) {
    if (weight.dtype() == DType.BF16) {
      return weight;
    }
    long bytes = DType.BF16.bytes(weight.size());
    Storage storage = new Storage.Device(gpu.scratch(bytes), bytes, gpu, null);
    Tensor rounded = new Tensor(weight.name(), DType.BF16, weight.shape(), storage);
    CudaElementwise.cast(gpu, rounded, weight);
    return rounded;
  }

  /// Whether rows can be copied 16 bytes and eight elements at a time. Rows of blocks can from
  /// wherever they begin.
  private static boolean isWide(Tensor matrix) {
    return matrix.dtype().isBlock() || matrix.dim(1) % 8 == 0 && Launch.address(matrix) % 16 == 0;
  }

  static void fewRows(Gpu gpu, Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    long rows = x.dim(0);
    if (x.dtype() == DType.BF16) {
      fewRows(gpu, x, List.of(new Projection(out, weight, bias)));
      return;
    }
    int together = rows == 1 ? 1 : rows <= 4 ? 4 : 8;
    long warps = Math.ceilDiv(weight.dim(0), FEW_OUTS);
    int perBlock = warps < 4L * gpu.multiprocessors() ? 1 : 4;
    begin(gpu, "matmul_few" + together + "_", out, x, weight, bias)
        .integer(out.dtype().ordinal())
        .run(
            Math.ceilDiv(warps, perBlock),
            Math.ceilDiv(rows, together),
            1,
            32 * perBlock,
            ringBytes(weight.dtype(), perBlock, together * Float.BYTES));
  }

  /// One launch for all of them, in BF16, for up to [#BLOCK_ROWS] rows.
  private static void fewRows(Gpu gpu, Tensor x, List<Projection> projections) {
    if (x.dim(0) > BLOCK_ROWS) {
      throw new IllegalArgumentException(x + ": want at most " + BLOCK_ROWS + " rows");
    }
    long outs = 0;
    Launch launch =
        gpu.launch("matmul_bf16", "matmul_few_bf16_bf16")
            .tensor(x)
            .integer(x.dim(0))
            .integer(x.dim(1))
            .integer(projections.getFirst().out().dtype().ordinal());
    for (int i = 0; i < TOGETHER; i++) {
      Projection one = projections.get(Math.min(i, projections.size() - 1));
      launch
          .tensor(one.out())
          .tensor(one.weight())
          .tensorOrNull(one.bias())
          .integer(one.bias() == null ? 0 : one.bias().dtype().ordinal())
          .integer(one.weight().dim(0));
      outs = Math.max(outs, one.weight().dim(0));
    }
    launch.run(Math.ceilDiv(outs, BLOCK_OUTS), projections.size(), 1, BLOCK_THREADS, BLOCK_BYTES);
  }

  /// One after the other, or few rows of BF16 by one launch.
  static void matmuls(Gpu gpu, Tensor x, List<Projection> projections) {
    if (areTogether(x, projections)) {
      fewRows(gpu, x, projections);
      return;
    }
    for (Projection one : projections) {
      matmul(gpu, one.out(), x, one.weight(), one.bias());
    }
  }

  private static boolean areTogether(Tensor x, List<Projection> projections) {
    if (x.dtype() != DType.BF16 || x.dim(0) > FEW || x.size() == 0 || !isWide(x)) {
      return false;
    }
    DType out = projections.getFirst().out().dtype();
    return projections.size() <= TOGETHER
        && projections.stream()
            .allMatch(
                one ->
                    one.weight().dtype() == DType.BF16
                        && isWide(one.weight())
                        && one.out().dtype() == out
                        && one.out().size() > 0);
  }

  static void eachOutput(Gpu gpu, Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    begin(gpu, "matmul_each_", out, x, weight, bias)
        .integer(out.dtype().ordinal())
        .integer(Kernels.chains((int) x.dim(1)))
        .run(x.dim(0), Math.ceilDiv(weight.dim(0), 128), 1, 128, 0);
  }

  /// @param size rows and columns of a tile, 32 or 64
  static void tiles(Gpu gpu, Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias, int size) {
    begin(gpu, "matmul_tiles" + size + "_", out, x, weight, bias)
        .run(
            Math.ceilDiv(weight.dim(0), size),
            Math.ceilDiv(x.dim(0), size),
            1,
            256,
            2 * 2 * 32 * (size + 4) * Float.BYTES);
  }

  private static Launch begin(
      Gpu gpu, String kernel, Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    String stem =
        x.dtype() == DType.BF16
            ? "matmul_bf16"
            : weight.dtype().isBlock() ? "matmul_blocks" : "matmul";
    return gpu.launch(stem, kernel + name(weight) + Gpu.suffix(x))
        .tensor(out)
        .tensor(x)
        .tensor(weight)
        .tensorOrNull(bias)
        .integer(bias == null ? 0 : bias.dtype().ordinal())
        .integer(x.dim(0))
        .integer(x.dim(1))
        .integer(weight.dim(0));
  }

  private static String name(Tensor weight) {
    return weight.dtype().name().toLowerCase(Locale.ROOT);
  }

  // --- constants of matmul_bf16.cu ------------------------------------------------------------

  private static final int TOGETHER = 3; // weights of a launch
  private static final int BLOCK_ROWS = 8;
  private static final int BLOCK_OUTS = 16;
  private static final int BLOCK_THREADS = 512;
  private static final int BLOCK_BYTES = BLOCK_THREADS / 32 * BLOCK_ROWS * BLOCK_OUTS * Float.BYTES;

  // --- constants of matmul.cuh ----------------------------------------------------------------

  private static final int FEW_OUTS = 8;
  private static final int PRODUCT_M = 128;
  private static final int PRODUCT_N = 64;
  private static final int PRODUCT_BYTES = 2 * 16 * (PRODUCT_M + 4 + PRODUCT_N + 4) * Float.BYTES;

  /// Shared memory of a block of `few_rows`: stages of rows of the weight and of x.
  ///
  /// @param step bytes of x for a step of the inner dimension
  private static int ringBytes(DType weights, int warps, int step) {
    return switch (weights) {
      case F32 -> ringBytes(6, warps, 288, 64 * step);
      case BF16, F16 -> ringBytes(6, warps, 272, 128 * step);
      case Q8_0 -> ringBytes(5, warps, 304, 256 * step);
      case Q4_0 -> ringBytes(6, warps, 176, 256 * step);
      case Q4_K -> ringBytes(6, warps, 144, 256 * step);
      case Q6_K -> ringBytes(6, warps, 240, 256 * step);
      case I32 -> throw new IllegalArgumentException("weights of I32");
    };
  }

  private static int ringBytes(int stages, int warps, int stride, int x) {
    return stages * (warps * FEW_OUTS * stride + x);
  }

  // --- backward -------------------------------------------------------------------------------

  static void backwardInput(Gpu gpu, Tensor dx, Tensor dOut, Tensor weight, Accumulate intoDx) {
    long rows = dOut.dim(0);
    long inner = weight.dim(1);
    if (rows == 0) {
      return;
    }
    if (dOut.dtype() == DType.BF16) {
      gpu.gemm().backwardInput(dx, dOut, inBf16(gpu, weight), intoDx);
      return;
    }
    gpu.launch(BACKWARD, "matmul_backward_input_" + name(weight) + Gpu.suffix(dx))
        .tensor(dx)
        .tensor(dOut)
        .tensor(weight)
        .integer(rows)
        .integer(inner)
        .integer(weight.dim(0))
        .integer(intoDx == Accumulate.ADD ? 1 : 0)
        .run(Math.ceilDiv(inner, PRODUCT_N), Math.ceilDiv(rows, PRODUCT_M), 1, 128, PRODUCT_BYTES);
  }

  static void backwardWeight(
      Gpu gpu, Tensor dWeight, @Nullable Tensor dBias, Tensor dOut, Tensor x) {
    long rows = x.dim(0);
    long outs = dWeight.dim(0);
    long inner = dWeight.dim(1);
    if (rows == 0) {
      return;
    }
    if (x.dtype() == DType.BF16) {
      gpu.gemm().backwardWeight(dWeight, dOut, x);
    } else {
      gpu.launch(BACKWARD, "matmul_backward_weight_f32")
          .tensor(dWeight)
          .tensor(dOut)
          .tensor(x)
          .integer(rows)
          .integer(inner)
          .integer(outs)
          .run(
              Math.ceilDiv(inner, PRODUCT_N), Math.ceilDiv(outs, PRODUCT_M), 1, 128, PRODUCT_BYTES);
    }
    if (dBias != null) {
      gpu.launch(BACKWARD, "matmul_backward_bias" + Gpu.suffix(x))
          .tensor(dBias)
          .tensor(dOut)
          .integer(rows)
          .integer(outs)
          .run(Math.ceilDiv(outs, 32), 1, 1, 512, 512 * Float.BYTES);
    }
  }
}
