package io.github.retmask.tensor;

import java.lang.foreign.MemorySegment;

/// Copies between host memory and an accelerator's, or a backend's own form of weights, in the order of
/// the ops around them. Both calls return when the bytes have arrived.
public interface DeviceMemory {

  /// Device to host.
  ///
  /// @param to native memory, as many bytes as are copied
  /// @param address device address of the first byte
  void read(MemorySegment to, long address);

  /// Host to device.
  ///
  /// @param address device address of the first byte
  /// @param from memory of any kind, mapped files included
  /// @throws UnsupportedOperationException where the memory is only read
  void write(long address, MemorySegment from);
}
