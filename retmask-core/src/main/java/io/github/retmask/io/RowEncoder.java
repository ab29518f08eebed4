package io.github.retmask.io;

import io.github.retmask.tensor.DType;
import java.nio.ByteBuffer;

/// Rounds rows of F32 values to the type in which a weight is stored: the bytes of llama.cpp's
/// reference quantisation.
public final class RowEncoder {
  private RowEncoder() {}

  /// Appends a row to `to`, which is little-endian.
  ///
  /// @param row of whole blocks of the type
  /// @param what tensor and row, for messages
  /// @throws FormatException when a value is not finite, or beyond the type
  public static void encode(ByteBuffer to, float[] row, DType type, String what) {
    for (float value : row) {
      if (!Float.isFinite(value)) {
        throw new FormatException(
            "%s holds %s, which %s is not made for".formatted(what, value, type));
      }
    }
    switch (type) {
      case F32 -> {
        for (float value : row) {
          to.putFloat(value);
        }
      }
      case F16 -> {
        for (float value : row) {
          to.putShort(half(value, what));
        }
      }
      case BF16 -> {
        for (float value : row) {
          to.putShort(bfloat16(value, what));
        }
      }
      case Q8_0 -> {
        for (int at = 0; at < row.length; at += 32) {
          q8(to, row, at, what);
        }
      }
      case Q4_0 -> {
        for (int at = 0; at < row.length; at += 32) {
          q4(to, row, at, what);
        }
      }
      case I32, Q4_K, Q6_K -> throw new IllegalArgumentException(type + " is not written");
    }
  }

  private static short half(float value, String what) {
    short half = Float.floatToFloat16(value);
    if ((half & 0x7fff) == 0x7c00) {
      throw new FormatException(
          "%s holds %s, beyond what F16 holds (65504)".formatted(what, value));
    }
    return half;
  }

  /// To nearest, ties to even.
  private static short bfloat16(float value, String what) {
    int bits = Float.floatToRawIntBits(value);
    short upper = (short) (bits + 0x7fff + (bits >>> 16 & 1) >>> 16);
    if ((upper & 0x7fff) == 0x7f80) {
      throw new FormatException("%s holds %s, beyond what BF16 holds".formatted(what, value));
    }
    return upper;
  }

  /// 32 elements as `quantize_row_q8_0_ref` of ggml-quants.c rounds them: the largest magnitude is
  /// 127 steps, and halves go away from zero. The step is rounded to F16 only when stored.
  private static void q8(ByteBuffer to, float[] row, int at, String what) {
    float largest = 0;
    for (int i = 0; i < 32; i++) {
      largest = Math.max(largest, Math.abs(row[at + i]));
    }
    float step = largest / 127;
    float inverse = step == 0 ? 0 : 1 / step;
    to.putShort(half(step, what));
    for (int i = 0; i < 32; i++) {
      float steps = row[at + i] * inverse;
      to.put((byte) (steps < 0 ? -Math.round(-steps) : Math.round(steps)));
    }
  }

  /// 32 elements as `quantize_row_q4_0_ref` of ggml-quants.c rounds them: the largest magnitude, with
  /// its sign, is -8 steps. Bytes hold the low and the high half of the block.
  private static void q4(ByteBuffer to, float[] row, int at, String what) {
    float largest = 0;
    for (int i = 0; i < 32; i++) {
      largest = Math.abs(row[at + i]) > Math.abs(largest) ? row[at + i] : largest;
    }
    float step = largest / -8;
    float inverse = step == 0 ? 0 : 1 / step;
    to.putShort(half(step, what));
    for (int i = 0; i < 16; i++) {
      int low = Math.min(15, (int) (row[at + i] * inverse + 8.5f));
      int high = Math.min(15, (int) (row[at + 16 + i] * inverse + 8.5f));
      to.put((byte) (low | high << 4));
    }
  }
}
