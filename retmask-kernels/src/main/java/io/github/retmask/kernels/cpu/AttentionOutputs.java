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

  /// Writes some heads of consecutive tokens.
  ///
  /// @param head the first one
  /// @param asked of tokens and heads from `askedAt` on, see [AttentionReads#asked]
  /// @param lane statistics of the first token's first head; the others' follow
  /// @param logSumExp `[count][heads]` from `logSumExpAt` on
  /// @param means `[count][heads][D]` from `meansAt` on, weighted means of values
  void write(
      int head,
      int heads,
      int token,
      int count,
      int[] asked,
      int askedAt,
      Partials partials,
      int lane,
      float[] logSumExp,
      int logSumExpAt,
      float[] means,
      int meansAt) {
    for (int t = 0; t < count; t++) {
      for (int h = 0; h < heads; h++) {
        int i = t * heads + h;
        float value = logSumExp[logSumExpAt + i];
        Lanes.set(lse, call.lseAt(token + t, head + h), value);
        if (reads != null && asked.length > 0 && asked[askedAt + i] >= 0) {
          reads.report(partials, lane + i, value, asked[askedAt + i], head + h);
        }
      }
    }
    int width = heads * call.headDim();
    long at = call.at(token, head);
    ShortRows.write(z, at, call.rowBytes(), means, meansAt, width, count, width);
  }

  /// Writes the z of a head that does not attend.
  ///
  /// @param asked of the tokens, the first at `askedAt`, `askedRow` apart
  /// @param room for D floats
  void writeConstant(
      int row,
      int head,
      int token,
      int count,
      int[] asked,
      int askedAt,
      int askedRow,
      float[] room) {
    int headDim = call.headDim();
    if (call.plan().mode(row, head) == Mode.MEAN) {
      System.arraycopy(call.plan().mean(row, head), 0, room, 0, headDim);
    } else {
      Arrays.fill(room, 0, headDim, 0f);
    }
    for (int i = 0; i < count; i++) {
      Blocks.write(z, call.at(token + i, head), 4L * headDim, room, 0, headDim, 1, headDim);
      Lanes.set(lse, call.lseAt(token + i, head), Float.NEGATIVE_INFINITY);
      int query = asked.length == 0 ? -1 : asked[askedAt + i * askedRow];
      if (reads != null && query >= 0) {
        reads.reportNothing(query, head);
      }
    }
  }
}
