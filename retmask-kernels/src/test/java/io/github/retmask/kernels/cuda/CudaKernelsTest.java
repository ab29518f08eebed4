package io.github.retmask.kernels.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.KernelsContract;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class CudaKernelsTest extends KernelsContract {

  @Override
  protected Kernels open(int threads) {
    return TestGpu.open(threads);
  }

  @Override
  protected List<String> freshJvmOptions() {
    return TestGpu.isReal()
        ? List.of()
        : List.of("-D" + CudaLibrary.DRIVER_PROPERTY + "=" + EmulatedGpu.driver());
  }

  @AfterEach
  void asUsual() {
    EmulatedGpu.schedule(EmulatedGpu.Order.ASCENDING, EmulatedGpu.Copies.LATE);
  }

  /// What depends on them races.
  @Test
  void everyOrderOfThreadsAndCopiesGivesTheSameBits() {
    List<String> want = bits();
    for (EmulatedGpu.Order order : EmulatedGpu.Order.values()) {
      for (EmulatedGpu.Copies copies : EmulatedGpu.Copies.values()) {
        EmulatedGpu.schedule(order, copies);
        assertThat(bits()).as("%s, copies %s", order, copies).isEqualTo(want);
      }
    }
  }
}
