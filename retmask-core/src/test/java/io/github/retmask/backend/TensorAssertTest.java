package io.github.retmask.backend;

import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.junit.jupiter.api.Test;

class TensorAssertTest {
  private static final double[] TOLERANCE = {0.1, 0.1, 0.1, 0.1};

  private static void close(double[] want, float... got) {
    TensorAssert.assertThat("op out", got, 2, 2).isClose(want, TOLERANCE, "a test");
  }

  @Test
  void namesTheWorstElement() {
    assertThatThrownBy(() -> close(new double[] {1, 2, 3, 4}, 1, 2.25f, 3.5f, 4))
        .isInstanceOf(AssertionError.class)
        .hasMessage(
            "op out [2, 2]: 2 of 4 elements wrong, worst at [1, 0]: want 3.0, got 3.5, "
                + "|diff| 0.500 > tolerance 0.100 (a test)");
  }

  @Test
  void nanIsNeverClose() {
    assertThatThrownBy(() -> close(new double[] {1, 2, 3, 4}, 1, Float.NaN, 3, 4))
        .hasMessageContaining("worst at [0, 1]: want 2.0, got NaN");
    assertThatThrownBy(() -> close(new double[] {1, Double.NaN, 3, 4}, 1, 2, 3, 4))
        .hasMessageContaining("want NaN, got 2.0");
    assertThatThrownBy(() -> close(new double[] {1, 2, 3, 4}, 1, Float.NEGATIVE_INFINITY, 3, 4))
        .hasMessageContaining("got -Infinity");
    assertThatThrownBy(
            () -> close(new double[] {1, Double.POSITIVE_INFINITY, 3, 4}, 1, Float.MAX_VALUE, 3, 4))
        .hasMessageContaining("want Infinity");
  }

  @Test
  void nanAndInfinityMatchThemselves() {
    double infinity = Double.NEGATIVE_INFINITY;
    assertThatCode(
            () ->
                close(new double[] {Double.NaN, infinity, 0, 1}, Float.NaN, (float) infinity, 0, 1))
        .doesNotThrowAnyException();
  }

  @Test
  void bitsTellZerosApart() {
    assertThatThrownBy(() -> TensorAssert.assertThat("op out", new float[] {1, -0f}).hasBits(1, 0))
        .hasMessage(
            "op out [2]: 1 of 2 elements wrong, worst at [1]: want 0.0, got -0.0"
                + " (bits 80000000, want 00000000)");
    assertThatCode(
            () ->
                TensorAssert.assertThat("op out", new float[] {Float.intBitsToFloat(0x7fc00001)})
                    .hasBits(Float.NaN))
        .doesNotThrowAnyException();
  }

  @Test
  void refusesAnotherLength() {
    assertThatThrownBy(() -> TensorAssert.assertThat("op out", new float[2]).hasBits(1))
        .hasMessage("op out: 2 values, want 1");
    assertThatThrownBy(() -> TensorAssert.assertThat("op out", new float[3], 2, 2))
        .hasMessage("op out: 3 values, shape [2, 2]");
  }
}
