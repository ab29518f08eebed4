package io.github.retmask.tensor;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

class FreeMemoryTest {
  @Test
  void freeMemoryOfThisMachineIsPlausible() {
    assertThat(FreeMemory.bytes()).isBetween(1L << 20, 1L << 50);
    assertThat(FreeMemory.text(3L << 29)).isEqualTo("1.5 GiB");
  }
}
