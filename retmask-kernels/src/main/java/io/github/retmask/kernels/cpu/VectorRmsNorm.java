package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.LE;
import static io.github.retmask.kernels.cpu.Lanes.VIRTUAL;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import jdk.incubator.vector.FloatVector;

/// `rstd = 1 / sqrt(mean(x^2) + eps)`, `out = x rstd weight` over rows `[R,W]` (Zhang and Sennrich
/// 2019). Limited by memory.
final class VectorRmsNorm {
  /// Floats per thread below which another one is not worth waking.
  private static final long SMALL = 1 << 14;

  private static final int LANES = 0;
  private static final int ROW = 1;

  private VectorRmsNorm() {}

  static void rmsNorm(
      WorkerPool pool, Tensor out, Tensor rstd, Tensor x, Tensor weight, float eps) {
    int width = (int) x.dim(1);
    float[] w = weight.toFloats(); // [W]
    MemorySegment to = out.segment();
    MemorySegment scales = rstd.segment();
    MemorySegment from = x.segment();
    pool.ranges(
        x.dim(0),
        1,
        rows(width),
        (r0, r1, scratch) -> {
          float[] lanes = scratch.floats(LANES, VIRTUAL);
          for (long r = r0; r < r1; r++) {
            long at = r * width * 4;
            float squares = Lanes.dot(from, at, from, at, width, lanes);
            float scale = (float) (1 / Math.sqrt((double) squares / width + eps));
            Lanes.set(scales, r * 4, scale);
            scaleRow(to, from, at, w, width, scale);
          }
        });
  }

  private static void scaleRow(
      MemorySegment out, MemorySegment x, long at, float[] w, int width, float scale) {
    int i = 0;
    for (; i <= width - WIDTH; i += WIDTH) {
      Lanes.load(x, at + i * 4L)
          .mul(scale)
          .mul(FloatVector.fromArray(FLOAT, w, i))
          .intoMemorySegment(out, at + i * 4L, LE);
    }
    for (; i < width; i++) {
      Lanes.set(out, at + i * 4L, Lanes.get(x, at + i * 4L) * scale * w[i]);
    }
  }

  /// `dx = rstd (g - x rstd^2 mean(g x))` with `g = dOut weight`. The weight's gradient is summed in
  /// chunks of rows whose size depends on the shape alone, then over the chunks.
  static void backward(
      WorkerPool pool,
      Tensor dx,
      Tensor dWeight,
      Tensor dOut,
      Tensor x,
      Tensor rstd,
      Tensor weight,
      Accumulate intoDx) {
    int width = (int) x.dim(1);
    long rows = x.dim(0);
    float[] w = weight.toFloats(); // [W]
    long chunk = Math.max(64, (rows + 63) / 64);
    int chunks = (int) ((rows + chunk - 1) / chunk);
    float[] partial = new float[Math.multiplyExact(chunks, width)]; // [chunks,W]
    boolean add = intoDx == Accumulate.ADD;
    pool.ranges(
        rows,
        chunk,
        rows(width),
        (r0, r1, scratch) -> {
          float[] lanes = scratch.floats(LANES, VIRTUAL);
          float[] g = scratch.floats(ROW, width);
          for (long r = r0; r < r1; r++) {
            int sums = (int) (r / chunk) * width;
            backwardRow(
                dx.segment(),
                dOut.segment(),
                x.segment(),
                r * width * 4,
                Lanes.get(rstd.segment(), r * 4),
                w,
                width,
                g,
                partial,
                sums,
                lanes,
                add);
          }
        });
    float[] total = dWeight.toFloats(); // [W]
    for (int c = 0; c < chunks; c++) {
      for (int i = 0; i < width; i++) {
        total[i] += partial[c * width + i];
      }
    }
    dWeight.copyFrom(total);
  }

  private static void backwardRow(
      MemorySegment dx,
      MemorySegment dOut,
      MemorySegment x,
      long at,
      float rstd,
      float[] w,
      int width,
      float[] g,
      float[] partial,
      int sums,
      float[] lanes,
      boolean add) {
    Arrays.fill(lanes, 0, VIRTUAL, 0f);
    int full = width & -VIRTUAL;
    for (int part = 0; part < VIRTUAL; part += WIDTH) {
      weighPart(dOut, x, at, rstd, w, full, g, partial, sums, lanes, part);
    }
    for (int i = full; i < width; i++) {
      float d = Lanes.get(dOut, at + i * 4L);
      float value = Lanes.get(x, at + i * 4L);
      g[i] = d * w[i];
      lanes[i - full] = Math.fma(g[i], value, lanes[i - full]);
      partial[sums + i] = Math.fma(d, value * rstd, partial[sums + i]);
    }
    float mean = Lanes.tree(lanes, 0) / width;
    float factor = rstd * rstd * mean;
    int i = 0;
    for (; i <= width - WIDTH; i += WIDTH) {
      FloatVector gx =
          Lanes.load(x, at + i * 4L).mul(-factor).add(FloatVector.fromArray(FLOAT, g, i)).mul(rstd);
      if (add) {
        gx = gx.add(Lanes.load(dx, at + i * 4L));
      }
      gx.intoMemorySegment(dx, at + i * 4L, LE);
    }
    for (; i < width; i++) {
      float gx = (Lanes.get(x, at + i * 4L) * -factor + g[i]) * rstd;
      Lanes.set(dx, at + i * 4L, add ? gx + Lanes.get(dx, at + i * 4L) : gx);
    }
  }

  /// g, the lanes of `g . x` and the weight's gradient for every 16th vector part.
  private static void weighPart(
      MemorySegment dOut,
      MemorySegment x,
      long at,
      float rstd,
      float[] w,
      int full,
      float[] g,
      float[] partial,
      int sums,
      float[] lanes,
      int part) {
    FloatVector sum = FloatVector.zero(FLOAT);
    long from = at + part * 4L;
    for (int i = 0; i < full; i += VIRTUAL) {
      FloatVector d = Lanes.load(dOut, from + i * 4L);
      FloatVector value = Lanes.load(x, from + i * 4L);
      FloatVector weighted = d.mul(FloatVector.fromArray(FLOAT, w, part + i));
      weighted.intoArray(g, part + i);
      sum = weighted.fma(value, sum);
      d.fma(value.mul(rstd), FloatVector.fromArray(FLOAT, partial, sums + part + i))
          .intoArray(partial, sums + part + i);
    }
    sum.intoArray(lanes, part);
  }

  private static long rows(int width) {
    return Math.max(1, SMALL / Math.max(1, width));
  }
}
