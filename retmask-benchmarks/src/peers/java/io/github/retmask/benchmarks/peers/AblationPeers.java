package io.github.retmask.benchmarks.peers;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/// A sweep over heads, each off once; spread over all layers where not all heads are taken.
final class AblationPeers implements PeerProgram {
  @Override
  public String name() {
    return Ablation.WORK;
  }

  @Override
  public Map<String, String> defaults() {
    return PeerProgram.withModel(
        Map.of(
            "engines", "retmask,retmask-separate,libtorch",
            "prompt", "512",
            "masks", "8",
            "rounds", "3"));
  }

  @Override
  public void run(PeerOptions options, PeerTable table) throws IOException, InterruptedException {
    ModelFolder model =
        new ModelFolder(Path.of(options.text("folder")), options.text("shape"), "F32");
    model.write();
    int masks = options.number("masks");
    int all = model.model().layers() * model.model().heads();
    if (masks < 1 || masks > all) {
      throw new IllegalArgumentException("masks " + masks + ": want 1 to " + all);
    }
    String heads =
        IntStream.range(0, masks)
            .mapToObj(i -> Integer.toString((int) ((long) i * all / masks)))
            .collect(Collectors.joining(" "));
    List<String> args =
        List.of(Integer.toString(options.threads()), model.root().toString(), model.shape(), "F32");
    try (Contest contest = new Contest(Ablation.WORK, options.list("engines"), args)) {
      String request = options.text("prompt") + " " + heads;
      GenerationPeers.proveTokens(contest, contest.rounds(request, 1), 1, masks);
      Map<String, String> params = new TreeMap<>(Map.of("shape", model.shape()));
      params.put("prompt", options.text("prompt"));
      params.put("masks", options.text("masks"));
      table.add(
          name(),
          params,
          PeerTable.Unit.SECONDS_PER_MASK,
          PeerTable.figures(
              contest.rounds(request, options.number("rounds")),
              said -> Double.parseDouble(said[0]) / masks));
      table.refuse(name(), contest.broken());
    }
  }
}
