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
  /// @param logSumExp `[count]` from `logSumExpAt` on
  /// @param means `[count][D]` from `meansAt` on, weighted means of values
  void write(
      int head,
      int token,
      int count,
      int[] asked,
      Partials partials,
      int lane,
      float[] logSumExp,
      int logSumExpAt,
      float[] means,
      int meansAt) {
    int headDim = call.headDim();
    for (int i = 0; i < count; i++) {
      float value = logSumExp[logSumExpAt + i];
      Lanes.set(lse, call.lseAt(token + i, head), value);
      if (reads != null && asked.length > 0 && asked[i] >= 0) {
        reads.report(partials, lane + i, value, asked[i], head);
      }
    }
    long at = call.at(token, head);
    ShortRows.write(z, at, call.rowBytes(), means, meansAt, headDim, count, headDim);
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
