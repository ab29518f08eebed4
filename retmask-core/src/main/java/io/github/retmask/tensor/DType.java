package io.github.retmask.tensor;

/// Element types of a [Tensor], named as in the safetensors format; the block types as in ggml.
///
/// A **block type** stores a fixed number of neighbouring elements of the innermost axis together,
/// as small integers and what scales them; the layout is that of `block_*` in ggml-common.h. Tensors
/// of block types are weights that were rounded before: they are read, never computed into.
public enum DType {
  /// IEEE 754 binary32.
  F32(1, 4),
  /// Upper half of binary32: 8 exponent bits, 7 mantissa bits.
  BF16(1, 2),
  /// IEEE 754 binary16.
  F16(1, 2),
  /// Signed 32-bit integer: token ids and positions.
  I32(1, 4),
  /// 8-bit integers q with one F16 scale d for 32 of them: `d q`.
  Q8_0(32, 34),
  /// 4-bit integers q from 0 to 15 with one F16 scale d for 32 of them: `d (q - 8)`.
  Q4_0(32, 18),
  /// 4-bit integers q from 0 to 15 in groups of 32 with a 6-bit scale s and a 6-bit offset m each,
  /// and two F16 scales d and e for 256 of them: `d s q - e m`.
  Q4_K(256, 144),
  /// 6-bit integers q from 0 to 63 in groups of 16 with an 8-bit scale s each, and one F16 scale d for
  /// 256 of them: `d s (q - 32)`.
  Q6_K(256, 210);

  private final int blockSize;
  private final int blockBytes;

  DType(int blockSize, int blockBytes) {
    this.blockSize = blockSize;
    this.blockBytes = blockBytes;
  }

  /// Bytes of one element.
  ///
  /// @throws IllegalStateException for a block type, whose elements do not lie alone
  public int bytes() {
    if (isBlock()) {
      throw new IllegalStateException(
          "%s has %d bytes for %d elements, none for one".formatted(this, blockBytes, blockSize));
    }
    return blockBytes;
  }

  /// Bytes of so many elements, of whole blocks.
  ///
  /// @throws IllegalArgumentException when they do not fill their last block
  /// @throws ArithmeticException when the bytes exceed a long
  public long bytes(long elements) {
    if (elements % blockSize != 0) {
      throw new IllegalArgumentException(
          "%d elements of %s, want a multiple of %d".formatted(elements, this, blockSize));
    }
    return Math.multiplyExact(elements / blockSize, blockBytes);
  }

  /// Elements that are stored together: 1 but for block types.
  public int blockSize() {
    return blockSize;
  }

  /// Bytes of a block, which is one element but for block types.
  public int blockBytes() {
    return blockBytes;
  }

  /// Whether this is a block type.
  public boolean isBlock() {
    return blockSize > 1;
  }

  /// Whether this type holds real numbers.
  public boolean isFloat() {
    return this != I32;
  }
}
