package io.github.retmask.kernels.cuda;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.KernelsContract;
import java.util.List;
import org.junit.jupiter.api.AfterEach;

/// The contract. On the emulated device every kernel runs in several orders of its threads, which must
/// give the same bits, and no kernel touches what is not a tensor's.
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
  void recover() {
    EmulatedGpu.recover();
  }
}
