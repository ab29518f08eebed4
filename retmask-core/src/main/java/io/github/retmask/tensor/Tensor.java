package io.github.retmask.tensor;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/// A named, dense, row-major view of memory. The name appears in every failure; arithmetic is never
/// a method here but an op of [io.github.retmask.backend.Ops].
///
/// @param name checkpoint name or role, such as `model.layers.3.self_attn.q_proj.weight`
/// @param dtype element type
/// @param shape extents; with a block type the innermost one is a multiple of [DType#blockSize]
/// @param storage exactly the bytes of the elements, [DType#bytes(long)]
public record Tensor(String name, DType dtype, Shape shape, Storage storage) {

  /// Little-endian 32-bit float access that tolerates 4-byte alignment only.
  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(java.nio.ByteOrder.LITTLE_ENDIAN);

  private static final ValueLayout.OfInt INT =
      ValueLayout.JAVA_INT_UNALIGNED.withOrder(java.nio.ByteOrder.LITTLE_ENDIAN);

  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(java.nio.ByteOrder.LITTLE_ENDIAN);

  public Tensor {
    if (dtype.isBlock() && (shape.rank() == 0 || shape.dim(-1) % dtype.blockSize() != 0)) {
      throw new IllegalArgumentException(
          "tensor %s %s%s: want a multiple of %d elements innermost"
              .formatted(name, dtype, shape, dtype.blockSize()));
    }
    long wanted = dtype.bytes(shape.size());
    if (storage.bytes() != wanted) {
      throw new IllegalArgumentException(
          "tensor %s %s%s needs %d bytes, got %d"
              .formatted(name, dtype, shape, wanted, storage.bytes()));
    }
  }

  /// A host tensor over `segment`, which must have exactly the right length.
  public static Tensor host(String name, DType dtype, Shape shape, MemorySegment segment) {
    return new Tensor(name, dtype, shape, new Storage.Host(segment));
  }

  /// The host memory.
  ///
  /// @throws IllegalStateException when the tensor lies on a device
  public MemorySegment segment() {
    return switch (storage) {
      case Storage.Host host -> host.segment();
      case Storage.Device _ ->
          throw new IllegalStateException("tensor " + name + " lies on a device; take toHost()");
    };
  }

  /// Whether its elements lie in memory that this JVM addresses.
  public boolean isOnHost() {
    return storage instanceof Storage.Host;
  }

  /// This tensor where it lies on the host already, else a copy of it there.
  public Tensor toHost() {
    return switch (storage) {
      case Storage.Host _ -> this;
      case Storage.Device device -> host(name, dtype, shape, device.read());
    };
  }

  /// Extent of an axis; negative axes count from the end.
  public long dim(int axis) {
    return shape.dim(axis);
  }

  /// Number of elements.
  public long size() {
    return shape.size();
  }

  /// The same elements under another name.
  public Tensor named(String newName) {
    return new Tensor(newName, dtype, shape, storage);
  }

  /// The same elements under another shape of equal size.
  public Tensor view(long... dims) {
    return new Tensor(name, dtype, Shape.of(dims), storage);
  }

  /// Entries `from` (inclusive) to `to` (exclusive) of the outermost axis, sharing memory.
  ///
  /// @throws IndexOutOfBoundsException when the range leaves the axis
  /// @throws IllegalArgumentException when it cuts a block
  public Tensor slice(long from, long to) {
    if (from < 0 || to < from || to > dim(0)) {
      throw new IndexOutOfBoundsException(
          "slice [%d, %d) of tensor %s %s".formatted(from, to, name, shape));
    }
    long[] dims = shape.dims();
    long row = dims[0] == 0 ? 0 : shape.size() / dims[0];
    dims[0] = to - from;
    long offset = dtype.bytes(from * row);
    long bytes = dtype.bytes((to - from) * row);
    Storage part =
        switch (storage) {
          case Storage.Host host -> new Storage.Host(host.segment().asSlice(offset, bytes));
          case Storage.Device device -> device.slice(offset, bytes);
        };
    return new Tensor(name, dtype, Shape.of(dims), part);
  }

  /// Element `index` in row-major order, widened to float. For boundaries and tests, not for loops
  /// that matter: every call on a device's tensor may copy all of it.
  public float get(long index) {
    if (!isOnHost()) {
      return toHost().get(index);
    }
    return switch (dtype) {
      case F32 -> segment().get(FLOAT, index * 4);
      case BF16 -> Float.intBitsToFloat(segment().get(SHORT, index * 2) << 16);
      case F16 -> Float.float16ToFloat(segment().get(SHORT, index * 2));
      case I32 -> segment().get(INT, index * 4);
      case Q8_0, Q4_0, Q4_K, Q6_K -> BlockElement.get(dtype, segment(), index);
    };
  }

  /// Element `index` of an I32 tensor.
  public int getInt(long index) {
    require(DType.I32);
    return toHost().segment().get(INT, index * 4);
  }

  /// Sets element `index` of an F32 tensor.
  public void set(long index, float value) {
    require(DType.F32);
    put(index * 4, MemorySegment.ofArray(new float[] {value}));
  }

  /// Sets element `index` of an I32 tensor.
  public void setInt(long index, int value) {
    require(DType.I32);
    put(index * 4, MemorySegment.ofArray(new int[] {value}));
  }

  /// All elements widened to float, row-major.
  public float[] toFloats() {
    if (!isOnHost()) {
      return toHost().toFloats();
    }
    float[] out = new float[Math.toIntExact(size())];
    if (dtype == DType.F32) {
      MemorySegment.copy(segment(), FLOAT, 0, out, 0, out.length);
    } else {
      for (int i = 0; i < out.length; i++) {
        out[i] = get(i);
      }
    }
    return out;
  }

  /// All elements of an I32 tensor, row-major.
  public int[] toInts() {
    require(DType.I32);
    int[] out = new int[Math.toIntExact(size())];
    MemorySegment.copy(toHost().segment(), INT, 0, out, 0, out.length);
    return out;
  }

  /// Overwrites an F32 tensor with `values`, row-major.
  public Tensor copyFrom(float... values) {
    require(DType.F32);
    requireLength(values.length);
    put(0, MemorySegment.ofArray(values));
    return this;
  }

  /// Overwrites an I32 tensor with `values`, row-major.
  public Tensor copyFrom(int... values) {
    require(DType.I32);
    requireLength(values.length);
    put(0, MemorySegment.ofArray(values));
    return this;
  }

  /// Overwrites this tensor with the elements of another of the same type and size, wherever the two
  /// lie.
  ///
  /// @throws IllegalArgumentException when type or size differ
  public Tensor copyFrom(Tensor other) {
    if (other.dtype != dtype || other.size() != size()) {
      throw new IllegalArgumentException("tensor " + this + " cannot hold a copy of " + other);
    }
    put(0, other.toHost().segment());
    return this;
  }

  private void put(long offset, MemorySegment bytes) {
    switch (storage) {
      case Storage.Host host ->
          MemorySegment.copy(bytes, 0, host.segment(), offset, bytes.byteSize());
      case Storage.Device device -> device.write(offset, bytes);
    }
  }

  private void require(DType wanted) {
    if (dtype != wanted) {
      throw new IllegalStateException("tensor " + name + " is " + dtype + ", want " + wanted);
    }
  }

  private void requireLength(int length) {
    if (length != size()) {
      throw new IllegalArgumentException(
          "tensor %s %s holds %d elements, got %d".formatted(name, shape, size(), length));
    }
  }

  @Override
  public String toString() {
    return name + " " + dtype + shape;
  }
}
