package io.github.retmask.tensor;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/// [TensorArena] in off-heap host memory.
public final class HostArena extends SlabArena {
  private static final long ALIGNMENT = 64; // one cache line, one AVX-512 register

  /// An empty arena; memory is taken from the system as tensors ask for it.
  public HostArena() {
    super(ALIGNMENT);
  }

  @Override
  protected Slab newSlab(long bytes) {
    Arena owner = Arena.ofShared();
    MemorySegment memory = owner.allocate(bytes, ALIGNMENT);
    return new Slab() {
      private long dirty; // bytes from here on come zeroed

      @Override
      public Storage part(long offset, long length) {
        MemorySegment part = memory.asSlice(offset, length);
        if (offset < dirty) {
          part.fill((byte) 0);
        }
        return new Storage.Host(part);
      }

      @Override
      public void recycle(long length) {
        dirty = Math.max(dirty, length);
      }

      @Override
      public void free() {
        owner.close();
      }
    };
  }

  @Override
  protected String place() {
    return "off-heap";
  }
}
