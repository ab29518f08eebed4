package io.github.retmask.benchmarks.peers;

import java.util.Arrays;

/// Retmask beside its peers. Every engine runs in a JVM of its own, proves that its result is the same
/// as retmask's, and then takes its turn with the others.
///
/// `PeerBenchmark PROGRAM [--OPTION VALUE]...`; without a program it lists them. `--json FILE` also
/// writes the figures.
public final class PeerBenchmark {
  private PeerBenchmark() {}

  static void main(String[] args) throws Exception {
    PeerProgram program =
        Arrays.stream(PeerProgram.ALL)
            .filter(p -> args.length > 0 && p.name().equals(args[0]))
            .findFirst()
            .orElse(null);
    if (program == null) {
      for (PeerProgram p : PeerProgram.ALL) {
        System.err.println(p.name() + " " + p.defaults());
      }
      System.exit(2);
      return;
    }
    try {
      PeerOptions options = PeerOptions.parse(args, 1, program.defaults());
      PeerTable table = new PeerTable("PeerBenchmark", System.out);
      program.run(options, table);
      table.write(options.text("json"));
    } catch (IllegalArgumentException e) {
      System.err.println(e.getMessage());
      System.exit(2);
    }
  }
}
