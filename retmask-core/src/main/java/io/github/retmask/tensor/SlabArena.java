package io.github.retmask.tensor;

import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// A bump allocator over slabs of memory of any kind.
///
/// A [#reset()] after which one slab was not enough replaces all of them by one that is a sixteenth
/// larger than what was in use. So steps of changing size soon allocate nothing any more, and hold
/// little more than the largest of them needs.
public abstract class SlabArena implements TensorArena {
  /// What is taken from the system at a time.
  protected static final long SLAB_BYTES = 4L << 20;

  private final long alignment;
  private final long slabBytes;
  private final List<Filled> slabs = new ArrayList<>();
  private long nextSlabBytes;
  private @Nullable Filled current; // the one that is filled
  private long used;
  private boolean closed;

  /// @param alignment of tensors, bytes, a power of two of at least 64
  protected SlabArena(long alignment) {
    this(alignment, SLAB_BYTES);
  }

  /// @param slabBytes size of a slab; 0 when every tensor is to be a slab of its own
  protected SlabArena(long alignment, long slabBytes) {
    this.alignment = alignment;
    this.slabBytes = slabBytes;
    this.nextSlabBytes = slabBytes;
  }

  /// A piece of memory that is taken from the system and given back as a whole.
  protected interface Slab {
    /// Part of it, all zero, as the storage of a tensor. Offsets ascend between calls of [#recycle].
    Storage part(long offset, long bytes);

    /// Says that all parts so far, which took the first `bytes`, are dead.
    void recycle(long bytes);

    /// Gives it back.
    void free();
  }

  /// Takes memory, all zero and aligned, from the system.
  ///
  /// @throws OutOfMemoryError when there is not so much
  protected abstract Slab newSlab(long bytes);

  /// Where the memory is, for messages: `off-heap`.
  protected abstract String place();

  /// A slab, its size and how far it is filled.
  private static final class Filled {
    final Slab slab;
    final long size;
    long filled;

    Filled(Slab slab, long size) {
      this.slab = slab;
      this.size = size;
    }

    long room() {
      return size - filled;
    }
  }

  @Override
  public synchronized Tensor allocate(String name, DType dtype, long... dims) {
    if (closed) {
      throw new IllegalStateException("tensor " + name + ": its arena is closed");
    }
    Shape shape = Shape.of(dims);
    long bytes = dtype.bytes(shape.size());
    long padded = slabBytes == 0 ? Math.max(bytes, 1) : (bytes + alignment - 1) & -alignment;
    Filled slab = current;
    if (slab == null || slab.room() < padded) {
      slab = newSlab(name, dtype, shape, padded);
      slabs.add(slab);
      nextSlabBytes = slabBytes;
      // A large tensor has a slab of its own; small ones after it go on where they were.
      if (current == null || current.room() < slab.room() - padded) {
        current = slab;
      }
    }
    Tensor tensor = new Tensor(name, dtype, shape, slab.slab.part(slab.filled, bytes));
    slab.filled += padded;
    used += padded;
    return tensor;
  }

  /// One as large as the last [#reset] asked for; where there is no such room, the steps before got by on
  /// many.
  private Filled newSlab(String name, DType dtype, Shape shape, long padded) {
    if (nextSlabBytes > Math.max(padded, slabBytes)) {
      try {
        return new Filled(newSlab(nextSlabBytes), nextSlabBytes);
      } catch (OutOfMemoryError _) {
        nextSlabBytes = slabBytes;
      }
    }
    long bytes = Math.max(padded, nextSlabBytes);
    try {
      return new Filled(newSlab(bytes), bytes);
    } catch (OutOfMemoryError e) {
      OutOfMemoryError named =
          new OutOfMemoryError(
              "tensor %s %s%s: no room for %d more bytes %s (%d in use by this arena)"
                  .formatted(name, dtype, shape, bytes, place(), used));
      named.initCause(e);
      throw named;
    }
  }

  @Override
  public synchronized void reset() {
    if (slabBytes == 0) {
      freeSlabs();
    } else if (slabs.size() > 1) {
      freeSlabs();
      nextSlabBytes = Math.max(slabBytes, used + used / 16);
    }
    current = null;
    for (Filled slab : slabs) { // one or none
      slab.slab.recycle(slab.filled);
      slab.filled = 0;
      current = slab;
    }
    used = 0;
  }

  private void freeSlabs() {
    slabs.forEach(slab -> slab.slab.free());
    slabs.clear();
  }

  @Override
  public synchronized long usedBytes() {
    return used;
  }

  /// Bytes taken from the system.
  synchronized long heldBytes() {
    long held = 0;
    for (Filled slab : slabs) {
      held += slab.size;
    }
    return held;
  }

  @Override
  public synchronized void close() {
    closed = true;
    freeSlabs();
  }
}
