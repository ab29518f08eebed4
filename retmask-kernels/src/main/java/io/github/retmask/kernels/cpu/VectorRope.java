package io.github.retmask.kernels.cpu;

import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;

/// Rotary position embedding (Su et al. 2021), halves convention: the pairs (i, i + R/2) of every
/// head turn by the angle of their token's position. Limited by memory.
final class VectorRope {
  /// Floats per thread below which another one is not worth waking.
  private static final long SMALL = 1 << 15;

  /// Floats that pass through an array at once.
  private static final int BLOCK = 1 << 12;

  private static final int X = 0;
  private static final int COS = 1;
  private static final int SIN = 2;

  private VectorRope() {}

  /// @param direction 1 forward, -1 for the transposed rotation of the backward
  static void rotate(
      WorkerPool pool,
      Tensor out,
      Tensor x,
      Tensor cos,
      Tensor sin,
      Tensor positions,
      int direction) {
    int width = (int) (x.dim(1) * x.dim(2)); // H D
    int headDim = (int) x.dim(2);
    int half = (int) cos.dim(1); // R/2
    MemorySegment to = out.segment();
    MemorySegment from = x.segment();
    int block = Math.max(1, BLOCK / Math.max(1, width));
    pool.ranges(
        x.dim(0),
        1,
        Math.max(1, SMALL / Math.max(1, width)),
        (n0, n1, scratch) -> {
          float[] xs = scratch.floats(X, block * width);
          float[] c = scratch.floats(COS, block * half);
          float[] s = scratch.floats(SIN, block * half);
          int count;
          for (long n = n0; n < n1; n += count) {
            count = run(positions, n, (int) Math.min(block, n1 - n));
            long angles = 4L * positions.getInt(n) * half;
            MemorySegment.copy(cos.segment(), Lanes.F32, angles, c, 0, count * half);
            MemorySegment.copy(sin.segment(), Lanes.F32, angles, s, 0, count * half);
            MemorySegment.copy(from, Lanes.F32, 4 * n * width, xs, 0, count * width);
            for (int i = 0; i < count; i++) {
              for (int at = i * width; at < (i + 1) * width; at += headDim) {
                rotate(xs, at, c, s, i * half, half, direction);
              }
            }
            MemorySegment.copy(xs, 0, to, Lanes.F32, 4 * n * width, count * width);
          }
        });
  }

  /// Tokens from n on, at most `most`, at consecutive positions: their angles lie in one piece.
  private static int run(Tensor positions, long n, int most) {
    int count = 1;
    int first = positions.getInt(n);
    while (count < most && positions.getInt(n + count) == first + count) {
      count++;
    }
    return count;
  }

  /// Halves of heads are short: after the widest vectors come narrower ones, then single elements.
  /// The widths are written out because a species must be a constant.
  private static void rotate(
      float[] x, int at, float[] cos, float[] sin, int angles, int half, int direction) {
    int i = 0;
    if (Lanes.WIDTH >= 16) {
      for (; i <= half - 16; i += 16) {
        rotate16(x, at + i, half, cos, sin, angles + i, direction);
      }
    }
    if (Lanes.WIDTH >= 8) {
      for (; i <= half - 8; i += 8) {
        rotate8(x, at + i, half, cos, sin, angles + i, direction);
      }
    }
    for (; i <= half - 4; i += 4) {
      rotate4(x, at + i, half, cos, sin, angles + i, direction);
    }
    for (; i < half; i++) {
      float a = x[at + i];
      float b = x[at + i + half];
      float c = cos[angles + i];
      float s = sin[angles + i] * direction;
      x[at + i] = Math.fma(a, c, -(b * s));
      x[at + i + half] = Math.fma(b, c, a * s);
    }
  }

  private static void rotate16(
      float[] x, int at, int half, float[] cos, float[] sin, int angles, int direction) {
    FloatVector a = FloatVector.fromArray(FloatVector.SPECIES_512, x, at);
    FloatVector b = FloatVector.fromArray(FloatVector.SPECIES_512, x, at + half);
    FloatVector c = FloatVector.fromArray(FloatVector.SPECIES_512, cos, angles);
    FloatVector s = FloatVector.fromArray(FloatVector.SPECIES_512, sin, angles).mul(direction);
    a.fma(c, b.mul(s).neg()).intoArray(x, at);
    b.fma(c, a.mul(s)).intoArray(x, at + half);
  }

  private static void rotate8(
      float[] x, int at, int half, float[] cos, float[] sin, int angles, int direction) {
    FloatVector a = FloatVector.fromArray(FloatVector.SPECIES_256, x, at);
    FloatVector b = FloatVector.fromArray(FloatVector.SPECIES_256, x, at + half);
    FloatVector c = FloatVector.fromArray(FloatVector.SPECIES_256, cos, angles);
    FloatVector s = FloatVector.fromArray(FloatVector.SPECIES_256, sin, angles).mul(direction);
    a.fma(c, b.mul(s).neg()).intoArray(x, at);
    b.fma(c, a.mul(s)).intoArray(x, at + half);
  }

  private static void rotate4(
      float[] x, int at, int half, float[] cos, float[] sin, int angles, int direction) {
    FloatVector a = FloatVector.fromArray(FloatVector.SPECIES_128, x, at);
    FloatVector b = FloatVector.fromArray(FloatVector.SPECIES_128, x, at + half);
    FloatVector c = FloatVector.fromArray(FloatVector.SPECIES_128, cos, angles);
    FloatVector s = FloatVector.fromArray(FloatVector.SPECIES_128, sin, angles).mul(direction);
    a.fma(c, b.mul(s).neg()).intoArray(x, at);
    b.fma(c, a.mul(s)).intoArray(x, at + half);
  }
}
