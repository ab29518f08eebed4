package io.github.retmask.tensor;

import java.lang.foreign.MemorySegment;

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

  /// Memory of an accelerator, opaque to everything but the backend that allocated it.
  ///
  /// @param address device address
  /// @param bytes length
  record Device(long address, long bytes) implements Storage {}
}
