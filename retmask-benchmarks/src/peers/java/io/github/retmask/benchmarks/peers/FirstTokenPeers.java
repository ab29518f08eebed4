package io.github.retmask.benchmarks.peers;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/// From the start of a JVM to the first token after a prompt, with files in the page cache.
final class FirstTokenPeers implements PeerProgram {
  @Override
  public String name() {
    return "first-token";
  }

  @Override
  public Map<String, String> defaults() {
    return PeerProgram.withModel(
        Map.of(
            "dtypes", "F32",
            "engines", "retmask,llama.cpp,jlama",
            "prompt", "512",
            "rounds", "3"));
  }

  @Override
  public void run(PeerOptions options, PeerTable table) throws IOException {
    for (String dtype : options.list("dtypes")) {
      ModelFolder model =
          new ModelFolder(Path.of(options.text("folder")), options.text("shape"), dtype);
      model.write();
      List<String> args =
          List.of(
              Integer.toString(options.threads()), model.root().toString(), model.shape(), dtype);
      Map<String, List<Double>> seconds = new LinkedHashMap<>();
      Map<String, String> refused = new LinkedHashMap<>();
      String want = "";
      for (int round = 0; round <= options.number("rounds"); round++) { // the first one warms files
        for (String engine : GenerationPeers.readersOf(dtype, options.list("engines"))) {
          long begin = System.nanoTime();
          try (EngineProcess process = EngineProcess.start(Generation.WORK, engine, args)) {
            process.answer();
            String token = process.ask(options.text("prompt") + " 1")[2];
            double took = (System.nanoTime() - begin) / 1e9;
            want = engine.equals(PeerTable.RETMASK) ? token : want;
            if (!token.equals(want)) {
              refused.put(engine, "token %s, retmask %s".formatted(token, want));
            } else if (round > 0) {
              seconds.computeIfAbsent(engine, _ -> new ArrayList<>()).add(took);
            }
          } catch (IllegalStateException e) {
            refused.put(engine, e.getMessage());
          }
        }
      }
      seconds.keySet().removeAll(refused.keySet());
      Map<String, double[]> figures = new LinkedHashMap<>();
      seconds.forEach(
          (engine, all) ->
              figures.put(engine, all.stream().mapToDouble(Double::doubleValue).toArray()));
      Map<String, String> params = new TreeMap<>(Map.of("shape", model.shape(), "dtype", dtype));
      params.put("prompt", options.text("prompt"));
      table.add(name(), params, PeerTable.Unit.SECONDS, figures);
      table.refuse(dtype, refused);
    }
  }
}
