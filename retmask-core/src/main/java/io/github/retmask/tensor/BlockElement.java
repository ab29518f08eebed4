package io.github.retmask.tensor;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/// One element of a tensor of a block type, as the formulas of [DType] say; the layout of the bytes
/// follows `dequantize_row_*` in ggml-quants.c. Scales times integers are exact in F32, so the result
/// is the formula's value rounded once.
final class BlockElement {
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private BlockElement() {}

  /// Element `index` in row-major order.
  static float get(DType dtype, MemorySegment bytes, long index) {
    MemorySegment block =
        bytes.asSlice(index / dtype.blockSize() * dtype.blockBytes(), dtype.blockBytes());
    int i = (int) (index % dtype.blockSize());
    return switch (dtype) {
      case Q8_0 -> half(block, 0) * block.get(ValueLayout.JAVA_BYTE, 2 + i);
      case Q4_0 -> half(block, 0) * (nibble(block, 2 + i % 16, i / 16) - 8);
      case Q4_K -> q4k(block, i);
      case Q6_K -> q6k(block, i);
      case F32, BF16, F16, I32 -> throw new IllegalArgumentException(dtype + " is no block type");
    };
  }

  /// Bytes: d, e, 12 of packed 6-bit scales and offsets, 128 of integers: 32 bytes hold the low and
  /// the high halves of two groups.
  private static float q4k(MemorySegment block, int i) {
    int group = i / 32;
    int scale;
    int offset;
    if (group < 4) {
      scale = unsigned(block, 4 + group) & 63;
      offset = unsigned(block, 8 + group) & 63;
    } else { // the low four bits lie in the last four bytes, the high two on top of the first eight
      scale = unsigned(block, 8 + group) & 15 | unsigned(block, group) >> 6 << 4;
      offset = unsigned(block, 8 + group) >> 4 | unsigned(block, 4 + group) >> 6 << 4;
    }
    int q = nibble(block, 16 + group / 2 * 32 + i % 32, group % 2);
    return half(block, 0) * scale * q - half(block, 2) * offset;
  }

  /// Bytes: 128 of low four bits, 64 of high two bits, 16 scales, d. Each half of the block holds 128
  /// elements; its quarters of 32 share bytes, two in the low bits and four in the high ones.
  private static float q6k(MemorySegment block, int i) {
    int half = i / 128;
    int quarter = i % 128 / 32;
    int at = i % 32;
    int low = nibble(block, half * 64 + quarter % 2 * 32 + at, quarter / 2);
    int high = unsigned(block, 128 + half * 32 + at) >> 2 * quarter & 3;
    int scale = block.get(ValueLayout.JAVA_BYTE, 192 + i / 16);
    return half(block, 208) * scale * ((low | high << 4) - 32);
  }

  private static float half(MemorySegment block, long at) {
    return Float.float16ToFloat(block.get(SHORT, at));
  }

  /// The low half of a byte, or the high one.
  private static int nibble(MemorySegment block, long at, int high) {
    return unsigned(block, at) >> 4 * high & 15;
  }

  private static int unsigned(MemorySegment block, long at) {
    return Byte.toUnsignedInt(block.get(ValueLayout.JAVA_BYTE, at));
  }
}
