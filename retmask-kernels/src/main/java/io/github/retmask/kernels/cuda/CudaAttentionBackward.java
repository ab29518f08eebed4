package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.tensor.Tensor;

/// Gradients of attention without atomics: one kernel owns keys and values, another one queries.
final class CudaAttentionBackward {
  static final String STEM = "attention_backward";

  private static final int THREADS = 256;

  private CudaAttentionBackward() {}

  static void backward(
      Gpu gpu,
      Tensor dq,
      Tensor dk,
      Tensor dv,
      Tensor dz,
      Tensor q,
      Tensor k,
      Tensor v,
      Tensor z,
      Tensor lse,
      BatchLayout layout,
      HeadPlan plan,
      AttentionSpec spec) {
    int heads = (int) q.dim(1);
    int kvHeads = (int) k.dim(1);
    int headDim = CudaAttention.headDim(q);
    LayoutImage rows = gpu.image(layout);
    PlanImage planned = gpu.image(plan, headDim);
    int cells = layout.tokens() * heads;
    long delta = gpu.scratch((long) cells * Float.BYTES);
    gpu.launch(STEM, "attention_delta" + Gpu.suffix(q))
        .address(delta)
        .tensor(dz)
        .tensor(z)
        .address(rows.rowOf())
        .address(planned.heads())
        .integer(cells)
        .integer(heads)
        .integer(headDim)
        .run(Math.ceilDiv(cells, THREADS / 32), THREADS);

    int padded = CudaAttention.padded(headDim);
    int size = padded <= 128 ? 32 : 16; // keys and queries of a tile
    int stride = CudaAttention.tileStride(headDim);
    int lastTile = Math.max(size * stride, (size - 1) * stride + padded);
    int scores = size * (size + 4);
    long tiles = gpu.tiles(layout, size);
    int count = Gpu.tileCount(layout, size);
    gpu.launch(STEM, "attention_backward_keys_f32_d" + padded)
        .tensor(dk)
        .tensor(dv)
        .tensor(dz)
        .tensor(q)
        .tensor(k)
        .tensor(v)
        .tensor(lse)
        .address(delta)
        .address(rows.rows())
        .address(planned.heads())
        .address(tiles)
        .integer(heads)
        .integer(headDim)
        .integer(spec.window())
        .real(spec.scale())
        .run(
            kvHeads,
            count,
            1,
            THREADS,
            (3 * size * stride + lastTile + 2 * scores + 2 * size) * Float.BYTES);
    gpu.launch(STEM, "attention_backward_queries_f32_d" + padded)
        .tensor(dq)
        .tensor(dz)
        .tensor(q)
        .tensor(k)
        .tensor(v)
        .tensor(lse)
        .address(delta)
        .address(rows.rows())
        .address(planned.heads())
        .address(tiles)
        .integer(kvHeads)
        .integer(headDim)
        .integer(spec.window())
        .real(spec.scale())
        .run(heads, count, 1, THREADS, (3 * size * stride + lastTile + scores) * Float.BYTES);
  }
}
