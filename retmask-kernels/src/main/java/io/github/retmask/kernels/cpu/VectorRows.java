package io.github.retmask.kernels.cpu;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;

/// Ops that move whole rows: embedding, its backward, gather and scatter. Limited by memory.
final class VectorRows {
  /// Floats per thread below which another one is not worth waking.
  private static final long SMALL = 1 << 15;

  private VectorRows() {}

  static void embedding(WorkerPool pool, Tensor out, Tensor ids, Tensor table) {
    MemorySegment to = out.segment();
    int width = (int) table.dim(-1);
    long bytes = 4L * width;
    pool.ranges(
        ids.size(),
        1,
        rows(width),
        (n0, n1, scratch) -> {
          for (long n = n0; n < n1; n++) {
            int id = ids.getInt(n);
            if (table.dtype() == DType.F32) {
              MemorySegment.copy(table.segment(), id * bytes, to, n * bytes, bytes);
            } else {
              float[] row = scratch.floats(0, width);
              Blocks.readWide(row, 0, table, (long) id * width, width, scratch);
              VectorElementwise.write(to, n * width, row, width);
            }
          }
        });
  }

  /// Each task owns the ids that leave its remainder, so equal ids add up in ascending n.
  static void embeddingBackward(WorkerPool pool, Tensor dTable, Tensor dOut, Tensor ids) {
    MemorySegment to = dTable.segment();
    MemorySegment from = dOut.segment();
    int width = (int) dTable.dim(-1);
    int room = width + Lanes.WIDTH;
    int[] index = ids.toInts();
    int tasks = index.length * (long) width < SMALL ? 1 : pool.threads();
    pool.run(
        tasks,
        (task, scratch) -> {
          float[] sum = scratch.floats(0, room);
          float[] row = scratch.floats(1, room);
          for (int n = 0; n < index.length; n++) {
            if (index[n] % tasks == task) {
              long at = 4L * index[n] * width;
              MemorySegment.copy(to, Lanes.F32, at, sum, 0, width);
              MemorySegment.copy(from, Lanes.F32, 4L * n * width, row, 0, width);
              VectorElementwise.addTo(sum, row, width);
              MemorySegment.copy(sum, 0, to, Lanes.F32, at, width);
            }
          }
        });
  }

  static void gather(WorkerPool pool, Tensor out, Tensor in, Tensor rows) {
    long bytes = rowBytes(in);
    MemorySegment to = out.segment();
    MemorySegment from = in.segment();
    pool.ranges(
        rows.size(),
        1,
        rows(bytes / 4),
        (m0, m1, _) -> {
          for (long m = m0; m < m1; m++) {
            MemorySegment.copy(from, rows.getInt(m) * bytes, to, m * bytes, bytes);
          }
        });
  }

  static void scatter(WorkerPool pool, Tensor out, Tensor in, Tensor rows) {
    long bytes = rowBytes(out);
    MemorySegment to = out.segment();
    MemorySegment from = in.segment();
    pool.ranges(
        rows.size(),
        1,
        rows(bytes / 4),
        (n0, n1, _) -> {
          for (long n = n0; n < n1; n++) {
            MemorySegment.copy(from, n * bytes, to, rows.getInt(n) * bytes, bytes);
          }
        });
  }

  private static long rowBytes(Tensor t) {
    return t.dim(0) == 0 ? 0 : t.size() / t.dim(0) * 4;
  }

  private static long rows(long width) {
    return Math.max(1, SMALL / Math.max(1, width));
  }
}
