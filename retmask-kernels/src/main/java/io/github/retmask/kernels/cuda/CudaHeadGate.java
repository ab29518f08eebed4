package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// Launchers of `head_gate.cu`.
final class CudaHeadGate {
  private static final String STEM = "head_gate";
  private static final int THREADS = 256;
  private static final int WARPS = THREADS / 32;

  /// Tokens of a tile, as `TILE` in `head_gate.cu`.
  private static final int TILE = 32;

  private CudaHeadGate() {}

  static void headGate(Gpu gpu, Tensor out, Tensor z, BatchLayout layout, HeadPlan plan) {
    int headDim = Math.toIntExact(z.dim(2));
    long items = Math.max(1, z.dim(1) * headDim / CudaElementwise.packed(z)); // of a token, about
    long tokens = Math.max(1, THREADS / items);
    long rowOf = gpu.image(layout).rowOf();
    long heads = gpu.image(plan, headDim).heads();
    gpu.launch(STEM, "head_gate" + Gpu.suffix(z))
        .tensor(out)
        .tensor(z)
        .address(rowOf)
        .address(heads)
        .integer(layout.tokens())
        .integer(plan.heads())
        .integer(headDim)
        .integer(tokens)
        .run(Math.ceilDiv(layout.tokens(), tokens), THREADS);
  }

  /// Without a gate's gradient the backward is the forward's map.
  static void backward(
      Gpu gpu,
      Tensor dz,
      @Nullable Tensor dGates,
      Tensor dOut,
      Tensor z,
      BatchLayout layout,
      HeadPlan plan) {
    if (dGates == null) {
      headGate(gpu, dz, dOut, layout, plan);
      return;
    }
    int headDim = Math.toIntExact(z.dim(2));
    // Where a row's tiles begin in the partial sums follows from its first token: see first_tile.
    long slots = layout.tokens() / TILE + layout.rows() + 1L;
    long partial = gpu.scratch(slots * plan.heads() * Float.BYTES);
    long rows = gpu.image(layout).rows();
    long tiles = gpu.tiles(layout, TILE);
    long heads = gpu.image(plan, headDim).heads();
    gpu.launch(STEM, "head_gate_backward" + Gpu.suffix(z))
        .tensor(dz)
        .address(partial)
        .tensor(dOut)
        .tensor(z)
        .address(rows)
        .address(tiles)
        .address(heads)
        .integer(plan.heads())
        .integer(headDim)
        .run(Gpu.tileCount(layout, TILE), Math.ceilDiv(plan.heads(), WARPS), 1, THREADS, 0);
    gpu.launch(STEM, "head_gate_gradient")
        .tensor(dGates)
        .address(partial)
        .address(rows)
        .integer(plan.heads())
        .run(layout.rows(), Math.ceilDiv(plan.heads(), WARPS), 1, THREADS, 0);
  }
}
