package io.github.retmask.tensor;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Random;

/// Random blocks of a block type and what they mean, worked out in double and by a route of its own:
/// whole blocks, fields first, bits by division and remainder.
///
/// @param bytes the blocks
public record BlockBytes(DType dtype, byte[] bytes) {

  /// Blocks of so many elements. All integers occur; scales are of both signs, some are zero or
  /// subnormal.
  public static BlockBytes random(DType dtype, long seed, int elements) {
    Random random = new Random(seed);
    byte[] bytes = new byte[Math.toIntExact(dtype.bytes(elements))];
    random.nextBytes(bytes);
    ByteBuffer view = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    int[] halves =
        switch (dtype) {
          case Q4_K -> new int[] {0, 2};
          case Q6_K -> new int[] {208};
          default -> new int[] {0};
        };
    for (int at = 0; at < bytes.length; at += dtype.blockBytes()) {
      for (int half : halves) {
        float scale = (float) random.nextGaussian() / 64;
        scale = random.nextInt(8) == 0 ? scale * 0x1p-14f : random.nextInt(16) == 0 ? 0 : scale;
        view.putShort(at + half, Float.floatToFloat16(scale));
      }
    }
    return new BlockBytes(dtype, bytes);
  }

  /// The values of all elements, each rounded to F32 once.
  public float[] values() {
    int size = dtype.blockSize();
    float[] values = new float[bytes.length / dtype.blockBytes() * size];
    for (int block = 0; block < values.length / size; block++) {
      ByteBuffer fields =
          ByteBuffer.wrap(bytes, block * dtype.blockBytes(), dtype.blockBytes())
              .slice()
              .order(ByteOrder.LITTLE_ENDIAN);
      double[] decoded =
          switch (dtype) {
            case Q8_0 -> q8(fields);
            case Q4_0 -> q4(fields);
            case Q4_K -> q4k(fields);
            case Q6_K -> q6k(fields);
            default -> throw new IllegalArgumentException(dtype + " is no block type");
          };
      for (int i = 0; i < size; i++) {
        values[block * size + i] = (float) decoded[i];
      }
    }
    return values;
  }

  private static double half(ByteBuffer fields) {
    return Float.float16ToFloat(fields.getShort());
  }

  private static int[] unsigned(ByteBuffer fields, int count) {
    int[] bytes = new int[count];
    for (int i = 0; i < count; i++) {
      bytes[i] = (fields.get() + 256) % 256;
    }
    return bytes;
  }

  private static double[] q8(ByteBuffer fields) {
    double d = half(fields);
    double[] values = new double[32];
    for (int i = 0; i < 32; i++) {
      values[i] = d * fields.get();
    }
    return values;
  }

  private static double[] q4(ByteBuffer fields) {
    double d = half(fields);
    double[] values = new double[32];
    for (int i = 0; i < 16; i++) {
      int both = unsigned(fields, 1)[0];
      values[i] = d * (both % 16 - 8);
      values[i + 16] = d * (both / 16 - 8);
    }
    return values;
  }

  private static double[] q4k(ByteBuffer fields) {
    double d = half(fields);
    double e = half(fields);
    int[] first = unsigned(fields, 4); // scales 0 to 3, and two bits each of scales 4 to 7
    int[] second = unsigned(fields, 4); // the same for offsets
    int[] third = unsigned(fields, 4); // four bits each of scales and offsets 4 to 7
    double[] scales = new double[8];
    double[] offsets = new double[8];
    for (int g = 0; g < 4; g++) {
      scales[g] = first[g] % 64;
      offsets[g] = second[g] % 64;
      scales[g + 4] = first[g] / 64 * 16 + third[g] % 16;
      offsets[g + 4] = second[g] / 64 * 16 + third[g] / 16;
    }
    double[] values = new double[256];
    for (int pair = 0; pair < 4; pair++) {
      int[] both = unsigned(fields, 32);
      for (int i = 0; i < 32; i++) {
        int low = 2 * pair;
        values[32 * low + i] = d * scales[low] * (both[i] % 16) - e * offsets[low];
        values[32 * low + 32 + i] = d * scales[low + 1] * (both[i] / 16) - e * offsets[low + 1];
      }
    }
    return values;
  }

  private static double[] q6k(ByteBuffer fields) {
    int[] lows = unsigned(fields, 128);
    int[] highs = unsigned(fields, 64);
    byte[] scales = new byte[16];
    fields.get(scales);
    double d = half(fields);
    double[] values = new double[256];
    for (int i = 0; i < 256; i++) {
      // In each 128: elements l and l + 64 share the low bits' byte l, for l below 64; elements l,
      // l +
      // 32, l + 64 and l + 96 share the high bits' byte l, for l below 32.
      int inHalf = i % 128;
      int lowByte = lows[i / 128 * 64 + inHalf % 64];
      int low = inHalf < 64 ? lowByte % 16 : lowByte / 16;
      int high = highs[i / 128 * 32 + inHalf % 32] / (int) Math.pow(4, inHalf / 32) % 4;
      values[i] = d * scales[i / 16] * (16 * high + low - 32);
    }
    return values;
  }
}
