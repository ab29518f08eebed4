package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.VIRTUAL;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;

import io.github.retmask.backend.Accumulate;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import jdk.incubator.vector.FloatVector;

/// `rstd = 1 / sqrt(mean(x^2) + eps)`, `out = x rstd weight` over rows `[R,W]` (Zhang and Sennrich
/// 2019). Limited by memory.
///
/// Rows pass through arrays in blocks. Loops over a row take whole vectors: what they write past its
/// end is overwritten by the next row or never copied back.
final class VectorRmsNorm {
  /// Floats per thread below which another one is not worth waking.
  private static final long SMALL = 1 << 14;

  /// Floats of a block.
  private static final int BLOCK = 1 << 12;

  private static final int LANES = 0;
  private static final int X = 1;
  private static final int OUT = 2;
  private static final int D_OUT = 3;
  private static final int SCALES = 4;
  private static final int G = 5;

  private VectorRmsNorm() {}

  static void rmsNorm(
      WorkerPool pool, Tensor out, Tensor rstd, Tensor x, Tensor weight, float eps) {
    int width = (int) x.dim(1);
    float[] w = padded(weight); // [W]
    MemorySegment to = out.segment();
    MemorySegment scales = rstd.segment();
    MemorySegment from = x.segment();
    int block = Math.max(1, BLOCK / Math.max(1, width));
    pool.ranges(
        x.dim(0),
        block,
        rows(width),
        (r0, r1, scratch) -> {
          int room = block * width + WIDTH;
          float[] lanes = scratch.floats(LANES, VIRTUAL);
          float[] xs = scratch.floats(X, room);
          float[] outs = scratch.floats(OUT, room);
          float[] rstds = scratch.floats(SCALES, block);
          for (long r = r0; r < r1; r += block) {
            int rows = (int) Math.min(block, r1 - r);
            MemorySegment.copy(from, Lanes.F32, r * width * 4, xs, 0, rows * width);
            for (int i = 0; i < rows; i++) {
              int at = i * width;
              float squares = Lanes.dot(xs, at, xs, at, width, lanes);
              rstds[i] = (float) (1 / Math.sqrt((double) squares / width + eps));
              scaleRow(outs, xs, at, w, width, rstds[i]);
            }
            MemorySegment.copy(outs, 0, to, Lanes.F32, r * width * 4, rows * width);
            MemorySegment.copy(rstds, 0, scales, Lanes.F32, r * 4, rows);
          }
        });
  }

  private static void scaleRow(float[] out, float[] x, int at, float[] w, int width, float scale) {
    for (int i = 0; i < width; i += WIDTH) {
      FloatVector.fromArray(FLOAT, x, at + i)
          .mul(scale)
          .mul(FloatVector.fromArray(FLOAT, w, i))
          .intoArray(out, at + i);
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
    float[] w = padded(weight); // [W]
    int block = Math.max(1, BLOCK / Math.max(1, width));
    long chunk = Math.max(1, (rows + 64L * block - 1) / (64L * block)) * block; // at most 64 chunks
    int chunks = (int) ((rows + chunk - 1) / chunk);
    float[] partial = new float[Math.multiplyExact(chunks, w.length)]; // [chunks,W]
    boolean add = intoDx == Accumulate.ADD;
    pool.ranges(
        rows,
        chunk,
        rows(width),
        (r0, r1, scratch) -> {
          int room = block * width + WIDTH;
          float[] lanes = scratch.floats(LANES, VIRTUAL);
          float[] xs = scratch.floats(X, room);
          float[] dxs = scratch.floats(OUT, room);
          float[] dOuts = scratch.floats(D_OUT, room);
          float[] g = scratch.floats(G, w.length);
          for (long r = r0; r < r1; r += block) {
            int count = (int) Math.min(block, r1 - r);
            long at = r * width * 4;
            MemorySegment.copy(x.segment(), Lanes.F32, at, xs, 0, count * width);
            MemorySegment.copy(dOut.segment(), Lanes.F32, at, dOuts, 0, count * width);
            int sums = (int) (r / chunk) * w.length;
            for (int i = 0; i < count; i++) {
              float scale = Lanes.get(rstd.segment(), (r + i) * 4);
              int row = i * width;
              float mean = weigh(g, partial, sums, dOuts, xs, row, w, width, scale, lanes);
              gradient(dxs, g, xs, row, width, scale, -scale * scale * (mean / width));
            }
            if (add) {
              MemorySegment.copy(dx.segment(), Lanes.F32, at, xs, 0, count * width);
              VectorElementwise.addTo(dxs, xs, count * width);
            }
            MemorySegment.copy(dxs, 0, dx.segment(), Lanes.F32, at, count * width);
          }
        });
    float[] total = dWeight.toFloats(); // [W]
    for (int c = 0; c < chunks; c++) {
      for (int i = 0; i < width; i++) {
        total[i] += partial[c * w.length + i];
      }
    }
    dWeight.copyFrom(total);
  }

  /// `g = dOut w`, `partial += dOut x rstd`; returns `g . x`.
  private static float weigh(
      float[] g,
      float[] partial,
      int sums,
      float[] dOut,
      float[] x,
      int at,
      float[] w,
      int width,
      float rstd,
      float[] lanes) {
    for (int i = 0; i < width; i += WIDTH) {
      FloatVector d = FloatVector.fromArray(FLOAT, dOut, at + i);
      FloatVector normed = FloatVector.fromArray(FLOAT, x, at + i).mul(rstd);
      d.mul(FloatVector.fromArray(FLOAT, w, i)).intoArray(g, i);
      d.fma(normed, FloatVector.fromArray(FLOAT, partial, sums + i)).intoArray(partial, sums + i);
    }
    return Lanes.dot(g, 0, x, at, width, lanes);
  }

  private static void gradient(
      float[] dx, float[] g, float[] x, int at, int width, float rstd, float factor) {
    for (int i = 0; i < width; i += WIDTH) {
      FloatVector.fromArray(FLOAT, x, at + i)
          .fma(FloatVector.broadcast(FLOAT, factor), FloatVector.fromArray(FLOAT, g, i))
          .mul(rstd)
          .intoArray(dx, at + i);
    }
  }

  /// The weight, with room for whole vectors.
  private static float[] padded(Tensor weight) {
    float[] values = weight.toFloats();
    return Arrays.copyOf(values, values.length + VIRTUAL - 1 & -VIRTUAL);
  }

  private static long rows(int width) {
    return Math.max(1, SMALL / Math.max(1, width));
  }
}
