package io.github.retmask.benchmarks.peers;

import java.util.Arrays;
import java.util.stream.Collectors;

/// Asked for `PROMPT TOKENS`; answers the seconds until the first token, those from there to the last,
/// and the ids.
record GenerationEngine(Generation generation) implements Engine {
  @Override
  public String answer(String[] request) {
    Generation.Result r =
        generation.generate(Integer.parseInt(request[0]), Integer.parseInt(request[1]));
    return r.first()
        + " "
        + r.rest()
        + " "
        + Arrays.stream(r.ids()).mapToObj(Integer::toString).collect(Collectors.joining(" "));
  }
}
