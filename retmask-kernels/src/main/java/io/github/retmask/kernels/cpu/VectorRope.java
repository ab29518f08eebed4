package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.LE;

import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorSpecies;

/// Rotary position embedding (Su et al. 2021), halves convention: the pairs (i, i + R/2) of every
/// head turn by the angle of their token's position. Limited by memory.
final class VectorRope {
  /// Floats per thread below which another one is not worth waking.
  private static final long SMALL = 1 << 15;

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
    int heads = (int) x.dim(1);
    int headDim = (int) x.dim(2);
    int half = (int) cos.dim(1); // R/2
    MemorySegment to = out.segment();
    MemorySegment from = x.segment();
    MemorySegment c = cos.segment();
    MemorySegment s = sin.segment();
    boolean copyRest = !to.equals(from) && 2 * half < headDim;
    pool.ranges(
        x.dim(0),
        1,
        Math.max(1, SMALL / Math.max(1, heads * headDim)),
        (n0, n1, _) -> {
          for (long n = n0; n < n1; n++) {
            long angles = 4L * positions.getInt(n) * half;
            for (int h = 0; h < heads; h++) {
              long at = 4 * (n * heads + h) * headDim;
              rotate(to, from, at, c, s, angles, half, direction);
              if (copyRest) {
                long rest = at + 8L * half;
                MemorySegment.copy(from, rest, to, rest, 4L * (headDim - 2 * half));
              }
            }
          }
        });
  }

  /// Halves of heads are short: after the widest vectors come narrower ones, then single elements.
  private static void rotate(
      MemorySegment out,
      MemorySegment x,
      long at,
      MemorySegment cos,
      MemorySegment sin,
      long angles,
      int half,
      int direction) {
    int i = 0;
    if (Lanes.WIDTH >= 16) {
      for (; i <= half - 16; i += 16) {
        rotate(
            FloatVector.SPECIES_512,
            out,
            x,
            at + i * 4L,
            cos,
            sin,
            angles + i * 4L,
            half,
            direction);
      }
    }
    if (Lanes.WIDTH >= 8) {
      for (; i <= half - 8; i += 8) {
        rotate(
            FloatVector.SPECIES_256,
            out,
            x,
            at + i * 4L,
            cos,
            sin,
            angles + i * 4L,
            half,
            direction);
      }
    }
    for (; i <= half - 4; i += 4) {
      rotate(
          FloatVector.SPECIES_128, out, x, at + i * 4L, cos, sin, angles + i * 4L, half, direction);
    }
    for (; i < half; i++) {
      long low = at + i * 4L;
      long high = low + half * 4L;
      float a = Lanes.get(x, low);
      float b = Lanes.get(x, high);
      float c = Lanes.get(cos, angles + i * 4L);
      float s = Lanes.get(sin, angles + i * 4L) * direction;
      Lanes.set(out, low, Math.fma(a, c, -(b * s)));
      Lanes.set(out, high, Math.fma(b, c, a * s));
    }
  }

  private static void rotate(
      VectorSpecies<Float> species,
      MemorySegment out,
      MemorySegment x,
      long at,
      MemorySegment cos,
      MemorySegment sin,
      long angles,
      int half,
      int direction) {
    long high = at + half * 4L;
    FloatVector a = FloatVector.fromMemorySegment(species, x, at, LE);
    FloatVector b = FloatVector.fromMemorySegment(species, x, high, LE);
    FloatVector c = FloatVector.fromMemorySegment(species, cos, angles, LE);
    FloatVector s = FloatVector.fromMemorySegment(species, sin, angles, LE).mul(direction);
    a.fma(c, b.mul(s).neg()).intoMemorySegment(out, at, LE);
    b.fma(c, a.mul(s)).intoMemorySegment(out, high, LE);
  }
}
