package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.VIRTUAL;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import org.jspecify.annotations.Nullable;

/// `out[n,h,:] = gate[row(n),h] z[n,h,:]`; a gate of 0 writes +0 whatever z holds. Limited by
/// memory.
final class VectorHeadGate {
  /// Tokens that pass through arrays at once, and of a partial sum of a gate's gradient.
  private static final int TOKENS = 32;

  /// Floats per thread below which another one is not worth waking.
  private static final long SMALL = 1 << 15;

  private static final int LANES = 0;
  private static final int IN = 1;
  private static final int OUT = 2;
  private static final int Z = 3;

  private VectorHeadGate() {}

  static void headGate(WorkerPool pool, Tensor out, Tensor z, BatchLayout layout, HeadPlan plan) {
    gate(pool, out, null, z, z, layout, plan);
  }

  /// `dz = gate dOut`, `dGates[r,h] += sum over the row's tokens of dOut . z`.
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
    int width = heads * headDim;
    MemorySegment to = out.segment();
    MemorySegment from = in.segment();
    MemorySegment zs = z.segment();
    Chunks chunks = Chunks.of(layout, TOKENS);
    double[] partial = new double[dGates == null ? 0 : chunks.count() * heads]; // [chunks,H]
    pool.ranges(
        chunks.count(),
        1,
        Math.max(1, SMALL / TOKENS / Math.max(1, width)),
        (first, last, scratch) -> {
          float[] before = scratch.floats(IN, TOKENS * width + WIDTH);
          float[] after = scratch.floats(OUT, TOKENS * width + WIDTH);
          float[] lanes = scratch.floats(LANES, VIRTUAL);
          for (int chunk = (int) first; chunk < last; chunk++) {
            int row = chunks.rows()[chunk];
            int count = chunks.length(chunk) * width;
            long at = 4L * chunks.token(chunk) * width;
            MemorySegment.copy(from, Lanes.F32, at, before, 0, count);
            for (int i = 0; i < count; i += headDim) {
              scale(after, before, i, plan.gate(row, i / headDim % heads), headDim);
            }
            if (dGates != null) {
              float[] zRows = scratch.floats(Z, TOKENS * width);
              MemorySegment.copy(zs, Lanes.F32, at, zRows, 0, count);
              for (int i = 0; i < count; i += headDim) {
                partial[chunk * heads + i / headDim % heads] +=
                    Lanes.dot(before, i, zRows, i, headDim, lanes);
              }
            }
            MemorySegment.copy(after, 0, to, Lanes.F32, at, count);
          }
        });
    if (dGates != null) {
      addGradients(dGates, partial, chunks, heads);
    }
  }

  private static void addGradients(Tensor dGates, double[] partial, Chunks chunks, int heads) {
    double[] sums = new double[(int) dGates.size()]; // [B,H]
    for (int chunk = 0; chunk < chunks.count(); chunk++) {
      for (int h = 0; h < heads; h++) {
        sums[chunks.rows()[chunk] * heads + h] += partial[chunk * heads + h];
      }
    }
    for (int i = 0; i < sums.length; i++) {
      dGates.set(i, (float) (dGates.get(i) + sums[i]));
    }
  }

  /// Whole vectors: what is written past the head's end is overwritten by the next head.
  private static void scale(float[] out, float[] in, int at, float gate, int count) {
    if (gate == 0f) {
      Arrays.fill(out, at, at + count, 0f);
      return;
    }
    for (int i = at; i < at + count; i += WIDTH) {
      FloatVector.fromArray(FLOAT, in, i).mul(gate).intoArray(out, i);
    }
  }
}
