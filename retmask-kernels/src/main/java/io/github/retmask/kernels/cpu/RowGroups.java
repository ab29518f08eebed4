package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.F32;
import static io.github.retmask.kernels.cpu.Lanes.I16;
import static io.github.retmask.kernels.cpu.Lanes.I64;

import io.github.retmask.backend.Kernels;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.DeviceMemory;
import io.github.retmask.tensor.FreeMemory;
import io.github.retmask.tensor.Storage;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import org.jspecify.annotations.Nullable;

/// A matrix of Q8_0 or Q4_0 with its rows eight by eight: what [GroupDots] and [GroupPanels] read.
///
/// A block of 32 elements of eight rows: the eight scales in F32, then twos of bytes, those of each row
/// in turn, so that a vector of 16 lanes holds two chains ([RowDots]) of eight rows, one of eight lanes
/// of four. Q8_0: bytes 2i and 2i + 1 of a row are its elements. Q4_0: bytes 0 to 7 hold the elements 0
/// to 7 in their low nibbles and 8 to 15 in their high ones, bytes 8 to 15 the rest; nibbles are signed.
/// Behind the last row there are zeros.
///
/// It takes 36 bytes for 34 of Q8_0 and 20 for 18 of Q4_0. To everybody else it is device memory:
/// addresses count the bytes of the stored form.
final class RowGroups implements DeviceMemory {
  /// Rows of a group.
  static final int ROWS = 8;

  /// Elements of a block.
  static final int ELEMENTS = 32;

  /// Bytes of a block's scales.
  static final int SCALES = ROWS * Float.BYTES;

  /// Bytes of twos, one of every row.
  static final int TWOS = ROWS * Short.BYTES;

  /// Bytes of a block of a row that go together into four rounds of twos.
  private static final int EIGHT = Long.BYTES;

  /// Makes a nibble that stands for `q - 8` a signed number.
  private static final long SIGNED = 0x8888888888888888L;

  private static final long LOW_NIBBLES = 0x0f0f0f0f0f0f0f0fL;

  private static final VarHandle FLOAT =
      MethodHandles.byteArrayViewVarHandle(float[].class, Lanes.LE);

  private final MemorySegment groups;
  private final DType type;
  private final int width;

  private RowGroups(MemorySegment groups, DType type, int width) {
    this.groups = groups;
    this.type = type;
    this.width = width;
  }

  /// Whether products with few rows of x gain by it: those in eight chains, of so many rows that two
  /// groups can be read side by side.
  static boolean suits(Tensor weight) {
    return (weight.dtype() == DType.Q8_0 || weight.dtype() == DType.Q4_0)
        && weight.shape().rank() == 2
        && weight.dim(0) > ROWS
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
    long groupCount = (rows + 2 * ROWS - 1) / (2 * ROWS) * 2; // GroupPanels reads two at a time
    long bytes = groupCount * groupBytes(type, width);
    if (bytes > FreeMemory.bytes() - FreeMemory.reserve()) {
      return weight;
    }
    Tensor memory = arena.allocate(weight.name(), DType.I32, bytes / Integer.BYTES);
    RowGroups placed = new RowGroups(memory.segment(), type, width);
    pool.ranges(
        rows,
        ROWS,
        ROWS,
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
  static @Nullable RowGroups of(Tensor tensor) {
    return tensor.storage() instanceof Storage.Device device
            && device.memory() instanceof RowGroups groups
        ? groups
        : null;
  }

  /// The matrix's row that a tensor begins with.
  ///
  /// @param tensor rows of the matrix, not a view of another width
  long firstRow(Tensor tensor) {
    return ((Storage.Device) tensor.storage()).address() / type.bytes(width);
  }

  MemorySegment segment() {
    return groups;
  }

  DType type() {
    return type;
  }

  /// Bytes of eight rows.
  long groupBytes() {
    return groupBytes(type, width);
  }

  private static long groupBytes(DType type, int width) {
    return (long) width / ELEMENTS * blockBytes(type);
  }

  /// Bytes of a block of eight rows.
  static int blockBytes(DType type) {
    return SCALES + eights(type) * 4 * TWOS;
  }

  /// Eights of bytes that a block of a row has.
  private static int eights(DType type) {
    return type == DType.Q8_0 ? 4 : 2;
  }

  /// Byte of a block of the group that a row belongs to.
  long blockOf(long row, long block) {
    return row / ROWS * groupBytes() + block * blockBytes(type);
  }

  private static long twos(long block, long row, int eight, int two) {
    return block + SCALES + (4L * eight + two) * TWOS + row % ROWS * Short.BYTES;
  }

  private void pack(long row, MemorySegment stored) {
    int blocks = width / ELEMENTS;
    for (int b = 0; b < blocks; b++) {
      long from = (row * blocks + b) * type.blockBytes();
      long to = blockOf(row, b);
      float scale = Float.float16ToFloat(stored.get(I16, from));
      groups.set(F32, to + row % ROWS * Float.BYTES, scale);
      long quants = from + Short.BYTES;
      if (type == DType.Q8_0) {
        for (int e = 0; e < 4; e++) {
          set(to, row, e, stored.get(I64, quants + e * (long) EIGHT));
        }
      } else {
        long first = stored.get(I64, quants) ^ SIGNED; // elements 0 to 7, and 16 to 23 on top
        long second = stored.get(I64, quants + EIGHT) ^ SIGNED; // 8 to 15, and 24 to 31
        set(to, row, 0, first & LOW_NIBBLES | (second & LOW_NIBBLES) << 4);
        set(to, row, 1, first >>> 4 & LOW_NIBBLES | second & ~LOW_NIBBLES);
      }
    }
  }

  private void set(long block, long row, int eight, long bytes) {
    for (int i = 0; i < 4; i++) {
      groups.set(I16, twos(block, row, eight, i), (short) (bytes >>> 16 * i));
    }
  }

  private long get(long block, long row, int eight) {
    long bytes = 0;
    for (int i = 0; i < 4; i++) {
      bytes |= (groups.get(I16, twos(block, row, eight, i)) & 0xffffL) << 16 * i;
    }
    return bytes;
  }

  /// The stored form of whole blocks.
  @Override
  public void read(MemorySegment to, long address) {
    int blocks = width / ELEMENTS;
    long index = address / type.blockBytes();
    for (long at = 0; at < to.byteSize(); at += type.blockBytes(), index++) {
      long row = index / blocks;
      long from = blockOf(row, index % blocks);
      float scale = groups.get(F32, from + row % ROWS * Float.BYTES);
      to.set(I16, at, Float.floatToFloat16(scale));
      long quants = at + Short.BYTES;
      if (type == DType.Q8_0) {
        for (int e = 0; e < 4; e++) {
          to.set(I64, quants + e * (long) EIGHT, get(from, row, e));
        }
      } else {
        long low = get(from, row, 0);
        long high = get(from, row, 1);
        to.set(I64, quants, (low & LOW_NIBBLES | (high & LOW_NIBBLES) << 4) ^ SIGNED);
        long second = low >>> 4 & LOW_NIBBLES | high & ~LOW_NIBBLES;
        to.set(I64, quants + EIGHT, second ^ SIGNED);
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
    int size = blockBytes(type);
    int block = column / ELEMENTS;
    int end = column + count;
    int length = ((end + ELEMENTS - 1) / ELEMENTS - block) * size;
    byte[] bytes = scratch.bytes(length);
    MemorySegment.copy(groups, ValueLayout.JAVA_BYTE, blockOf(row, block), bytes, 0, length);
    int within = (int) (row % ROWS);
    for (int i = block * ELEMENTS, at = 0; i < end; i += ELEMENTS, at += size) {
      if (i >= column && i + ELEMENTS <= end) {
        decode(to, toAt + i - column, bytes, at, within);
      } else {
        float[] whole = scratch.floats(BlockTypes.PART, ELEMENTS);
        decode(whole, 0, bytes, at, within);
        int skipped = Math.max(0, column - i);
        int kept = Math.min(ELEMENTS, end - i) - skipped;
        System.arraycopy(whole, skipped, to, toAt + i + skipped - column, kept);
      }
    }
  }

  private void decode(float[] to, int toAt, byte[] bytes, int at, int row) {
    float scale = (float) FLOAT.get(bytes, at + row * Float.BYTES);
    int quants = at + SCALES + row * Short.BYTES;
    if (type == DType.Q8_0) {
      for (int i = 0; i < ELEMENTS; i += 2) {
        int two = quants + i / 2 * TWOS;
        to[toAt + i] = scale * bytes[two];
        to[toAt + i + 1] = scale * bytes[two + 1];
      }
      return;
    }
    for (int i = 0; i < ELEMENTS / 2; i += 2) {
      int two = quants + i / 2 * TWOS;
      int low = toAt + i / 8 * 16 + i % 8;
      to[low] = scale * (bytes[two] << 28 >> 28);
      to[low + 1] = scale * (bytes[two + 1] << 28 >> 28);
      to[low + 8] = scale * (bytes[two] >> 4);
      to[low + 9] = scale * (bytes[two + 1] >> 4);
    }
  }
}
