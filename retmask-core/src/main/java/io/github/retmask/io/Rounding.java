package io.github.retmask.io;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/// How F32 values become the stored type: to nearest, ties to even (IEEE 754, section 4.3.1). NaN
/// stays NaN and infinities stay; a finite value that would become infinite is an error, because
/// the stored model would be broken without a word.
enum Rounding {
  /// Stored as it is.
  NONE,
  /// F32 to BF16.
  TO_BF16,
  /// F32 to F16.
  TO_F16;

  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /// The rounding that stores `tensor` as `stored`.
  ///
  /// @throws IllegalArgumentException when there is none
  static Rounding between(Tensor tensor, DType stored) {
    if (tensor.dtype() == stored) {
      return NONE;
    }
    if (tensor.dtype() == DType.F32 && stored == DType.BF16) {
      return TO_BF16;
    }
    if (tensor.dtype() == DType.F32 && stored == DType.F16) {
      return TO_F16;
    }
    throw new IllegalArgumentException(
        "tensor %s is %s and cannot be stored as %s; only F32 is rounded"
            .formatted(FormatException.quote(tensor.name()), tensor.dtype(), stored));
  }

  /// Stored bytes for so many bytes in memory.
  long bytes(long inMemory) {
    return this == NONE ? inMemory : inMemory / Float.BYTES * Short.BYTES;
  }

  /// Rounds elements `[from, from + count)` of `in` into the beginning of `out`.
  void round(String name, MemorySegment in, long from, MemorySegment out, long count) {
    for (long i = 0; i < count; i++) {
      float value = in.get(FLOAT, (from + i) * Float.BYTES);
      short stored = this == TO_BF16 ? bf16(value) : Float.floatToFloat16(value);
      boolean infinite =
          this == TO_BF16 ? (stored & 0x7fff) == 0x7f80 : (stored & 0x7fff) == 0x7c00;
      if (infinite && Float.isFinite(value)) {
        throw new IllegalArgumentException(
            "tensor %s: element %d is %s, beyond what %s holds"
                .formatted(
                    FormatException.quote(name),
                    from + i,
                    value,
                    this == TO_BF16 ? "BF16" : "F16 (65504)"));
      }
      out.set(SHORT, i * Short.BYTES, stored);
    }
  }

  /// The nearest bfloat16.
  static short bf16(float value) {
    int bits = Float.floatToRawIntBits(value);
    if (Float.isNaN(value)) {
      return (short) (bits >>> 16 | 0x40); // the quiet bit keeps a NaN with a low payload a NaN
    }
    int lastKept = bits >>> 16 & 1;
    return (short) (bits + 0x7fff + lastKept >>> 16);
  }
}
