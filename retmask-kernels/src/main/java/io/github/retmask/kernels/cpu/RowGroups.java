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
/// A block of 32 elements of eight rows: the eight scales in F32, then lines of 64 bytes. A vector of 16
/// lanes holds two chains ([RowDots]) of eight rows, one of eight lanes of four. Q8_0: a line has four
/// twos of every row, first the first ones of all rows; bytes 2i and 2i + 1 of a row are its elements.
/// Q4_0: a line has two words of every row in turn, with the eight even and the eight odd ones of 16
/// elements, the first in the lowest bits, as they are stored (q + 8). Behind the last row there are
/// zeros.
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

  /// Words of a line: two of every row.
  static final int WORDS = 2 * ROWS;

  /// Bytes of a line.
  static final int LINE = WORDS * Integer.BYTES;

  /// The low nibbles of the even ones of eight bytes.
  private static final long EVEN = 0x000f000f000f000fL;

  /// Bytes of a row's part of a line.
  private static final int EIGHT = Long.BYTES;

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
    return SCALES + lines(type) * LINE;
  }

  /// Lines of a block.
  private static int lines(DType type) {
    return type == DType.Q8_0 ? 4 : 2;
  }

  /// Byte of a block of the group that a row belongs to.
  long blockOf(long row, long block) {
    return row / ROWS * groupBytes() + block * blockBytes(type);
  }

  /// Byte of a row's first part in a line of a block.
  ///
  /// @param bytes from row to row
  private static long inLine(long block, int line, long row, int bytes) {
    return block + SCALES + (long) line * LINE + row % ROWS * bytes;
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
        for (int line = 0; line < 4; line++) {
          long bytes = stored.get(I64, quants + line * (long) EIGHT);
          long at = inLine(to, line, row, Short.BYTES);
          for (int i = 0; i < 4; i++) {
            groups.set(I16, at + (long) i * TWOS, (short) (bytes >>> 16 * i));
          }
        }
      } else {
        long first = stored.get(I64, quants); // elements 0 to 7, and 16 to 23 in the high nibbles
        long second = stored.get(I64, quants + EIGHT); // 8 to 15, and 24 to 31
        for (int line = 0; line < 2; line++) {
          long even = EVEN << 4 * line;
          long odd = even << 8;
          long words =
              Long.compress(first, even)
                  | Long.compress(second, even) << 16
                  | Long.compress(first, odd) << 32
                  | Long.compress(second, odd) << 48;
          groups.set(I64, inLine(to, line, row, EIGHT), words);
        }
      }
    }
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
        for (int line = 0; line < 4; line++) {
          long from0 = inLine(from, line, row, Short.BYTES);
          for (int i = 0; i < 4; i++) {
            short two = groups.get(I16, from0 + (long) i * TWOS);
            to.set(I16, quants + line * (long) EIGHT + 2L * i, two);
          }
        }
      } else {
        long first = 0;
        long second = 0;
        for (int line = 0; line < 2; line++) {
          long words = groups.get(I64, inLine(from, line, row, EIGHT));
          long even = EVEN << 4 * line;
          long odd = even << 8;
          first |= Long.expand(words, even) | Long.expand(words >>> 32, odd);
          second |= Long.expand(words >>> 16, even) | Long.expand(words >>> 48, odd);
        }
        to.set(I64, quants, first);
        to.set(I64, quants + EIGHT, second);
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
    if (type == DType.Q8_0) {
      int quants = at + SCALES + row * Short.BYTES;
      for (int i = 0; i < ELEMENTS; i += 2) {
        int two = quants + i / 2 * TWOS;
        to[toAt + i] = scale * bytes[two];
        to[toAt + i + 1] = scale * bytes[two + 1];
      }
      return;
    }
    for (int i = 0; i < ELEMENTS; i++) {
      int word = at + SCALES + i / 16 * LINE + row * EIGHT + i % 2 * Integer.BYTES;
      int nibble = bytes[word + i % 16 / 4] >> i % 4 / 2 * 4 & 0xf;
      to[toAt + i] = scale * (nibble - 8);
    }
  }
}
