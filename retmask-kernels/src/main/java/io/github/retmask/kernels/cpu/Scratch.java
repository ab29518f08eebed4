package io.github.retmask.kernels.cpu;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// Working memory of one thread, kept from call to call. Contents are whatever the last use left.
final class Scratch {
  private static final int SLOTS = 18;

  private final float[][] arrays = new float[SLOTS][0];
  private short[] shorts = new short[0];
  private byte[] bytes = new byte[0];
  private long[] longs = new long[0];
  private @Nullable MemorySegment segment;

  /// A heap array of at least `length` floats.
  ///
  /// @param slot distinguishes the arrays that one op uses at the same time
  float[] floats(int slot, int length) {
    if (arrays[slot].length < length) {
      arrays[slot] = new float[Math.max(length, arrays[slot].length * 3 / 2)];
    }
    return arrays[slot];
  }

  /// A heap array of at least `length` shorts.
  short[] shorts(int length) {
    if (shorts.length < length) {
      shorts = new short[length];
    }
    return shorts;
  }

  /// A heap array of at least `length` bytes.
  byte[] bytes(int length) {
    if (bytes.length < length) {
      bytes = new byte[length];
    }
    return bytes;
  }

  /// A heap array of at least `length` longs.
  long[] longs(int length) {
    if (longs.length < length) {
      longs = new long[length];
    }
    return longs;
  }

  /// Native memory of exactly `length` floats, freed with this object.
  MemorySegment segment(long length) {
    MemorySegment memory = segment;
    if (memory == null || memory.byteSize() < 4 * length) {
      memory = Arena.ofAuto().allocate(4 * length, 64);
      segment = memory;
    }
    return memory.asSlice(0, 4 * length);
  }
}
