package io.github.retmask.kernels.cpu;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// Working memory of one thread, kept from call to call. Contents are whatever the last use left.
final class Scratch {
  private static final int SLOTS = 16;

  private final float[][] arrays = new float[SLOTS][0];
  private final @Nullable MemorySegment[] segments = new MemorySegment[SLOTS];

  /// A heap array of at least `length` floats. Heap arrays hold what the innermost loops load as
  /// vectors side by side with scalars: there they are several times faster than segments.
  ///
  /// @param slot distinguishes the arrays that one op uses at the same time
  float[] floats(int slot, int length) {
    if (arrays[slot].length < length) {
      arrays[slot] = new float[Math.max(length, arrays[slot].length * 3 / 2)];
    }
    return arrays[slot];
  }

  /// Native memory of at least `length` floats, freed with this object.
  MemorySegment segment(int slot, long length) {
    MemorySegment segment = segments[slot];
    if (segment == null || segment.byteSize() < 4 * length) {
      segment = Arena.ofAuto().allocate(4 * length, 64);
      segments[slot] = segment;
    }
    return segment;
  }
}
