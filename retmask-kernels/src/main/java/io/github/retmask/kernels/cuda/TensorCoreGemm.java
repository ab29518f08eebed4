package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// [Gemm] by the kernels of `matmul_bf16.cu`, for machines without cuBLAS.
final class TensorCoreGemm implements Gemm {
  private static final String STEM = "matmul_bf16";

  private final Gpu gpu;

  TensorCoreGemm(Gpu gpu) {
    this.gpu = gpu;
  }

  /// Tiles of C that a block computes, as `matmul_bf16.cu` has them, from the one that reads its
  /// operands least to the one that makes most blocks.
  enum Tile {
    LARGE(128, 256, 256, 4 * 32),
    MEDIUM(128, 128, 128, 4 * 32),
    SMALL(64, 64, 128, 4 * 64),
    SKINNY(32, 32, 128, 8 * 64);

    final int m;
    final int n;
    final int threads;
    final int sharedBytes;

    Tile(int m, int n, int threads, int steps) {
      this.m = m;
      this.n = n;
      this.threads = threads;
      this.sharedBytes = (m + n) * steps * Short.BYTES;
    }

    long blocks(long rows, long columns) {
      return Math.ceilDiv(rows, m) * Math.ceilDiv(columns, n);
    }

    /// The first one that keeps nine of ten multiprocessors busy and is not half empty, up to `last`.
    static Tile of(long rows, long columns, int multiprocessors, Tile last) {
      for (Tile tile : values()) {
        if (tile == last
            || tile.m < 2 * rows && 10 * tile.blocks(rows, columns) >= 9L * multiprocessors) {
          return tile;
        }
      }
      return last;
    }

    private String kernel(String product) {
      return product + name().toLowerCase(java.util.Locale.ROOT) + "_bf16";
    }
  }

  @Override
  public void forward(Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    forward(
        Tile.of(x.dim(0), weight.dim(0), gpu.multiprocessors(), Tile.SKINNY), out, x, weight, bias);
  }

  void forward(Tile tile, Tensor out, Tensor x, Tensor weight, @Nullable Tensor bias) {
    gpu.launch(STEM, tile.kernel("matmul_"))
        .tensor(out)
        .tensor(x)
        .tensor(weight)
        .tensorOrNull(bias)
        .integer(bias == null ? 0 : bias.dtype().ordinal())
        .integer(x.dim(0))
        .integer(x.dim(1))
        .integer(weight.dim(0))
        .integer(out.dtype().ordinal())
        .run(tile.blocks(x.dim(0), weight.dim(0)), 1, 1, tile.threads, tile.sharedBytes);
  }

  @Override
  public void backwardInput(Tensor dx, Tensor dOut, Tensor weight, Accumulate intoDx) {
    Tile tile = Tile.of(dOut.dim(0), weight.dim(1), gpu.multiprocessors(), Tile.SMALL);
    backwardInput(tile, dx, dOut, weight, intoDx);
  }

  void backwardInput(Tile tile, Tensor dx, Tensor dOut, Tensor weight, Accumulate intoDx) {
    long rows = dOut.dim(0);
    gpu.launch(STEM, tile.kernel("matmul_backward_input_"))
        .tensor(dx)
        .tensor(dOut)
        .tensor(weight)
        .integer(rows)
        .integer(weight.dim(1))
        .integer(weight.dim(0))
        .integer(intoDx == Accumulate.ADD ? 1 : 0)
        .run(tile.blocks(rows, weight.dim(1)), 1, 1, tile.threads, tile.sharedBytes);
  }

  @Override
  public void backwardWeight(Tensor dWeight, Tensor dOut, Tensor x) {
    Tile tile = Tile.of(dWeight.dim(0), dWeight.dim(1), gpu.multiprocessors(), Tile.SMALL);
    backwardWeight(tile, dWeight, dOut, x);
  }

  void backwardWeight(Tile tile, Tensor dWeight, Tensor dOut, Tensor x) {
    gpu.launch(STEM, tile.kernel("matmul_backward_weight_"))
        .tensor(dWeight)
        .tensor(dOut)
        .tensor(x)
        .integer(x.dim(0))
        .integer(dWeight.dim(1))
        .integer(dWeight.dim(0))
        .run(tile.blocks(dWeight.dim(0), dWeight.dim(1)), 1, 1, tile.threads, tile.sharedBytes);
  }

  /// Fills the rows of `out` with `bias`.
  static void fillRows(Gpu gpu, Tensor out, Tensor bias) {
    gpu.launch(STEM, "matmul_bias_rows_bf16")
        .tensor(out)
        .integer(out.dtype().ordinal())
        .tensor(bias)
        .integer(bias.dtype().ordinal())
        .integer(out.dim(1))
        .run(out.dim(0), Math.ceilDiv(out.dim(1), 256), 1, 256, 0);
  }

  @Override
  public String name() {
    return "mma.sync";
  }

  @Override
  public void close() {}
}
