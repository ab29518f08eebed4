package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.LE;
import static io.github.retmask.kernels.cpu.Lanes.VIRTUAL;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// `out[n,h,:] = gate[row(n),h] z[n,h,:]`; a gate of 0 writes +0 whatever z holds. A (row, head) per
/// task. Limited by memory.
final class VectorHeadGate {
  /// Floats per thread below which another one is not worth waking.
  private static final long SMALL = 1 << 15;

  private static final int LANES = 0;

  private VectorHeadGate() {}

  static void headGate(WorkerPool pool, Tensor out, Tensor z, BatchLayout layout, HeadPlan plan) {
    gate(pool, out, null, z, z, layout, plan);
  }

  /// `dz = gate dOut`, `dGates[r,h] += sum over the row's tokens, ascending, of dOut . z`.
  static void backward(
      WorkerPool pool,
      Tensor dz,
      @Nullable Tensor dGates,
      Tensor dOut,
      Tensor z,
      BatchLayout layout,
      HeadPlan plan) {
    gate(pool, dz, dGates, dOut, z, layout, plan);
  }

  private static void gate(
      WorkerPool pool,
      Tensor out,
      @Nullable Tensor dGates,
      Tensor in,
      Tensor z,
      BatchLayout layout,
      HeadPlan plan) {
    int heads = (int) z.dim(1);
    int headDim = (int) z.dim(2);
    MemorySegment to = out.segment();
    MemorySegment from = in.segment();
    long items = (long) layout.rows() * heads;
    pool.ranges(
        items,
        1,
        Math.max(1, SMALL * items / Math.max(1, z.size())),
        (first, last, scratch) -> {
          for (long item = first; item < last; item++) {
            int row = (int) (item / heads);
            int head = (int) (item % heads);
            float gate = plan.gate(row, head);
            double sum = 0;
            for (int n = layout.tokenStart(row); n < layout.tokenStart(row + 1); n++) {
              long at = 4 * ((long) n * heads + head) * headDim;
              if (dGates != null) {
                float[] lanes = scratch.floats(LANES, VIRTUAL);
                sum += Lanes.dot(from, at, z.segment(), at, headDim, lanes);
              }
              scale(to, from, at, gate, headDim);
            }
            if (dGates != null) {
              dGates.set(item, (float) (dGates.get(item) + sum));
            }
          }
        });
  }

  private static void scale(MemorySegment out, MemorySegment in, long at, float gate, int count) {
    if (gate == 0f) {
      out.asSlice(at, 4L * count).fill((byte) 0);
      return;
    }
    int i = 0;
    for (; i <= count - WIDTH; i += WIDTH) {
      Lanes.load(in, at + i * 4L).mul(gate).intoMemorySegment(out, at + i * 4L, LE);
    }
    for (; i < count; i++) {
      Lanes.set(out, at + i * 4L, Lanes.get(in, at + i * 4L) * gate);
    }
  }
}
