package io.github.retmask.benchmarks.gpu;

import io.github.retmask.tensor.Tensor;
import java.util.Arrays;

/// Times work that a backend queues: repeats it until a round is long enough, waits once per round,
/// and takes the median of the rounds.
///
/// @param fence a tensor of the backend; reading it waits for all that was queued
/// @param roundSeconds least length of a round
/// @param rounds how many
record Stopwatch(Tensor fence, double roundSeconds, int rounds) implements GpuOps.Watch {

  @Override
  public double seconds(Runnable work) {
    work.run();
    double once = round(work, 1);
    int repeats = (int) Math.clamp(Math.ceil(roundSeconds / once), 1, 1000);
    double[] times = new double[rounds];
    for (int r = 0; r < rounds; r++) {
      times[r] = round(work, repeats) / repeats;
    }
    Arrays.sort(times);
    return times[rounds / 2];
  }

  private double round(Runnable work, int repeats) {
    long start = System.nanoTime();
    for (int i = 0; i < repeats; i++) {
      work.run();
    }
    fence.toFloats();
    return (System.nanoTime() - start) / 1e9;
  }
}
