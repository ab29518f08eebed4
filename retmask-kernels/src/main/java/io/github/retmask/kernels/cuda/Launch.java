package io.github.retmask.kernels.cuda;

import io.github.retmask.tensor.Storage;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Objects;
import jcuda.Pointer;
import jcuda.driver.CUfunction;
import org.jspecify.annotations.Nullable;

/// The arguments of one kernel launch, in the kernel's order. They are packed into one direct buffer,
/// pointers first, values behind them: JCuda's nested pointers cost ten times as much per launch.
final class Launch {
  private static final int MOST = 40; // arguments of a kernel

  private final CudaDriver driver;
  private final MemorySegment values; // 8 bytes each
  private final Pointer pointers;
  private final char[] types = new char[MOST]; // of the values, as PtxEntry has them
  private @Nullable Kernel kernel;
  private @Nullable Tensor first; // for messages
  private int count;

  Launch(CudaDriver driver) {
    this.driver = driver;
    MemorySegment memory = Arena.ofAuto().allocate(2L * MOST * Long.BYTES, Long.BYTES);
    values = memory.asSlice((long) MOST * Long.BYTES);
    for (int i = 0; i < MOST; i++) {
      memory.setAtIndex(ValueLayout.JAVA_LONG, i, values.address() + (long) i * Long.BYTES);
    }
    pointers = Pointer.to(memory.asByteBuffer().order(ByteOrder.nativeOrder()));
  }

  /// A loaded kernel.
  static final class Kernel {
    private static final int ALLOWED = 48 << 10; // bytes of shared memory that every kernel may use

    final CUfunction function;
    final PtxEntry entry;
    private int allowed = ALLOWED;

    Kernel(CUfunction function, PtxEntry entry) {
      this.function = function;
      this.entry = entry;
    }
  }

  Launch begin(Kernel begun) {
    kernel = begun;
    first = null;
    count = 0;
    return this;
  }

  /// Address of a tensor's first element.
  Launch tensor(Tensor t) {
    if (first == null) {
      first = t;
    }
    return address(address(t));
  }

  /// The same, or a null pointer.
  Launch tensorOrNull(@Nullable Tensor t) {
    return t == null ? address(0) : tensor(t);
  }

  /// A device address.
  Launch address(long address) {
    return longs(address);
  }

  /// A 64-bit integer.
  Launch longs(long value) {
    types[count] = 'l';
    values.setAtIndex(ValueLayout.JAVA_LONG, count++, value);
    return this;
  }

  /// A 32-bit integer.
  Launch integer(int value) {
    types[count] = 'i';
    values.set(ValueLayout.JAVA_INT, (long) Long.BYTES * count++, value);
    return this;
  }

  /// A 32-bit integer that is given as a long.
  ///
  /// @throws ArithmeticException when it is none
  Launch integer(long value) {
    return integer(Math.toIntExact(value));
  }

  /// A float.
  Launch real(float value) {
    types[count] = 'f';
    values.set(ValueLayout.JAVA_FLOAT, (long) Long.BYTES * count++, value);
    return this;
  }

  /// A double.
  Launch real(double value) {
    types[count] = 'd';
    values.setAtIndex(ValueLayout.JAVA_DOUBLE, count++, value);
    return this;
  }

  /// Queues the kernel on a row of blocks without shared memory; no blocks, no launch.
  void run(long blocks, int threads) {
    run(blocks, 1, 1, threads, 0);
  }

  /// Queues the kernel; no blocks, no launch.
  void run(long gridX, long gridY, long gridZ, int threads, int sharedBytes) {
    if (gridX == 0 || gridY == 0 || gridZ == 0) {
      return;
    }
    Kernel begun = Objects.requireNonNull(kernel);
    assert fits(begun.entry, threads);
    if (sharedBytes > begun.allowed) {
      driver.allowShared(begun.function, begun.entry.name(), sharedBytes);
      begun.allowed = sharedBytes;
    }
    driver.launch(
        begun.function,
        begun.entry.name(),
        first,
        Math.toIntExact(gridX),
        Math.toIntExact(gridY),
        Math.toIntExact(gridZ),
        threads,
        sharedBytes,
        pointers);
  }

  private boolean fits(PtxEntry entry, int threads) {
    String given = new String(types, 0, count);
    if (!given.equals(entry.parameters()) || threads > entry.mostThreads()) {
      throw new AssertionError(
          "%s takes (%s) and %d threads, got (%s) and %d"
              .formatted(entry.name(), entry.parameters(), entry.mostThreads(), given, threads));
    }
    return true;
  }

  /// Device address of a tensor's first element.
  ///
  /// @throws IllegalArgumentException when it lies on the host
  static long address(Tensor t) {
    if (t.storage() instanceof Storage.Device device) {
      return device.address();
    }
    throw new IllegalArgumentException("tensor " + t + " lies on the host, want it on the GPU");
  }
}
