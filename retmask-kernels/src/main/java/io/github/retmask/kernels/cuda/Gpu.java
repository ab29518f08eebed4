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
import java.util.Map;
import java.util.Objects;
import java.util.function.Consumer;
import java.util.function.Supplier;
import jcuda.driver.CUmodule;
import jcuda.driver.CUstream;
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
      String asked = System.getProperty("retmask.cuda.memory", "pooled");
      return switch (asked) {
        case "pooled" -> POOLED;
        case "separate" -> SEPARATE;
        default ->
            throw new IllegalArgumentException(
                "-Dretmask.cuda.memory=%s: want pooled or separate".formatted(asked));
      };
    }
  }

  private final CudaDriver driver;
  private final Memory memory;
  private final int multiprocessors;
  private final Launch launch;
  private final Map<String, CUmodule> modules = new HashMap<>();
  private final Map<String, Launch.Kernel> kernels = new HashMap<>();
  private final Map<String, PtxEntry> entries = new HashMap<>(); // of the modules
  private final Arena hostMemory = Arena.ofShared();
  private final MemorySegment staging; // pinned, a ring: small copies leave without waiting
  private long staged;
  private long scratch; // address
  private long scratchBytes;
  private long scratchUsed;
  private final List<Long> outgrown = new ArrayList<>(); // scratch memory of the op at hand
  private final Map<IntBuffer, Long> kept = new HashMap<>(); // addresses by contents
  private @Nullable LayoutImage layoutImage; // of the latest layout: layers share it
  private final Graphs graphs;
  private long stepImage; // address, 0 before the first step
  private MemorySegment stepBytes = MemorySegment.NULL; // the same on the host
  private volatile @Nullable Step step; // being put together
  private @Nullable Gemm gemm;
  private int users = 1; // the backend and every slab of memory: the last one closes the driver
  private boolean closed;

  /// @param graphs whether steps that come again become CUDA graphs; not where every piece of scratch
  ///   memory is elsewhere each time
  Gpu(CudaDriver driver, Memory memory, boolean graphs) {
    this.driver = driver;
    this.memory = memory;
    this.multiprocessors = driver.multiprocessors();
    this.launch = new Launch(driver, this::step);
    this.graphs = new Graphs(driver, graphs && memory == Memory.POOLED);
    this.staging = hostMemory.allocate(STAGING_BYTES, 4096);
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
    outgrown.forEach(this::release);
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

  /// A small array for all of the step at hand; 0 where there is none, or no room.
  long placeInStep(int... values) {
    Step own = roomIn((long) values.length * Integer.BYTES);
    if (own == null) {
      return 0;
    }
    try (Arena arena = Arena.ofConfined()) {
      return own.place(arena.allocateFrom(ValueLayout.JAVA_INT, values));
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
    kept.values().forEach(this::release);
    kept.clear();
  }

  private long upload(MemorySegment values) {
    Step own = roomIn(values.byteSize());
    if (own != null) {
      return own.place(values);
    }
    long address = scratch(values.byteSize());
    write(address, values);
    return address;
  }

  /// A tensor on the device: itself, or a copy in scratch memory.
  long onDevice(Tensor tensor) {
    return tensor.isOnHost() ? upload(tensor.segment()) : Launch.address(tensor);
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
    endStep();
    driver.copyToHost(to, address);
    driver.synchronize();
  }

  /// Small copies go through pinned memory and are only queued, large ones are waited for.
  @Override
  public synchronized void write(long address, MemorySegment from) {
    driver.enter();
    long bytes = from.byteSize();
    Step own = roomIn(bytes);
    if (own != null) {
      copy(address, own.place(from), bytes);
      return;
    }
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

  /// Sets memory to zero.
  void zero(long address, long bytes) {
    queue("zero", new long[] {address, bytes}, stream -> driver.zero(address, bytes, stream));
  }

  /// Queues a copy within the device.
  void copy(long to, long from, long bytes) {
    queue("copy", new long[] {to, from, bytes}, stream -> driver.copy(to, from, bytes, stream));
  }

  /// Queues a call, or adds it to the step at hand.
  ///
  /// @param what kind of call
  /// @param numbers all that it depends on
  void queue(String what, long[] numbers, Consumer<CUstream> call) {
    Step own = step();
    if (own == null) {
      call.accept(driver.stream());
    } else {
      own.add(new Step.Call(what, numbers, call));
    }
  }

  /// Gives memory back that calls so far may use.
  void release(long address) {
    Step own = step();
    if (own == null) {
      driver.free(address);
    } else {
      own.freeLater(address);
    }
  }

  // --- steps ----------------------------------------------------------------------------------

  /// The step that the calling thread puts together, or null.
  @Nullable Step step() {
    Step own = step;
    return own != null && own.isOfThisThread() ? own : null;
  }

  Graphs graphs() {
    return graphs;
  }

  /// Runs ops that queue what they have to as one. Where one of them waits for a result, or brings more
  /// bytes than an image holds, that ends there and the rest runs as ever.
  <T> T together(Supplier<T> ops) {
    if (!graphs.isEnabled() || step != null) {
      return ops.get();
    }
    op();
    if (stepImage == 0) {
      stepImage = driver.allocate(Step.IMAGE_BYTES);
      stepBytes = hostMemory.allocate(Step.IMAGE_BYTES, ALIGNMENT);
    }
    dropLayoutImage();
    Step own = new Step(stepImage, stepBytes);
    step = own;
    boolean whole = false;
    try {
      T result = ops.get();
      whole = step == own;
      return result;
    } finally {
      if (whole) {
        submit(own, graphs::run);
      } else {
        endStep();
      }
    }
  }

  /// Queues what the step at hand holds, call by call, and ends it.
  private void endStep() {
    Step own = step();
    if (own != null) {
      submit(own, graphs::queue);
    }
  }

  private void submit(Step own, Consumer<List<Step.Call>> how) {
    step = null;
    dropLayoutImage();
    driver.enter();
    MemorySegment image = own.image();
    for (long at = 0; at < image.byteSize(); at += STAGING_BYTES / 8) {
      write(stepImage + at, image.asSlice(at, Math.min(STAGING_BYTES / 8, image.byteSize() - at)));
    }
    how.accept(own.calls());
    own.frees().forEach(driver::free);
  }

  /// The step at hand if it takes so many bytes more; else it ends.
  private @Nullable Step roomIn(long bytes) {
    Step own = step();
    if (own != null && !own.hasRoom(bytes)) {
      endStep();
      return null;
    }
    return own;
  }

  private void dropLayoutImage() {
    if (layoutImage != null) {
      layoutImage.close();
      layoutImage = null;
    }
  }

  // --- batches --------------------------------------------------------------------------------

  /// The device's image of a layout; the latest one is kept.
  LayoutImage image(BatchLayout layout) {
    LayoutImage image = layoutImage;
    if (image == null || image.layout() != layout) {
      dropLayoutImage();
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
    driver.zero(address, bytes, driver.stream()); // before all calls of the step at hand
    users++;
    return address;
  }

  /// Gives back what [#allocate] gave.
  synchronized void free(long address) {
    driver.enter();
    release(address);
    leave();
  }

  /// Ends the backend; memory in use stays readable until it is given back.
  @Override
  public synchronized void close() {
    if (!closed) {
      closed = true;
      leave();
    }
  }

  private void leave() {
    if (--users > 0) {
      return;
    }
    driver.enter();
    if (gemm != null) {
      gemm.close();
    }
    graphs.close();
    dropLayoutImage();
    if (stepImage != 0) {
      driver.free(stepImage);
    }
    freeKept();
    freeOutgrown();
    if (scratchBytes > 0) {
      driver.free(scratch);
    }
    driver.synchronize();
    driver.unpin(staging);
    driver.close();
    hostMemory.close();
  }
}
