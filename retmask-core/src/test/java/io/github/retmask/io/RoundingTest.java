package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;
import org.junit.jupiter.api.Test;

class RoundingTest {
  private static float widened(int bf16) {
    return Float.intBitsToFloat(bf16 << 16);
  }

  /// Every bfloat16 value, and the points around the middle between it and its neighbour.
  @Test
  void bfloat16TakesTheNearestAndAtATieTheEvenOne() {
    for (int low = 0; low < 0x7f7f; low++) {
      int high = low + 1;
      int even = (low & 1) == 0 ? low : high;
      int middle = low << 16 | 0x8000;
      for (int sign : new int[] {0, 0x8000}) {
        assertThat(Rounding.bf16(widened(sign | low))).isEqualTo((short) (sign | low));
        int s = sign << 16;
        assertThat(Rounding.bf16(Float.intBitsToFloat(s | middle - 1)))
            .isEqualTo((short) (sign | low));
        assertThat(Rounding.bf16(Float.intBitsToFloat(s | middle)))
            .isEqualTo((short) (sign | even));
        assertThat(Rounding.bf16(Float.intBitsToFloat(s | middle + 1)))
            .isEqualTo((short) (sign | high));
      }
    }
  }

  @Test
  void bfloat16ErrorIsAtMostHalfAStep() {
    Random random = new Random(3);
    for (int i = 0; i < 100_000; i++) {
      float value = Float.intBitsToFloat(random.nextInt());
      if (!(Math.abs(value) <= 3e38f) || Math.abs(value) < Float.MIN_NORMAL) {
        continue;
      }
      float error = Math.abs(widened(Rounding.bf16(value)) - value);
      // 8 significant bits: half a unit in the last place is at most 2^-8 of the value.
      assertThat(error <= Math.scalb(Math.abs(value), -8)).isTrue();
    }
  }

  @Test
  void nanStaysNanAndInfinityStaysInfinite() {
    assertThat(widened(Rounding.bf16(Float.intBitsToFloat(0x7f800001)))).isNaN();
    assertThat(widened(Rounding.bf16(Float.intBitsToFloat(0xffffffff)))).isNaN();
    assertThat(widened(Rounding.bf16(Float.POSITIVE_INFINITY))).isInfinite();
    float[] special = {Float.NaN, Float.NEGATIVE_INFINITY, -0f};
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment in = arena.allocateFrom(ValueLayout.JAVA_FLOAT, special);
      MemorySegment out = arena.allocate(6, 2);
      Rounding.TO_F16.round("x", in, 0, out, 3);
      assertThat(Float.float16ToFloat(out.get(ValueLayout.JAVA_SHORT, 0))).isNaN();
      assertThat(Float.float16ToFloat(out.get(ValueLayout.JAVA_SHORT, 2)))
          .isEqualTo(Float.NEGATIVE_INFINITY);
      assertThat(out.get(ValueLayout.JAVA_SHORT, 4)).isEqualTo((short) 0x8000);
    }
  }

  @Test
  void finiteValueThatWouldBecomeInfiniteIsRefused() {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment in = arena.allocateFrom(ValueLayout.JAVA_FLOAT, 1f, Float.MAX_VALUE, 65519.9f);
      MemorySegment out = arena.allocate(6, 2);
      assertThatIllegalArgumentException()
          .isThrownBy(() -> Rounding.TO_BF16.round("x", in, 0, out, 2))
          .withMessage("tensor \"x\": element 1 is 3.4028235E38, beyond what BF16 holds");
      assertThatIllegalArgumentException()
          .isThrownBy(() -> Rounding.TO_F16.round("x", in, 1, out, 1))
          .withMessageContaining("element 1");
      Rounding.TO_F16.round("x", in, 2, out, 1);
      assertThat(Float.float16ToFloat(out.get(ValueLayout.JAVA_SHORT, 0))).isEqualTo(65504f);
    }
  }
}
