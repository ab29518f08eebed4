package io.github.retmask.tensor;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// Rounds values to block types, as simply as the layouts allow: scales from the largest magnitude (or
/// from the range) of each group, no search for better ones.
public final class BlockQuantizer {
  private BlockQuantizer() {}

  /// Blocks that hold `values` as nearly as this type can.
  public static BlockBytes quantize(DType dtype, float[] values) {
    ByteBuffer to =
        ByteBuffer.allocate(Math.toIntExact(dtype.bytes(values.length)))
            .order(ByteOrder.LITTLE_ENDIAN);
    for (int at = 0; at < values.length; at += dtype.blockSize()) {
      switch (dtype) {
        case Q8_0 -> q8(to, values, at);
        case Q4_0 -> q4(to, values, at);
        case Q4_K -> q4k(to, values, at);
        case Q6_K -> q6k(to, values, at);
        default -> throw new IllegalArgumentException(dtype + " is no block type");
      }
    }
    return new BlockBytes(dtype, to.array());
  }

  /// Half a step of every value's group, and what rounding the scales to their own types adds: the
  /// most by which the stored value may differ.
  public static double[] bounds(DType dtype, float[] values) {
    int group = dtype == DType.Q6_K ? 16 : 32;
    double[] bounds = new double[values.length];
    for (int at = 0; at < values.length; at += dtype.blockSize()) {
      double most = 0; // of the block: scales of groups are rounded to parts of the largest
      for (int i = at; i < at + dtype.blockSize(); i++) {
        most = Math.max(most, Math.abs(values[i]));
      }
      for (int i = at; i < at + dtype.blockSize(); i++) {
        double largest = 0;
        for (int j = i / group * group; j < i / group * group + group; j++) {
          largest = Math.max(largest, Math.abs(values[j]));
        }
        bounds[i] =
            switch (dtype) {
              case Q8_0 -> largest / 127 / 2 + largest * 0x1p-11;
              case Q4_0 -> largest / 7 / 2 + largest * 0x1p-11;
              // range 2 largest in 15 steps; scale and offset are each half of 1/63 of the block's
              // off
              case Q4_K -> 2 * largest / 15 / 2 + (2 * most + most) / 63 / 2 + 3 * most * 0x1p-11;
              // 31 steps; the scale is half of 1/127 of the block's off
              case Q6_K -> largest / 31 / 2 + most / 127 / 2 + most * 0x1p-11 + most / 62 / 127;
              default -> throw new IllegalArgumentException(dtype + " is no block type");
            };
      }
    }
    return bounds;
  }

  private static float largest(float[] values, int at, int count) {
    float largest = 0;
    for (int i = at; i < at + count; i++) {
      largest = Math.max(largest, Math.abs(values[i]));
    }
    return largest;
  }

  private static float half(ByteBuffer to, float value) {
    short bits = Float.floatToFloat16(value);
    to.putShort(bits);
    return Float.float16ToFloat(bits);
  }

  private static int clamp(double value, int low, int high) {
    return (int) Math.clamp(Math.rint(value), low, high);
  }

  private static int steps(float value, float step, int low, int high) {
    return step == 0 ? clamp(0, low, high) : clamp((double) value / step, low, high);
  }

  private static void q8(ByteBuffer to, float[] values, int at) {
    float d = half(to, largest(values, at, 32) / 127);
    for (int i = 0; i < 32; i++) {
      to.put((byte) steps(values[at + i], d, -127, 127));
    }
  }

  private static void q4(ByteBuffer to, float[] values, int at) {
    float d = half(to, largest(values, at, 32) / 7);
    for (int i = 0; i < 16; i++) {
      int low = steps(values[at + i], d, -8, 7) + 8;
      int high = steps(values[at + 16 + i], d, -8, 7) + 8;
      to.put((byte) (low | high << 4));
    }
  }

  private static void q4k(ByteBuffer to, float[] values, int at) {
    float[] scales = new float[8];
    float[] offsets = new float[8];
    float largestScale = 0;
    float largestOffset = 0;
    for (int g = 0; g < 8; g++) {
      float low = 0;
      float high = 0;
      for (int i = at + 32 * g; i < at + 32 * g + 32; i++) {
        low = Math.min(low, values[i]);
        high = Math.max(high, values[i]);
      }
      scales[g] = (high - low) / 15;
      offsets[g] = -low;
      largestScale = Math.max(largestScale, scales[g]);
      largestOffset = Math.max(largestOffset, offsets[g]);
    }
    float d = half(to, largestScale / 63);
    float e = half(to, largestOffset / 63);
    int[] s = new int[8];
    int[] m = new int[8];
    for (int g = 0; g < 8; g++) {
      s[g] = steps(scales[g], d, 0, 63);
      m[g] = steps(offsets[g], e, 0, 63);
    }
    for (int g = 0; g < 4; g++) {
      to.put((byte) (s[g] | s[g + 4] / 16 << 6));
    }
    for (int g = 0; g < 4; g++) {
      to.put((byte) (m[g] | m[g + 4] / 16 << 6));
    }
    for (int g = 4; g < 8; g++) {
      to.put((byte) (s[g] % 16 | m[g] % 16 << 4));
    }
    for (int pair = 0; pair < 8; pair += 2) {
      for (int i = 0; i < 32; i++) {
        int low = steps(values[at + 32 * pair + i] + e * m[pair], d * s[pair], 0, 15);
        int high = steps(values[at + 32 * pair + 32 + i] + e * m[pair + 1], d * s[pair + 1], 0, 15);
        to.put((byte) (low | high << 4));
      }
    }
  }

  private static void q6k(ByteBuffer to, float[] values, int at) {
    float d = Float.float16ToFloat(Float.floatToFloat16(largest(values, at, 256) / 31 / 127));
    byte[] lows = new byte[128];
    byte[] highs = new byte[64];
    byte[] scales = new byte[16];
    for (int i = 0; i < 256; i++) {
      float scale = largest(values, at + i / 16 * 16, 16) / 31;
      scales[i / 16] = (byte) steps(scale, d, 0, 127);
      int q = steps(values[at + i], d * scales[i / 16], -32, 31) + 32;
      int inHalf = i % 128;
      lows[i / 128 * 64 + inHalf % 64] |= (byte) (q % 16 << (inHalf < 64 ? 0 : 4));
      highs[i / 128 * 32 + inHalf % 32] |= (byte) (q / 16 << inHalf / 32 * 2);
    }
    to.put(lows).put(highs).put(scales).putShort(Float.floatToFloat16(d));
  }
}
