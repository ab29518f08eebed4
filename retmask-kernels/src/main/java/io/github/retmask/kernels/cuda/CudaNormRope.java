package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.CacheLines;
import io.github.retmask.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// Launcher of `norm_rope.cu`.
final class CudaNormRope {
  private static final String STEM = "norm_rope";

  private CudaNormRope() {}

  static void normRope(
      Gpu gpu,
      Tensor out,
      @Nullable Tensor rstd,
      Tensor x,
      @Nullable Tensor norm,
      float eps,
      Tensor cos,
      Tensor sin,
      Tensor positions,
      @Nullable Tensor v,
      @Nullable CacheLines cache) {
    if (norm == null && cache == null) {
      CudaRope.rotate(gpu, out, x, cos, sin, positions, 1);
      return;
    }
    int packed = CudaElementwise.packed(x);
    int width = Math.toIntExact(norm == null ? x.dim(2) : norm.dim(0)); // W
    long rows = x.size() / width;
    CudaRmsNorm.Team team = CudaRmsNorm.Team.forward(width, packed);
    // A pair of packs for every thread, about, and as many rows for every team.
    long items = Math.max(1, width / (2 * packed));
    int rounds = (int) Math.max(1, team.threads() / items / team.teams());
    int blockRows = team.teams() * rounds;
    long places = gpu.onDevice(positions);
    long cacheRows = cache == null ? 0 : gpu.onDevice(cache.rows());
    gpu.launch(STEM, "norm_rope" + Gpu.suffix(x))
        .tensor(out)
        .tensorOrNull(rstd)
        .tensor(x)
        .tensorOrNull(norm)
        .integer(norm == null ? 0 : norm.dtype().ordinal())
        .real(eps)
        .tensor(cos)
        .tensor(sin)
        .address(places)
        .tensorOrNull(cache == null ? null : cache.keys())
        .tensorOrNull(cache == null ? null : cache.values())
        .tensorOrNull(v)
        .address(cacheRows)
        .longs(rows)
        .integer(width)
        .integer(x.dim(1))
        .integer(x.dim(2))
        .integer(cos.dim(1))
        .integer(team.team())
        .integer(blockRows)
        .run(
            Math.ceilDiv(rows, blockRows),
            cache == null ? 1 : 2,
            1,
            team.threads(),
            blockRows * Float.BYTES + team.sumBytes());
  }
}
