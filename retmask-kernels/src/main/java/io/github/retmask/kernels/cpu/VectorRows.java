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
    MemorySegment from = table.segment();
    int width = (int) table.dim(-1);
    DType type = table.dtype();
    pool.ranges(
        ids.size(),
        1,
        rows(width),
        (n0, n1, _) -> {
          for (long n = n0; n < n1; n++) {
            long at = (long) ids.getInt(n) * width * type.bytes();
            Panels.widen(to, n * width * 4, from, at, type, width);
          }
        });
  }

  /// Each task owns the ids that leave its remainder, so equal ids add up in ascending n.
  static void embeddingBackward(WorkerPool pool, Tensor dTable, Tensor dOut, Tensor ids) {
    MemorySegment to = dTable.segment();
    MemorySegment from = dOut.segment();
    int width = (int) dTable.dim(-1);
    int[] index = ids.toInts();
    int tasks = index.length * (long) width < SMALL ? 1 : pool.threads();
    pool.run(
        tasks,
        (task, _) -> {
          for (int n = 0; n < index.length; n++) {
            if (index[n] % tasks == task) {
              VectorElementwise.add(to, 4L * index[n] * width, from, 4L * n * width, width);
            }
          }
        });
  }

  static void gather(WorkerPool pool, Tensor out, Tensor in, Tensor rows) {
    long bytes = rowBytes(in);
    pool.ranges(
        rows.size(),
        1,
        rows(bytes / 4),
        (m0, m1, _) -> {
          for (long m = m0; m < m1; m++) {
            long from = rows.getInt(m) * bytes;
            MemorySegment.copy(in.segment(), from, out.segment(), m * bytes, bytes);
          }
        });
  }

  static void scatter(WorkerPool pool, Tensor out, Tensor in, Tensor rows) {
    long bytes = rowBytes(out);
    pool.ranges(
        rows.size(),
        1,
        rows(bytes / 4),
        (n0, n1, _) -> {
          for (long n = n0; n < n1; n++) {
            long to = rows.getInt(n) * bytes;
            MemorySegment.copy(in.segment(), n * bytes, out.segment(), to, bytes);
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
