package io.github.retmask.kernels.cuda;

import io.github.retmask.tensor.Tensor;
import java.util.Arrays;

/// Launchers of `rows.cu`.
final class CudaRows {
  private static final String STEM = "rows";
  private static final int THREADS = 256;

  /// Items of a row that a thread takes at most, as `HELD` in `rows.cu`.
  private static final int HELD = 4;

  /// Threads of the backward of the embedding, with four columns each.
  private static final int BACKWARD_THREADS = 128;

  private CudaRows() {}

  static void embedding(Gpu gpu, Tensor out, Tensor ids, Tensor table) {
    int width = Math.toIntExact(table.dim(-1));
    long indices = gpu.onDevice(ids);
    Launch launch =
        gpu.launch(STEM, "embedding" + Gpu.suffix(out))
            .tensor(out)
            .address(indices)
            .tensor(table)
            .integer(table.dtype().ordinal())
            .integer(ids.size())
            .integer(width);
    run(launch, ids.size(), Math.ceilDiv(width, CudaElementwise.packed(out)));
  }

  /// Tokens are sorted on the host, where the ids are at hand: equal ids lie together in ascending n,
  /// and the most frequent ids, which take longest, begin.
  static void embeddingBackward(Gpu gpu, Tensor dTable, Tensor dOut, Tensor ids) {
    int width = Math.toIntExact(dTable.dim(-1));
    SortedIds sorted = SortedIds.of(ids.toInts());
    long unique = gpu.upload(sorted.unique);
    long starts = gpu.upload(sorted.starts);
    long order = gpu.upload(sorted.order);
    gpu.launch(STEM, "embedding_backward" + Gpu.suffix(dOut))
        .tensor(dTable)
        .tensor(dOut)
        .address(unique)
        .address(starts)
        .address(order)
        .integer(width)
        .run(
            sorted.unique.length,
            Math.ceilDiv(width, 4 * BACKWARD_THREADS),
            1,
            BACKWARD_THREADS,
            0);
  }

  /// Tokens by their ids.
  ///
  /// @param unique the different ids, most frequent first
  /// @param starts where the tokens of each begin in `order`, and the end
  /// @param order all tokens
  private record SortedIds(int[] unique, int[] starts, int[] order) {

    static SortedIds of(int[] ids) {
      long[] pairs = new long[ids.length]; // id, token
      for (int n = 0; n < ids.length; n++) {
        pairs[n] = (long) ids[n] << 32 | n;
      }
      Arrays.sort(pairs);
      long[] runs = new long[ids.length]; // tokens that the longest has more, first pair
      int count = 0;
      for (int from = 0, to; from < pairs.length; from = to) {
        to = from + 1;
        while (to < pairs.length && pairs[to] >> 32 == pairs[from] >> 32) {
          to++;
        }
        runs[count++] = (long) (ids.length - (to - from)) << 32 | from;
      }
      Arrays.sort(runs, 0, count);
      int[] unique = new int[count];
      int[] starts = new int[count + 1];
      int[] order = new int[ids.length];
      for (int r = 0; r < count; r++) {
        int from = (int) runs[r];
        int length = ids.length - (int) (runs[r] >> 32);
        unique[r] = (int) (pairs[from] >> 32);
        starts[r + 1] = starts[r] + length;
        for (int i = 0; i < length; i++) {
          order[starts[r] + i] = (int) pairs[from + i];
        }
      }
      return new SortedIds(unique, starts, order);
    }
  }

  static void gather(Gpu gpu, Tensor out, Tensor in, Tensor rows) {
    copy(gpu, "gather_rows", out, in, rows);
  }

  static void scatter(Gpu gpu, Tensor out, Tensor in, Tensor rows) {
    copy(gpu, "scatter_rows", out, in, rows);
  }

  private static void copy(Gpu gpu, String kernel, Tensor out, Tensor in, Tensor rows) {
    long bytes = in.dim(0) == 0 ? 0 : in.storage().bytes() / in.dim(0);
    long indices = gpu.onDevice(rows);
    Launch launch =
        gpu.launch(STEM, kernel)
            .tensor(out)
            .tensor(in)
            .address(indices)
            .integer(rows.size())
            .longs(bytes);
    run(launch, rows.size(), Math.ceilDiv(bytes, 16));
  }

  /// The grid of rows of `items` sixteen-byte items, as `row_items` cuts it.
  private static void run(Launch launch, long rows, long items) {
    if (items > 0) {
      long together = Math.max(1, THREADS / items);
      launch.run(Math.ceilDiv(rows, together), Math.ceilDiv(items, HELD * THREADS), 1, THREADS, 0);
    }
  }
}
