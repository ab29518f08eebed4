package io.github.retmask.benchmarks.peers;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/// Training steps on one sequence: speed and the most memory that was resident.
final class TrainingPeers implements PeerProgram {
  private static final int WARM_UPS = 2;

  /// Relative difference of the losses, which come from other orders of the same sums.
  private static final double TOLERANCE = 1e-3;

  @Override
  public String name() {
    return Training.WORK;
  }

  @Override
  public Map<String, String> defaults() {
    return PeerProgram.withModel(
        Map.of("engines", "retmask,libtorch", "tokens", "512", "rounds", "3"));
  }

  @Override
  public void run(PeerOptions options, PeerTable table) throws IOException, InterruptedException {
    ModelFolder model =
        new ModelFolder(Path.of(options.text("folder")), options.text("shape"), "F32");
    model.write();
    int tokens = options.number("tokens");
    List<String> args =
        List.of(Integer.toString(options.threads()), model.root().toString(), model.shape(), "F32");
    try (Contest contest = new Contest(Training.WORK, options.list("engines"), args)) {
      String request = Integer.toString(tokens);
      Map<String, List<String[]>> first = contest.rounds(request, WARM_UPS);
      List<String[]> ours = contest.retmask(first);
      first.forEach((engine, said) -> prove(contest, engine, said, ours));
      Map<String, List<String[]>> answers = contest.rounds(request, options.number("rounds"));
      Map<String, String> params = new TreeMap<>(Map.of("shape", model.shape(), "tokens", request));
      table.add(
          "training",
          params,
          PeerTable.Unit.TOKENS,
          PeerTable.figures(answers, said -> tokens / Double.parseDouble(said[0])));
      table.add(
          "training-peak",
          params,
          PeerTable.Unit.MIB,
          PeerTable.figures(answers, said -> Double.parseDouble(said[2])));
      table.refuse(name(), contest.broken());
    }
  }

  /// The same losses before the first update and after it.
  private static void prove(
      Contest contest, String engine, List<String[]> said, List<String[]> ours) {
    for (int i = 0; i < said.size(); i++) {
      double got = Double.parseDouble(said.get(i)[1]);
      double want = Double.parseDouble(ours.get(i)[1]);
      if (!(Math.abs(got - want) <= TOLERANCE * want)) {
        contest.remove(engine, "loss %s in step %d, retmask %s".formatted(got, i + 1, want));
        return;
      }
    }
  }
}
