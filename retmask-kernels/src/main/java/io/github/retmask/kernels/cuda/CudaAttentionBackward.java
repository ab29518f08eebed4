package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;

/// Gradients of attention without atomics: one kernel owns keys and values, another one queries.
final class CudaAttentionBackward {
  static final String STEM = "attention_backward";
  static final String FLASH = "flash_attention_backward";

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
    int headDim = CudaAttention.headDim(q);
    Call call =
        new Call(
            gpu,
            dq,
            dk,
            dv,
            dz,
            q,
            k,
            v,
            z,
            lse,
            layout,
            gpu.image(layout),
            gpu.image(plan, headDim),
            spec,
            headDim);
    if (q.dtype() == DType.BF16) {
      call.flash();
    } else {
      call.tiles();
    }
  }

  private record Call(
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
      LayoutImage rows,
      PlanImage plan,
      AttentionSpec spec,
      int headDim) {

    int heads() {
      return (int) q.dim(1);
    }

    int kvHeads() {
      return (int) k.dim(1);
    }

    int cells() {
      return Math.multiplyExact(layout.tokens(), heads());
    }

    // --- F32 --------------------------------------------------------------------------------

    void tiles() {
      long delta = gpu.scratch((long) cells() * Float.BYTES);
      gpu.launch(STEM, "attention_delta_f32")
          .address(delta)
          .tensor(dz)
          .tensor(z)
          .address(rows.rowOf())
          .address(plan.heads())
          .integer(cells())
          .integer(heads())
          .integer(headDim)
          .run(Math.ceilDiv(cells(), THREADS / 32), THREADS);
      int padded = CudaAttention.padded(headDim);
      int size = padded <= 128 ? 32 : 16; // keys and queries of a tile
      int stride = CudaAttention.tileStride(headDim);
      int floats = 3 * size * stride + Math.max(size * stride, (size - 1) * stride + padded);
      int scores = size * (size + 4);
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
          .address(plan.heads())
          .address(rows.keyTiles(size))
          .integer(heads())
          .integer(headDim)
          .integer(spec.window())
          .real(spec.scale())
          .run(
              kvHeads(),
              LayoutImage.keyTileCount(layout, size),
              1,
              THREADS,
              (floats + 2 * scores + 2 * size) * Float.BYTES);
      gpu.launch(STEM, "attention_backward_queries_f32_d" + padded)
          .tensor(dq)
          .tensor(dz)
          .tensor(q)
          .tensor(k)
          .tensor(v)
          .tensor(lse)
          .address(delta)
          .address(rows.rows())
          .address(plan.heads())
          .address(gpu.tiles(layout, size))
          .integer(kvHeads())
          .integer(headDim)
          .integer(spec.window())
          .real(spec.scale())
          .run(heads(), Gpu.tileCount(layout, size), 1, THREADS, (floats + scores) * Float.BYTES);
    }

    // --- BF16 -------------------------------------------------------------------------------

    void flash() {
      long stats = gpu.scratch(4L * cells() * Float.BYTES);
      gpu.launch(FLASH, "flash_attention_stats")
          .address(stats)
          .tensor(dz)
          .tensor(z)
          .tensor(lse)
          .address(rows.rows())
          .address(rows.rowOf())
          .address(plan.heads())
          .integer(layout.tokens())
          .integer(heads())
          .integer(headDim)
          .integer(spec.window())
          .run(Math.ceilDiv(cells(), THREADS / 32), THREADS);
      int padded = CudaAttention.flashPadded(headDim);
      boolean wide = padded > 128; // one kernel per gradient of keys
      int queries = wide ? 32 : 64; // at a time
      int row = (padded + 8) * Short.BYTES;
      keys("keys_d" + padded, stats, (2 * queries + 2 * 64) * row);
      if (wide) {
        keys("values_d" + padded, stats, (2 * queries + 64) * row);
      }
      int own = wide ? 64 : 128; // queries of a block
      int stages = wide ? 1 : 2;
      gpu.launch(FLASH, "flash_attention_backward_queries_d" + padded)
          .tensor(dq)
          .tensor(dz)
          .tensor(q)
          .tensor(k)
          .tensor(v)
          .address(stats)
          .address(rows.rows())
          .address(plan.heads())
          .address(gpu.tiles(layout, own))
          .integer(layout.tokens())
          .integer(kvHeads())
          .integer(headDim)
          .integer(spec.window())
          .real(spec.scale())
          .run(
              heads(),
              Gpu.tileCount(layout, own),
              1,
              CudaAttention.FLASH_THREADS,
              (2 * own + (1 + stages) * 32) * row);
    }

    private void keys(String kernel, long stats, int sharedBytes) {
      gpu.launch(FLASH, "flash_attention_backward_" + kernel)
          .tensor(dk)
          .tensor(dv)
          .tensor(dz)
          .tensor(q)
          .tensor(k)
          .tensor(v)
          .address(stats)
          .address(rows.rows())
          .address(plan.heads())
          .address(rows.keyTiles(64))
          .integer(layout.tokens())
          .integer(heads())
          .integer(headDim)
          .integer(spec.window())
          .real(spec.scale())
          .run(
              kvHeads(),
              LayoutImage.keyTileCount(layout, 64),
              1,
              CudaAttention.FLASH_THREADS,
              sharedBytes);
    }
  }
}
