package io.github.retmask.kernels.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;

import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/// The emulated device itself.
class EmulatedGpuTest {
  @BeforeAll
  static void emulate() {
    EmulatedGpu.use();
  }

  @Test
  void saysWhatItIs() {
    assertNull(CudaLibrary.whyUnavailable());
    CudaLibrary.load();
    try (CudaDriver driver = new CudaDriver(0)) {
      assertEquals("host emulation", driver.deviceName());
    }
  }
}
