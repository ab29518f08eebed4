package io.github.retmask.tensor;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// [TensorArena] in off-heap host memory: a bump allocator over slabs.
///
/// A [#reset()] after which one slab was not enough replaces all of them by one that is a quarter
/// larger than what was in use. So steps of changing size soon allocate nothing any more, and hold
/// little more than the largest of them needs.
public final class HostArena implements TensorArena {
  private static final long ALIGNMENT = 64; // one cache line, one AVX-512 register
  private static final long SLAB_BYTES = 4L << 20;

  private final List<Slab> slabs = new ArrayList<>();
  private long nextSlabBytes = SLAB_BYTES;
  private @Nullable Slab current; // the one that is filled
  private long used;
  private boolean closed;

  /// An empty arena; memory is taken from the system as tensors ask for it.
  public HostArena() {}

  /// A slab and how far it is filled now and has ever been.
  private static final class Slab {
    private final Arena owner = Arena.ofShared();
    final MemorySegment memory;
    long filled;
    long dirty;

    Slab(long bytes) {
      this.memory = owner.allocate(bytes, ALIGNMENT);
    }

    long room() {
      return memory.byteSize() - filled;
    }

    void free() {
      owner.close();
    }
  }

  @Override
  public synchronized Tensor allocate(String name, DType dtype, long... dims) {
    if (closed) {
      throw new IllegalStateException("tensor " + name + ": its arena is closed");
    }
    Shape shape = Shape.of(dims);
    long bytes = dtype.bytes(shape.size());
    long padded = (bytes + ALIGNMENT - 1) & -ALIGNMENT;
    Slab slab = current;
    if (slab == null || slab.room() < padded) {
      slab = newSlab(name, dtype, shape, Math.max(padded, nextSlabBytes));
      slabs.add(slab);
      nextSlabBytes = SLAB_BYTES;
      // A large tensor has a slab of its own; small ones after it go on where they were.
      if (current == null || current.room() < slab.room() - padded) {
        current = slab;
      }
    }
    MemorySegment memory = slab.memory.asSlice(slab.filled, bytes);
    if (slab.filled < slab.dirty) {
      memory.fill((byte) 0); // fresh slabs come zeroed, recycled ones do not
    }
    slab.filled += padded;
    slab.dirty = Math.max(slab.dirty, slab.filled);
    used += padded;
    return Tensor.host(name, dtype, shape, memory);
  }

  private Slab newSlab(String name, DType dtype, Shape shape, long bytes) {
    try {
      return new Slab(bytes);
    } catch (OutOfMemoryError e) {
      OutOfMemoryError named =
          new OutOfMemoryError(
              "tensor %s %s%s: no room for %d more bytes off-heap (%d in use by this arena)"
                  .formatted(name, dtype, shape, bytes, used));
      named.initCause(e);
      throw named;
    }
  }

  @Override
  public synchronized void reset() {
    if (slabs.size() > 1) {
      freeSlabs();
      nextSlabBytes = Math.max(SLAB_BYTES, used + used / 4);
    }
    current = null;
    for (Slab slab : slabs) { // one or none
      slab.filled = 0;
      current = slab;
    }
    used = 0;
  }

  private void freeSlabs() {
    slabs.forEach(Slab::free);
    slabs.clear();
  }

  @Override
  public synchronized long usedBytes() {
    return used;
  }

  /// Bytes taken from the system.
  synchronized long heldBytes() {
    long held = 0;
    for (Slab slab : slabs) {
      held += slab.memory.byteSize();
    }
    return held;
  }

  @Override
  public synchronized void close() {
    closed = true;
    freeSlabs();
  }
}
