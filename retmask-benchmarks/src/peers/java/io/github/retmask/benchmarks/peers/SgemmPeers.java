package io.github.retmask.benchmarks.peers;

import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// Matrix products of sizes MxKxN, in several starts of all JVMs: a kernel may be compiled well in
/// one and badly in another. The table shows every start, then the medians of
/// all, whose minimum is the worst start.
final class SgemmPeers implements PeerProgram {
  private static final double SECONDS = 0.3; // about, of one measurement
  private static final double USUAL_FLOPS = 1e11;
  private static final int WARM_UPS = 5;

  @Override
  public String name() {
    return Sgemm.WORK;
  }

  @Override
  public Map<String, String> defaults() {
    return PeerProgram.with(
        Map.of(
            "sizes", "1024x1024x1024,512x4096x4096,4096x4096x512",
            "engines", "retmask,openblas,libtorch",
            "starts", "1",
            "rounds", "10"));
  }

  @Override
  public void run(PeerOptions options, PeerTable table) throws IOException, InterruptedException {
    int starts = options.number("starts");
    Map<String, Map<String, List<Double>>> medians = new LinkedHashMap<>(); // by size
    for (int start = 0; start < starts; start++) {
      List<String> args = List.of(Integer.toString(options.threads()));
      try (Contest contest = new Contest(Sgemm.WORK, options.list("engines"), args)) {
        for (String size : options.list("sizes")) {
          Map<String, double[]> figures = measure(contest, size, options.number("rounds"));
          String title = starts == 1 ? name() : name() + "-start-" + (start + 1);
          table.add(title, Map.of("size", size), PeerTable.Unit.GFLOPS, figures);
          figures.forEach(
              (engine, values) ->
                  medians
                      .computeIfAbsent(size, _ -> new LinkedHashMap<>())
                      .computeIfAbsent(engine, _ -> new ArrayList<>())
                      .add(PeerTable.median(values)));
        }
        table.refuse(name(), contest.broken());
      }
    }
    if (starts > 1) {
      medians.forEach(
          (size, byEngine) -> {
            Map<String, double[]> figures = new LinkedHashMap<>();
            byEngine.forEach(
                (engine, all) ->
                    figures.put(engine, all.stream().mapToDouble(Double::doubleValue).toArray()));
            table.add(
                name() + "-medians-of-starts",
                Map.of("size", size),
                PeerTable.Unit.GFLOPS,
                figures);
          });
    }
  }

  private static Map<String, double[]> measure(Contest contest, String size, int rounds)
      throws InterruptedException {
    int[] n = PeerOptions.numbers(size);
    double flops = 2.0 * n[0] * n[1] * n[2];
    int calls = (int) Math.max(1, SECONDS * USUAL_FLOPS / flops);
    String request = size + " " + calls;
    contest.rounds(request, WARM_UPS).forEach((engine, said) -> prove(contest, engine, said, n));
    return PeerTable.figures(
        contest.rounds(request, rounds), said -> flops / Double.parseDouble(said[0]) / 1e9);
  }

  /// Compares some elements with sums in double: K products of values up to 1, each rounded.
  private static void prove(Contest contest, String engine, List<String[]> said, int[] n) {
    float[] x = SgemmEngine.operand(1, n[0] * n[1]);
    float[] w = SgemmEngine.operand(2, n[2] * n[1]);
    for (int i = 0; i < SgemmEngine.PROBES; i++) {
      int[] at = SgemmEngine.probe(i, n[0], n[2]);
      double want = 0;
      for (int k = 0; k < n[1]; k++) {
        want += (double) x[at[0] * n[1] + k] * w[at[1] * n[1] + k];
      }
      double got = Double.parseDouble(said.getLast()[1 + i]);
      double tolerance = 0x1p-24 * n[1];
      if (!(Math.abs(got - want) <= tolerance)) {
        contest.remove(engine, "%s at %d,%d, want %s".formatted(got, at[0], at[1], want));
        return;
      }
    }
  }
}
