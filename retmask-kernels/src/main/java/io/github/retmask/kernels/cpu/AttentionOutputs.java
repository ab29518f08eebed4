package io.github.retmask.kernels.cpu;

import io.github.retmask.backend.HeadPlan.Mode;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/// Where a forward leaves z, lse and the read-outs.
record AttentionOutputs(
    AttentionCall call, MemorySegment z, MemorySegment lse, @Nullable AttentionReads reads) {

  /// Ranges of keys that read-outs sum over.
  int masses() {
    return reads == null ? 0 : reads.masses();
  }

  /// Writes a head of consecutive tokens.
  ///
  /// @param asked of the tokens, see [AttentionReads#asked]
  /// @param lane statistics of the first token; the others' follow
  /// @param sums `[count][D]` from `sumsAt` on, weighted sums of values; they are divided
  void write(
      int head,
      int token,
      int count,
      int[] asked,
      Partials partials,
      int lane,
      float[] sums,
      int sumsAt) {
    int headDim = call.headDim();
    for (int i = 0; i < count; i++) {
      float logSumExp = partials.logSumExp(lane + i);
      Lanes.set(lse, call.lseAt(token + i, head), logSumExp);
      if (reads != null && asked.length > 0 && asked[i] >= 0) {
        reads.report(partials, lane + i, logSumExp, asked[i], head);
      }
      float share = 1 / partials.sum()[lane + i];
      for (int d = sumsAt + i * headDim; d < sumsAt + (i + 1) * headDim; d++) {
        sums[d] = sums[d] * share + 0f; // makes -0, which depends on unseen keys' tiles, 0
      }
    }
    Blocks.write(z, call.at(token, head), call.rowBytes(), sums, sumsAt, headDim, count, headDim);
  }

  /// Writes the z of a head that does not attend.
  ///
  /// @param room for D floats
  void writeConstant(int row, int head, int token, int count, int[] asked, float[] room) {
    int headDim = call.headDim();
    if (call.plan().mode(row, head) == Mode.MEAN) {
      System.arraycopy(call.plan().mean(row, head), 0, room, 0, headDim);
    } else {
      Arrays.fill(room, 0, headDim, 0f);
    }
    for (int i = 0; i < count; i++) {
      Blocks.write(z, call.at(token + i, head), 4L * headDim, room, 0, headDim, 1, headDim);
      Lanes.set(lse, call.lseAt(token + i, head), Float.NEGATIVE_INFINITY);
      if (reads != null && asked.length > 0 && asked[i] >= 0) {
        reads.reportNothing(asked[i], head);
      }
    }
  }
}
