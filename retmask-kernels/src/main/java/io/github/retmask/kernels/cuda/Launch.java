package io.github.retmask.kernels.cuda;

import io.github.retmask.tensor.Storage;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Objects;
import java.util.function.Supplier;
import jcuda.Pointer;
import jcuda.driver.CUfunction;
import jcuda.driver.CUstream;
import org.jspecify.annotations.Nullable;

/// The arguments of one kernel launch, in the kernel's order. They are packed into one direct buffer,
/// pointers first, values behind them: JCuda's nested pointers cost ten times as much per launch.
final class Launch {
  private static final int MOST = 40; // arguments of a kernel

  private final CudaDriver driver;
  private final Supplier<@Nullable Step> steps;
  private final Arguments own = new Arguments(); // of the launch at hand
  private final Arguments later = new Arguments(); // of one that was put off
  private final char[] types = new char[MOST]; // of the values, as PtxEntry has them
  private @Nullable Kernel kernel;
  private @Nullable Tensor first; // for messages
  private int count;

  /// @param steps the step that the calling thread puts together, or null
  Launch(CudaDriver driver, Supplier<@Nullable Step> steps) {
    this.driver = driver;
    this.steps = steps;
  }

  /// Values as the driver takes them.
  private static final class Arguments {
    final MemorySegment values; // 8 bytes each, zeros behind shorter values
    final Pointer pointers;

    Arguments() {
      MemorySegment memory = Arena.ofAuto().allocate(2L * MOST * Long.BYTES, Long.BYTES);
      values = memory.asSlice((long) MOST * Long.BYTES);
      for (int i = 0; i < MOST; i++) {
        memory.setAtIndex(ValueLayout.JAVA_LONG, i, values.address() + (long) i * Long.BYTES);
      }
      pointers = Pointer.to(memory.asByteBuffer().order(ByteOrder.nativeOrder()));
    }
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
    own.values.setAtIndex(ValueLayout.JAVA_LONG, count++, value);
    return this;
  }

  /// A 32-bit integer.
  Launch integer(int value) {
    types[count] = 'i';
    own.values.setAtIndex(ValueLayout.JAVA_LONG, count++, Integer.toUnsignedLong(value));
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
    int bits = Float.floatToRawIntBits(value);
    own.values.setAtIndex(ValueLayout.JAVA_LONG, count++, Integer.toUnsignedLong(bits));
    return this;
  }

  /// A double.
  Launch real(double value) {
    types[count] = 'd';
    own.values.setAtIndex(ValueLayout.JAVA_DOUBLE, count++, value);
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
    int x = Math.toIntExact(gridX);
    int y = Math.toIntExact(gridY);
    int z = Math.toIntExact(gridZ);
    Tensor named = first;
    Step step = steps.get();
    if (step == null) {
      queue(begun, named, x, y, z, threads, sharedBytes, own, driver.stream());
      return;
    }
    long[] numbers = new long[5 + count];
    numbers[0] = x;
    numbers[1] = y;
    numbers[2] = z;
    numbers[3] = threads;
    numbers[4] = sharedBytes;
    MemorySegment.copy(own.values, ValueLayout.JAVA_LONG, 0, numbers, 5, count);
    step.add(
        new Step.Call(
            begun,
            numbers,
            stream -> {
              int given = numbers.length - 5;
              MemorySegment.copy(numbers, 5, later.values, ValueLayout.JAVA_LONG, 0, given);
              queue(begun, named, x, y, z, threads, sharedBytes, later, stream);
            }));
  }

  private void queue(
      Kernel begun,
      @Nullable Tensor named,
      int x,
      int y,
      int z,
      int threads,
      int sharedBytes,
      Arguments arguments,
      CUstream on) {
    Pointer pointers = arguments.pointers;
    driver.launch(
        begun.function, begun.entry.name(), named, x, y, z, threads, sharedBytes, pointers, on);
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
