package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static jdk.incubator.vector.VectorOperators.B2I;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_B2I;

import io.github.retmask.tensor.DType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;

/// Decodes tensors of block types; what the bytes mean is said in [DType], and the layout of the
/// larger blocks in its reader of single elements, `BlockElement`. The values are the same to the bit,
/// since each is rounded once.
///
/// A block is decoded in parts that share bytes: 32 elements of Q8_0 and Q4_0, 64 of Q4_K, 128 of
/// Q6_K.
final class BlockTypes {
  private static final int LARGEST_PART = 128;

  private static final boolean IN_VECTORS = WIDTH >= 8;

  /// Slot of the scratch arrays that holds a part of which not all elements are wanted.
  static final int PART = 4;

  private BlockTypes() {}

  /// Decodes the elements `[first, first + count)` of a tensor.
  static void read(
      float[] to,
      int toAt,
      MemorySegment from,
      DType type,
      long first,
      int count,
      Scratch scratch) {
    int size = type.blockSize();
    long block = first / size;
    int blocks = (int) ((first + count + size - 1) / size - block);
    int length = blocks * type.blockBytes();
    byte[] bytes = scratch.bytes(length);
    MemorySegment.copy(from, ValueLayout.JAVA_BYTE, block * type.blockBytes(), bytes, 0, length);
    int part = part(type);
    int begin = (int) (first - block * size);
    int end = begin + count;
    for (int i = begin / part * part; i < end; i += part) {
      int at = i / size * type.blockBytes();
      int within = i % size;
      if (i >= begin && i + part <= end) {
        decode(to, toAt + i - begin, bytes, at, type, within);
      } else {
        float[] whole = scratch.floats(PART, LARGEST_PART);
        decode(whole, 0, bytes, at, type, within);
        int skipped = Math.max(0, begin - i);
        int kept = Math.min(part, end - i) - skipped;
        System.arraycopy(whole, skipped, to, toAt + i + skipped - begin, kept);
      }
    }
  }

  private static int part(DType type) {
    return switch (type) {
      case Q4_K -> 64;
      case Q6_K -> 128;
      default -> 32;
    };
  }

  /// Decodes a part of the block at byte `at`, from its element `within` on.
  private static void decode(float[] to, int toAt, byte[] bytes, int at, DType type, int within) {
    switch (type) {
      case Q8_0 -> q8(to, toAt, bytes, at);
      case Q4_0 -> q4(to, toAt, bytes, at);
      case Q4_K -> q4k(to, toAt, bytes, at, within / 64);
      case Q6_K -> q6k(to, toAt, bytes, at, within / 128);
      default -> throw new IllegalArgumentException(type + " is no block type");
    }
  }

  private static void q8(float[] to, int toAt, byte[] bytes, int at) {
    float d = half(bytes, at);
    if (!IN_VECTORS) {
      for (int i = 0; i < 32; i++) {
        to[toAt + i] = d * bytes[at + 2 + i];
      }
      return;
    }
    for (int i = 0; i < 32; i += WIDTH) {
      ((FloatVector)
              ((IntVector)
                      ByteVector.fromArray(Lanes.BYTES, bytes, at + 2 + i)
                          .convertShape(B2I, Lanes.INT, 0))
                  .convert(I2F, 0))
          .mul(d)
          .intoArray(to, toAt + i);
    }
  }

  private static void q4(float[] to, int toAt, byte[] bytes, int at) {
    float d = half(bytes, at);
    if (!IN_VECTORS) {
      for (int i = 0; i < 16; i++) {
        to[toAt + i] = d * ((bytes[at + 2 + i] & 15) - 8);
        to[toAt + 16 + i] = d * ((bytes[at + 2 + i] >> 4 & 15) - 8);
      }
      return;
    }
    for (int i = 0; i < 16; i += WIDTH) {
      IntVector both =
          (IntVector)
              ByteVector.fromArray(Lanes.BYTES, bytes, at + 2 + i)
                  .convertShape(ZERO_EXTEND_B2I, Lanes.INT, 0);
      ((FloatVector) both.and(15).sub(8).convert(I2F, 0)).mul(d).intoArray(to, toAt + i);
      ((FloatVector) both.lanewise(LSHR, 4).sub(8).convert(I2F, 0))
          .mul(d)
          .intoArray(to, toAt + 16 + i);
    }
  }

  /// Groups 2 `pair` and 2 `pair` + 1.
  private static void q4k(float[] to, int toAt, byte[] bytes, int at, int pair) {
    float d = half(bytes, at);
    float e = half(bytes, at + 2);
    int from = at + 16 + 32 * pair;
    float lowScale = d * scale(bytes, at, 2 * pair);
    float lowOffset = e * offset(bytes, at, 2 * pair);
    float highScale = d * scale(bytes, at, 2 * pair + 1);
    float highOffset = e * offset(bytes, at, 2 * pair + 1);
    if (!IN_VECTORS) {
      for (int i = 0; i < 32; i++) {
        to[toAt + i] = lowScale * (bytes[from + i] & 15) - lowOffset;
        to[toAt + 32 + i] = highScale * (bytes[from + i] >> 4 & 15) - highOffset;
      }
      return;
    }
    for (int i = 0; i < 32; i += WIDTH) {
      IntVector both =
          (IntVector)
              ByteVector.fromArray(Lanes.BYTES, bytes, from + i)
                  .convertShape(ZERO_EXTEND_B2I, Lanes.INT, 0);
      ((FloatVector) both.and(15).convert(I2F, 0))
          .mul(lowScale)
          .sub(lowOffset)
          .intoArray(to, toAt + i);
      ((FloatVector) both.lanewise(LSHR, 4).convert(I2F, 0))
          .mul(highScale)
          .sub(highOffset)
          .intoArray(to, toAt + 32 + i);
    }
  }

  private static int scale(byte[] bytes, int at, int group) {
    return group < 4
        ? bytes[at + 4 + group] & 63
        : bytes[at + 8 + group] & 15 | (bytes[at + group] >> 6 & 3) << 4;
  }

  private static int offset(byte[] bytes, int at, int group) {
    return group < 4
        ? bytes[at + 8 + group] & 63
        : bytes[at + 8 + group] >> 4 & 15 | (bytes[at + 4 + group] >> 6 & 3) << 4;
  }

  /// One half of the block.
  private static void q6k(float[] to, int toAt, byte[] bytes, int at, int half) {
    float d = half(bytes, at + 208);
    int low = at + 64 * half;
    int high = at + 128 + 32 * half;
    int scales = at + 192 + 8 * half;
    for (int g = 0; g < 2; g++) { // groups of 16 within a quarter
      int l = low + 16 * g;
      int h = high + 16 * g;
      int s = scales + g;
      int t = toAt + 16 * g;
      float s0 = d * bytes[s];
      float s1 = d * bytes[s + 2];
      float s2 = d * bytes[s + 4];
      float s3 = d * bytes[s + 6];
      if (!IN_VECTORS) {
        for (int i = 0; i < 16; i++) {
          int both = bytes[h + i];
          to[t + i] = s0 * ((bytes[l + i] & 15 | (both & 3) << 4) - 32);
          to[t + 32 + i] = s1 * ((bytes[l + 32 + i] & 15 | (both >> 2 & 3) << 4) - 32);
          to[t + 64 + i] = s2 * ((bytes[l + i] >> 4 & 15 | (both >> 4 & 3) << 4) - 32);
          to[t + 96 + i] = s3 * ((bytes[l + 32 + i] >> 4 & 15 | (both >> 6 & 3) << 4) - 32);
        }
        continue;
      }
      for (int i = 0; i < 16; i += WIDTH) {
        IntVector first =
            (IntVector)
                ByteVector.fromArray(Lanes.BYTES, bytes, l + i)
                    .convertShape(ZERO_EXTEND_B2I, Lanes.INT, 0);
        IntVector second =
            (IntVector)
                ByteVector.fromArray(Lanes.BYTES, bytes, l + 32 + i)
                    .convertShape(ZERO_EXTEND_B2I, Lanes.INT, 0);
        IntVector tops =
            (IntVector)
                ByteVector.fromArray(Lanes.BYTES, bytes, h + i)
                    .convertShape(ZERO_EXTEND_B2I, Lanes.INT, 0);
        IntVector q0 = first.and(15).or(tops.and(3).lanewise(LSHL, 4));
        IntVector q1 = second.and(15).or(tops.and(12).lanewise(LSHL, 2));
        IntVector q2 = first.lanewise(LSHR, 4).or(tops.and(48));
        IntVector q3 = second.lanewise(LSHR, 4).or(tops.and(192).lanewise(LSHR, 2));
        ((FloatVector) q0.sub(32).convert(I2F, 0)).mul(s0).intoArray(to, t + i);
        ((FloatVector) q1.sub(32).convert(I2F, 0)).mul(s1).intoArray(to, t + 32 + i);
        ((FloatVector) q2.sub(32).convert(I2F, 0)).mul(s2).intoArray(to, t + 64 + i);
        ((FloatVector) q3.sub(32).convert(I2F, 0)).mul(s3).intoArray(to, t + 96 + i);
      }
    }
  }

  private static float half(byte[] bytes, int at) {
    return Float.float16ToFloat((short) (bytes[at] & 255 | bytes[at + 1] << 8));
  }
}
