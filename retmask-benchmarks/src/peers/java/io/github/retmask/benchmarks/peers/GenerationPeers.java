package io.github.retmask.benchmarks.peers;

import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/// Reading a prompt and generating after it, by type of the weights.
final class GenerationPeers implements PeerProgram {
  private static final int WARM_UPS = 2;

  @Override
  public String name() {
    return Generation.WORK;
  }

  @Override
  public Map<String, String> defaults() {
    return PeerProgram.withModel(
        Map.of(
            "dtypes", "F32,BF16,Q8_0",
            "engines", "retmask,llama.cpp,jlama,libtorch," + LimitGeneration.ENGINE,
            "prompt", "512",
            "decode", "64",
            "proof", "8",
            "rounds", "5"));
  }

  @Override
  public void run(PeerOptions options, PeerTable table) throws IOException, InterruptedException {
    int prompt = options.number("prompt");
    int decode = options.number("decode");
    for (String dtype : options.list("dtypes")) {
      ModelFolder model =
          new ModelFolder(Path.of(options.text("folder")), options.text("shape"), dtype);
      model.write();
      try (Contest contest =
          new Contest(
              Generation.WORK,
              readersOf(dtype, options.list("engines")),
              List.of(
                  Integer.toString(options.threads()),
                  model.root().toString(),
                  model.shape(),
                  dtype))) {
        String request = prompt + " " + (decode + 1); // the first token is the prompt's
        proveTokens(contest, contest.rounds(request, WARM_UPS), 2, options.number("proof"));
        Map<String, List<String[]>> answers = contest.rounds(request, options.number("rounds"));
        Map<String, String> params = new TreeMap<>(Map.of("shape", model.shape(), "dtype", dtype));
        params.put("prompt", Integer.toString(prompt));
        table.add(
            "prefill",
            params,
            PeerTable.Unit.TOKENS,
            PeerTable.figures(answers, said -> prompt / Double.parseDouble(said[0])));
        params.put("decode", Integer.toString(decode));
        table.add(
            "decode",
            params,
            PeerTable.Unit.TOKENS,
            PeerTable.figures(answers, said -> decode / Double.parseDouble(said[1])));
        table.refuse(dtype, contest.broken());
      }
    }
  }

  /// The engines that read a type: Q8_0 is GGUF's, which two of them read.
  static List<String> readersOf(String dtype, List<String> engines) {
    List<String> readers = new ArrayList<>(engines);
    if (dtype.equals("Q8_0")) {
      readers.removeAll(List.of("jlama", "libtorch"));
    }
    return readers;
  }

  /// Leaves out engines whose first tokens are others than retmask's. [LimitGeneration] yields none.
  ///
  /// @param skip words of the answers before the tokens
  /// @param tokens how many must agree
  static void proveTokens(
      Contest contest, Map<String, List<String[]>> answers, int skip, int tokens) {
    String[] ours = contest.retmask(answers).getLast();
    String[] want = Arrays.copyOfRange(ours, skip, Math.min(ours.length, skip + tokens));
    answers.forEach(
        (engine, rounds) -> {
          if (engine.equals(LimitGeneration.ENGINE)) {
            return;
          }
          for (String[] said : rounds) {
            String[] got = Arrays.copyOfRange(said, skip, Math.min(said.length, skip + tokens));
            if (!Arrays.equals(got, want)) {
              contest.remove(
                  engine,
                  "tokens %s, retmask %s".formatted(Arrays.toString(got), Arrays.toString(want)));
              return;
            }
          }
        });
  }
}
