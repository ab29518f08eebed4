package io.github.retmask.kernels.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

/// The emulated device itself.
class EmulatedGpuTest {
  @Test
  void saysWhatItIs() {
    CudaLibrary.load(EmulatedGpu.driver());
    try (CudaDriver driver = new CudaDriver(0)) {
      assertEquals("host emulation", driver.deviceName());
    }
  }
}
