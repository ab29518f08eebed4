package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.F32;
import static io.github.retmask.kernels.cpu.Lanes.I16;
import static io.github.retmask.kernels.cpu.Lanes.I64;

import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.DeviceMemory;
import io.github.retmask.tensor.Storage;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;
import org.jspecify.annotations.Nullable;

/// A matrix of Q8_0 or Q4_0 with its rows two by two, so that one vector of 16 lanes holds the eight
/// chains of both ([RowDots]), and with scales that need no conversion.
///
/// A block of 32 elements of two rows: the two scales in F32, then eights of bytes, one of the first
/// row and one of the second in turn. Q8_0 has four of each row, 72 bytes instead of 68. Q4_0 has two,
/// 40 instead of 36; their nibbles are stored as signed numbers. An odd last row has zeros beside it.
///
/// To everybody else it is device memory: addresses count the bytes of the stored form.
final class PairedRows implements DeviceMemory {
  /// Bytes of both scales.
  static final int SCALES = 8;

  /// Bytes of an eight of both rows.
  static final int EIGHT = 16;

  /// Makes a nibble that stands for `q - 8` a signed number.
  private static final long SIGNED = 0x8888888888888888L;

  private static final int ELEMENTS = 32;

  /// Room behind the last pair, for vectors that are read past their scales.
  private static final int PAD = 64;

  /// Slot of the scratch arrays that holds a block of which not all elements are wanted.
  private static final int PART = 4;

  private static final VarHandle FLOAT =
      MethodHandles.byteArrayViewVarHandle(float[].class, Lanes.LE);
  private static final VectorSpecies<Float> SPECIES = Lanes.CHAINS_OF_8;
  private static final VectorSpecies<Integer> INTS = SPECIES.withLanes(int.class);
  private static final VectorSpecies<Byte> BYTES = ByteVector.SPECIES_64;

  private final MemorySegment pairs;
  private final DType type;
  private final int width;

  private PairedRows(MemorySegment pairs, DType type, int width) {
    this.pairs = pairs;
    this.type = type;
    this.width = width;
  }

  /// Whether products with few rows of x gain by it: those in eight chains, where a vector holds them.
  static boolean suits(Tensor weight) {
    return (weight.dtype() == DType.Q8_0 || weight.dtype() == DType.Q4_0)
        && weight.shape().rank() == 2
        && Lanes.WIDTH >= RowDots.CHAINS
        && Kernels.chains((int) weight.dim(1)) == RowDots.CHAINS
        && weight.isOnHost();
  }

  /// A copy of a weight, or the weight itself where memory is short. Pages of a file that hold the
  /// weight are given back to the system.
  static Tensor place(WorkerPool pool, Tensor weight, TensorArena arena) {
    MemorySegment stored = weight.segment();
    DType type = weight.dtype();
    int width = (int) weight.dim(1);
    long rows = weight.dim(0);
    long pairCount = (rows + 1) / 2;
    long bytes = pairCount * pairBytes(type, width) + PAD;
    MemorySegment pairs = arena.allocate(weight.name(), DType.I32, bytes / Integer.BYTES).segment();
    PairedRows placed = new PairedRows(pairs, type, width);
    pool.ranges(
        rows,
        2,
        2,
        (begin, end, _) -> {
          for (long row = begin; row < end; row++) {
            placed.pack(row, stored);
          }
        });
    if (stored.isMapped()) {
      stored.unload();
    }
    Storage storage = new Storage.Device(0, stored.byteSize(), placed, null);
    return new Tensor(weight.name(), type, weight.shape(), storage);
  }

  /// What a tensor was placed as, or null.
  static @Nullable PairedRows of(Tensor tensor) {
    return tensor.storage() instanceof Storage.Device device
            && device.memory() instanceof PairedRows paired
        ? paired
        : null;
  }

  /// The matrix's row that a tensor begins with.
  long firstRow(Tensor tensor) {
    return ((Storage.Device) tensor.storage()).address() / type.bytes(width);
  }

  MemorySegment segment() {
    return pairs;
  }

  /// Bytes of two rows.
  long pairBytes() {
    return pairBytes(type, width);
  }

  private static long pairBytes(DType type, int width) {
    return (long) width / ELEMENTS * blockBytes(type);
  }

  private static int blockBytes(DType type) {
    return SCALES + eights(type) * EIGHT;
  }

  private static int eights(DType type) {
    return type == DType.Q8_0 ? 4 : 2;
  }

  private long blockOf(long row, long block) {
    return row / 2 * pairBytes() + block * blockBytes(type);
  }

  private void pack(long row, MemorySegment stored) {
    int blocks = width / ELEMENTS;
    int eights = eights(type);
    long flip = type == DType.Q4_0 ? SIGNED : 0;
    long side = row % 2;
    for (int b = 0; b < blocks; b++) {
      long from = (row * blocks + b) * type.blockBytes();
      long to = blockOf(row, b);
      pairs.set(F32, to + side * Float.BYTES, Float.float16ToFloat(stored.get(I16, from)));
      for (int e = 0; e < eights; e++) {
        long bytes = stored.get(I64, from + Short.BYTES + e * (long) Long.BYTES) ^ flip;
        pairs.set(I64, to + SCALES + e * (long) EIGHT + side * Long.BYTES, bytes);
      }
    }
  }

  /// The stored form of whole blocks.
  @Override
  public void read(MemorySegment to, long address) {
    int blocks = width / ELEMENTS;
    int eights = eights(type);
    long flip = type == DType.Q4_0 ? SIGNED : 0;
    long first = address / type.blockBytes();
    for (long at = 0; at < to.byteSize(); at += type.blockBytes(), first++) {
      long row = first / blocks;
      long side = row % 2;
      long from = blockOf(row, first % blocks);
      float scale = pairs.get(F32, from + side * Float.BYTES);
      to.set(I16, at, Float.floatToFloat16(scale));
      for (int e = 0; e < eights; e++) {
        long bytes = pairs.get(I64, from + SCALES + e * (long) EIGHT + side * Long.BYTES) ^ flip;
        to.set(I64, at + Short.BYTES + e * (long) Long.BYTES, bytes);
      }
    }
  }

  @Override
  public void write(long address, MemorySegment from) {
    throw new UnsupportedOperationException(
        "a weight of type %s is not written to where the vector backend has placed it"
            .formatted(type));
  }

  /// Decodes the elements `[first, first + count)` of a tensor, in row-major order.
  void read(float[] to, int toAt, Tensor tensor, long first, int count, Scratch scratch) {
    long row = first / width + firstRow(tensor);
    int column = (int) (first % width);
    for (int done = 0; done < count; row++, column = 0) {
      int some = Math.min(count - done, width - column);
      readRow(to, toAt + done, row, column, some, scratch);
      done += some;
    }
  }

  private void readRow(float[] to, int toAt, long row, int column, int count, Scratch scratch) {
    int block = column / ELEMENTS;
    int end = column + count;
    int length = ((end + ELEMENTS - 1) / ELEMENTS - block) * blockBytes(type);
    byte[] bytes = scratch.bytes(length);
    MemorySegment.copy(pairs, ValueLayout.JAVA_BYTE, blockOf(row, block), bytes, 0, length);
    int side = (int) (row % 2);
    for (int i = block * ELEMENTS, at = 0; i < end; i += ELEMENTS, at += blockBytes(type)) {
      if (i >= column && i + ELEMENTS <= end) {
        decode(to, toAt + i - column, bytes, at, side);
      } else {
        float[] whole = scratch.floats(PART, ELEMENTS);
        decode(whole, 0, bytes, at, side);
        int skipped = Math.max(0, column - i);
        int kept = Math.min(ELEMENTS, end - i) - skipped;
        System.arraycopy(whole, skipped, to, toAt + i + skipped - column, kept);
      }
    }
  }

  private void decode(float[] to, int toAt, byte[] bytes, int at, int side) {
    float scale = (float) FLOAT.get(bytes, at + side * Float.BYTES);
    int quants = at + SCALES + side * Long.BYTES;
    if (type == DType.Q8_0) {
      for (int e = 0; e < 4; e++) {
        floats(eight(bytes, quants + e * EIGHT)).mul(scale).intoArray(to, toAt + 8 * e);
      }
      return;
    }
    for (int e = 0; e < 2; e++) {
      IntVector both = eight(bytes, quants + e * EIGHT);
      IntVector low = both.lanewise(VectorOperators.LSHL, 28).lanewise(VectorOperators.ASHR, 28);
      IntVector high = both.lanewise(VectorOperators.ASHR, 4);
      floats(low).mul(scale).intoArray(to, toAt + 8 * e);
      floats(high).mul(scale).intoArray(to, toAt + 16 + 8 * e);
    }
  }

  private static IntVector eight(byte[] bytes, int at) {
    return (IntVector)
        ByteVector.fromArray(BYTES, bytes, at).convertShape(VectorOperators.B2I, INTS, 0);
  }

  private static FloatVector floats(IntVector integers) {
    return (FloatVector) integers.convert(VectorOperators.I2F, 0);
  }
}
