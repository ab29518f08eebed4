package io.github.retmask.benchmarks.peers;

import java.util.Arrays;
import java.util.stream.Collectors;

/// Asked for `PROMPT HEAD HEAD ...`; answers the seconds of the sweep and the tokens.
record AblationEngine(Ablation ablation) implements Engine {
  @Override
  public String answer(String[] request) {
    int[] heads = Arrays.stream(request).skip(1).mapToInt(Integer::parseInt).toArray();
    long begin = System.nanoTime();
    int[] ids = ablation.sweep(Integer.parseInt(request[0]), heads);
    double seconds = (System.nanoTime() - begin) / 1e9;
    return seconds
        + " "
        + Arrays.stream(ids).mapToObj(Integer::toString).collect(Collectors.joining(" "));
  }
}
