package io.github.retmask.benchmarks.peers;

import io.github.retmask.benchmarks.MemoryReport;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/// Asked for `TOKENS`; answers the seconds of a step, the loss, and the most memory in MiB that was
/// resident since the weights were there.
final class TrainingEngine implements Engine {
  private final Training training;

  TrainingEngine(Training training) throws IOException {
    this.training = training;
    Files.writeString(Path.of("/proc/self/clear_refs"), "5"); // the peak counts from here
  }

  @Override
  public String answer(String[] request) {
    long begin = System.nanoTime();
    double loss = training.step(Integer.parseInt(request[0]));
    return (System.nanoTime() - begin) / 1e9
        + " "
        + loss
        + " "
        + MemoryReport.status("VmHWM:") / 0x1p20;
  }
}
