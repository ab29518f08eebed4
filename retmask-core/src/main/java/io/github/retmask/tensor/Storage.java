package io.github.retmask.tensor;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/// Where the elements of a [Tensor] lie.
public sealed interface Storage {
  /// Bytes held.
  long bytes();

  /// Memory that this JVM addresses. Always a native (off-heap or mapped) segment: one memory kind
  /// keeps the Vector API's loads on their fast path.
  ///
  /// @param segment the bytes, at least 4-byte aligned
  record Host(MemorySegment segment) implements Storage {
    @Override
    public long bytes() {
      return segment.byteSize();
    }
  }

  /// Memory of an accelerator, or in a form of a backend's own, which only the backend that allocated it
  /// computes with; everybody can copy it.
  ///
  /// @param address device address
  /// @param bytes length
  /// @param memory what copies it
  /// @param mirror the same bytes on the host, for indices that are written once; or null
  record Device(long address, long bytes, DeviceMemory memory, @Nullable MemorySegment mirror)
      implements Storage {

    Device slice(long offset, long length) {
      return new Device(
          address + offset, length, memory, mirror == null ? null : mirror.asSlice(offset, length));
    }

    /// The bytes, which stay as they are when the device's change.
    MemorySegment read() {
      if (mirror != null) {
        return mirror;
      }
      MemorySegment copy = Arena.ofAuto().allocate(bytes, Long.BYTES);
      memory.read(copy, address);
      return copy;
    }

    void write(long offset, MemorySegment bytes) {
      memory.write(address + offset, bytes);
      if (mirror != null) {
        mirror.asSlice(offset, bytes.byteSize()).copyFrom(bytes);
      }
    }
  }
}
