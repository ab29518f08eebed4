package io.github.retmask.tensor;

/// Element types of a [Tensor], named as in the safetensors format.
public enum DType {
  /// IEEE 754 binary32.
  F32(4),
  /// Upper half of binary32: 8 exponent bits, 7 mantissa bits.
  BF16(2),
  /// IEEE 754 binary16.
  F16(2),
  /// Signed 32-bit integer: token ids and positions.
  I32(4);

  private final int bytes;

  DType(int bytes) {
    this.bytes = bytes;
  }

  /// Bytes of one element.
  public int bytes() {
    return bytes;
  }

  /// Whether this type holds real numbers.
  public boolean isFloat() {
    return this != I32;
  }
}
