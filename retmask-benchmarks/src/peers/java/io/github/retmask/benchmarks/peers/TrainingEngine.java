package io.github.retmask.benchmarks.peers;

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
    return (System.nanoTime() - begin) / 1e9 + " " + loss + " " + peakMib();
  }

  private static double peakMib() {
    try {
      for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
        if (line.startsWith("VmHWM:")) {
          return Long.parseLong(line.replaceAll("[^0-9]", "")) / 1024.0;
        }
      }
      throw new IllegalStateException("/proc/self/status has no VmHWM");
    } catch (IOException e) {
      throw new IllegalStateException("resident memory is known on Linux only", e);
    }
  }
}
