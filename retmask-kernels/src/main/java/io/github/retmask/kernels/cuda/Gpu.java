package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.BatchLayout;
import io.github.retmask.backend.HeadPlan;
import io.github.retmask.tensor.DeviceMemory;
import io.github.retmask.tensor.Tensor;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.IntBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import jcuda.driver.CUmodule;
import org.jspecify.annotations.Nullable;

/// One GPU as launchers see it: kernels by name, memory for the op at hand, and images of batches.
/// Ops run one after another on one stream; every op begins with [#op].
final class Gpu implements AutoCloseable, DeviceMemory {
  private static final long STAGING_BYTES = 4L << 20;
  private static final long ALIGNMENT = 256;
  private static final int MOST_KEPT = 1024; // a plan per layer of several masks

  /// How memory is taken from the driver.
  enum Memory {
    /// Many tensors at a time.
    POOLED,
    /// Every tensor, and every piece of scratch memory, for itself: so that tools that watch memory,
    /// such as compute-sanitizer, see an access past the end of one.
    SEPARATE;

    /// What `-Dretmask.cuda.memory` says.
    static Memory asked() {
      return valueOf(System.getProperty("retmask.cuda.memory", "pooled").toUpperCase(Locale.ROOT));
    }
  }

  private final CudaDriver driver;
  private final Memory memory;
  private final int multiprocessors;
  private final Launch launch;
  private final Map<String, CUmodule> modules = new HashMap<>();
  private final Map<String, Launch.Kernel> kernels = new HashMap<>();
  private final Map<String, PtxEntry> entries = new HashMap<>(); // of the modules
  private final Arena pinned = Arena.ofShared();
  private final MemorySegment staging; // a ring: small copies leave from here without waiting
  private long staged;
  private long scratch; // address
  private long scratchBytes;
  private long scratchUsed;
  private final List<Long> outgrown = new ArrayList<>(); // scratch memory of the op at hand
  private final Map<IntBuffer, Long> kept = new HashMap<>(); // addresses by contents
  private @Nullable LayoutImage layoutImage; // of the latest layout: layers share it
  private @Nullable Gemm gemm;
  private int users = 1; // the backend and every slab of memory: the last one closes the driver
  private boolean closed;

  Gpu(CudaDriver driver, Memory memory) {
    this.driver = driver;
    this.memory = memory;
    this.multiprocessors = driver.multiprocessors();
    this.launch = new Launch(driver);
    this.staging = pinned.allocate(STAGING_BYTES, 4096);
    driver.pin(staging);
  }

  /// The driver, for what is no kernel.
  CudaDriver driver() {
    return driver;
  }

  Memory memory() {
    return memory;
  }

  /// Streaming multiprocessors of the device.
  int multiprocessors() {
    return multiprocessors;
  }

  /// Begins an op: its scratch memory is that of the ops before it.
  void op() {
    driver.enter();
    freeOutgrown();
    scratchUsed = 0;
  }

  // --- kernels --------------------------------------------------------------------------------

  /// Begins a launch.
  ///
  /// @param stem file of the kernel, without `.cu`
  /// @param kernel its name
  Launch launch(String stem, String kernel) {
    Launch.Kernel loaded = kernels.get(kernel);
    if (loaded == null) {
      CUmodule module = modules.computeIfAbsent(stem, this::load);
      loaded =
          new Launch.Kernel(
              driver.function(module, kernel), Objects.requireNonNull(entries.get(kernel)));
      kernels.put(kernel, loaded);
    }
    return launch.begin(loaded);
  }

  private CUmodule load(String stem) {
    String resource = stem + ".ptx";
    try (InputStream in = Gpu.class.getResourceAsStream(resource)) {
      if (in == null) {
        throw new IllegalStateException("cuda: no kernels " + resource + " in this build");
      }
      byte[] ptx = in.readAllBytes();
      entries.putAll(PtxEntry.parse(new String(ptx, StandardCharsets.ISO_8859_1)));
      return driver.loadModule(ptx, resource);
    } catch (IOException e) {
      throw new IllegalStateException("cuda: cannot read " + resource, e);
    }
  }

  /// End of the name of kernels for activations of this type.
  static String suffix(Tensor activations) {
    return switch (activations.dtype()) {
      case F32 -> "_f32";
      case BF16 -> "_bf16";
      default ->
          throw new IllegalArgumentException(
              "cuda: tensor " + activations + ", want activations of F32 or BF16");
    };
  }

  /// Products on tensor cores: by cuBLAS where there is one, looked for at the first call.
  Gemm gemm() {
    if (gemm == null) {
      gemm = Gemm.open(this);
    }
    return gemm;
  }

  // --- memory ---------------------------------------------------------------------------------

  /// Device memory for this op alone, 256-byte aligned, of undefined contents; a second call in the
  /// same op gives more.
  long scratch(long bytes) {
    if (memory == Memory.SEPARATE) {
      long address = driver.allocate(Math.max(bytes, 1));
      outgrown.add(address);
      return address;
    }
    long padded = (bytes + ALIGNMENT - 1) & -ALIGNMENT;
    if (scratchUsed + padded > scratchBytes) {
      // What this op holds already stays until the next one.
      long grown = Math.max(2 * scratchBytes, Math.max(padded, 1 << 20));
      long fresh = driver.allocate(grown);
      if (scratchBytes > 0) {
        outgrown.add(scratch);
      }
      scratch = fresh;
      scratchBytes = grown;
      scratchUsed = 0;
    }
    long address = scratch + scratchUsed;
    scratchUsed += padded;
    return address;
  }

  private void freeOutgrown() {
    outgrown.forEach(driver::free);
    outgrown.clear();
  }

  /// A small array in scratch memory.
  long upload(int... values) {
    try (Arena arena = Arena.ofConfined()) {
      return upload(arena.allocateFrom(ValueLayout.JAVA_INT, values));
    }
  }

  /// A small array in scratch memory.
  long upload(float... values) {
    try (Arena arena = Arena.ofConfined()) {
      return upload(arena.allocateFrom(ValueLayout.JAVA_FLOAT, values));
    }
  }

  /// A small array in memory of its own, for [CudaDriver#free].
  long store(int... values) {
    long address = driver.allocate((long) values.length * Integer.BYTES);
    try (Arena arena = Arena.ofConfined()) {
      write(address, arena.allocateFrom(ValueLayout.JAVA_INT, values));
    }
    return address;
  }

  /// A small array that will be wanted again: copied once as long as few others come.
  long keep(int... values) {
    Long address = kept.get(IntBuffer.wrap(values));
    if (address == null) {
      if (kept.size() == MOST_KEPT) {
        freeKept();
      }
      address = store(values);
      kept.put(IntBuffer.wrap(values.clone()), address);
    }
    return address;
  }

  private void freeKept() {
    kept.values().forEach(driver::free);
    kept.clear();
  }

  private long upload(MemorySegment values) {
    long address = scratch(values.byteSize());
    write(address, values);
    return address;
  }

  /// A tensor on the device: itself, or a copy in scratch memory.
  long onDevice(Tensor tensor) {
    if (!tensor.isOnHost()) {
      return Launch.address(tensor);
    }
    long address = scratch(tensor.storage().bytes());
    write(address, tensor.segment());
    return address;
  }

  /// Waits for some integers.
  int[] downloadInts(long address, int count) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment values = arena.allocate(ValueLayout.JAVA_INT, count);
      read(values, address);
      return values.toArray(ValueLayout.JAVA_INT);
    }
  }

  /// Waits for some doubles.
  double[] downloadDoubles(long address, int count) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment values = arena.allocate(ValueLayout.JAVA_DOUBLE, count);
      read(values, address);
      return values.toArray(ValueLayout.JAVA_DOUBLE);
    }
  }

  @Override
  public synchronized void read(MemorySegment to, long address) {
    driver.enter();
    driver.copyToHost(to, address);
    driver.synchronize();
  }

  /// Small copies go through pinned memory and are only queued, large ones are waited for.
  @Override
  public synchronized void write(long address, MemorySegment from) {
    driver.enter();
    long bytes = from.byteSize();
    if (bytes > STAGING_BYTES / 8) {
      if (from.isNative()) {
        driver.copyToDevice(address, from);
        driver.synchronize();
        return;
      }
      try (Arena arena = Arena.ofConfined()) { // the driver cannot read Java's heap
        write(address, arena.allocate(bytes).copyFrom(from));
      }
      return;
    }
    long padded = (bytes + ALIGNMENT - 1) & -ALIGNMENT;
    if (staged + padded > STAGING_BYTES) {
      driver.synchronize(); // the oldest copies have left
      staged = 0;
    }
    MemorySegment room = staging.asSlice(staged, bytes).copyFrom(from);
    staged += padded;
    driver.copyToDevice(address, room);
  }

  // --- batches --------------------------------------------------------------------------------

  /// The device's image of a layout; the latest one is kept.
  LayoutImage image(BatchLayout layout) {
    LayoutImage image = layoutImage;
    if (image == null || image.layout() != layout) {
      if (image != null) {
        image.close();
      }
      image = new LayoutImage(this, layout);
      layoutImage = image;
    }
    return image;
  }

  /// Address of the layout's tiles, `TokenTile[]`, each of at most `tokens` tokens of one row.
  long tiles(BatchLayout layout, int tokens) {
    return image(layout).tiles(tokens);
  }

  /// Number of those tiles.
  static int tileCount(BatchLayout layout, int tokens) {
    return LayoutImage.tileCount(layout, tokens);
  }

  /// The device's image of a plan, for this op alone.
  PlanImage image(HeadPlan plan, int headDim) {
    return PlanImage.of(this, plan, headDim);
  }

  /// Memory that outlives the op, all zero.
  synchronized long allocate(long bytes) {
    driver.enter();
    long address = driver.allocate(bytes);
    driver.zero(address, bytes);
    users++;
    return address;
  }

  /// Gives back what [#allocate] gave.
  synchronized void free(long address) {
    driver.enter();
    driver.free(address);
    release();
  }

  /// Ends the backend; memory in use stays readable until it is given back.
  @Override
  public synchronized void close() {
    if (!closed) {
      closed = true;
      release();
    }
  }

  private void release() {
    if (--users > 0) {
      return;
    }
    driver.enter();
    if (gemm != null) {
      gemm.close();
    }
    if (layoutImage != null) {
      layoutImage.close();
    }
    freeKept();
    freeOutgrown();
    if (scratchBytes > 0) {
      driver.free(scratch);
    }
    driver.synchronize();
    driver.unpin(staging);
    driver.close();
    pinned.close();
  }
}
