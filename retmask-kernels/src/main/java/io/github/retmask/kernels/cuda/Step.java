package io.github.retmask.kernels.cuda;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.Consumer;
import jcuda.driver.CUstream;

/// What ops queue while a step is put together: calls, and the bytes from the host that they read. The
/// bytes are collected in one image, which lies at the same place on the device for every step; so two
/// steps that differ by tokens, positions and masks alone have equal calls.
final class Step {
  /// Bytes of an image: the masks of 64 rows in 80 layers of 64 heads are five MiB of it.
  static final long IMAGE_BYTES = 8L << 20;

  private static final long ALIGNMENT = 256;

  private final Thread thread = Thread.currentThread();
  private final long imageAddress;
  private final MemorySegment image;
  private long filled;
  private final List<Call> calls = new ArrayList<>();
  private final List<Long> frees = new ArrayList<>();

  /// @param imageAddress where the image will be on the device
  /// @param image where it is put together, [#IMAGE_BYTES]
  Step(long imageAddress, MemorySegment image) {
    this.imageAddress = imageAddress;
    this.image = image;
  }

  /// Something to queue. Calls are equal when they would do the same to the same memory.
  ///
  /// @param what kernel, or kind of call
  /// @param numbers all that it depends on, but for contents of device memory
  /// @param queue queues it on a stream
  record Call(Object what, long[] numbers, Consumer<CUstream> queue) {
    @Override
    public boolean equals(Object other) {
      return other instanceof Call call
          && what.equals(call.what)
          && Arrays.equals(numbers, call.numbers);
    }

    @Override
    public int hashCode() {
      return 31 * what.hashCode() + Arrays.hashCode(numbers);
    }
  }

  /// Whether the calling thread is the one that puts it together.
  boolean isOfThisThread() {
    return thread == Thread.currentThread();
  }

  void add(Call call) {
    calls.add(call);
  }

  List<Call> calls() {
    return calls;
  }

  /// Memory to give back when the calls are queued.
  void freeLater(long address) {
    frees.add(address);
  }

  List<Long> frees() {
    return frees;
  }

  /// Whether so many bytes more fit into the image.
  boolean hasRoom(long bytes) {
    return filled + bytes <= IMAGE_BYTES;
  }

  /// Takes bytes into the image; returns where the calls find them.
  long place(MemorySegment bytes) {
    long at = filled;
    image.asSlice(at, bytes.byteSize()).copyFrom(bytes);
    filled = Math.min(IMAGE_BYTES, (at + bytes.byteSize() + ALIGNMENT - 1) & -ALIGNMENT);
    return imageAddress + at;
  }

  /// The bytes taken so far.
  MemorySegment image() {
    return image.asSlice(0, filled);
  }
}
