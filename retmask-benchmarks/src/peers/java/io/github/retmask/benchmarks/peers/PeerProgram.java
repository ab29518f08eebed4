package io.github.retmask.benchmarks.peers;

import java.io.IOException;
import java.util.Map;
import java.util.TreeMap;

/// One kind of work to compare engines on.
interface PeerProgram {
  PeerProgram[] ALL = {
    new SgemmPeers(),
    new GenerationPeers(),
    new TrainingPeers(),
    new AblationPeers(),
    new FirstTokenPeers()
  };

  /// C 1024, 8 layers of 16 heads with 4 for keys and values, F 2816, V 32000: 155.7M parameters.
  String SHAPE = "8x1024x16x4x2816x32000";

  String name();

  /// Options and their defaults.
  Map<String, String> defaults();

  /// Runs and reports.
  void run(PeerOptions options, PeerTable table) throws IOException, InterruptedException;

  /// These defaults and those of every program.
  static Map<String, String> with(Map<String, String> own) {
    Map<String, String> all = new TreeMap<>(own);
    all.put("threads", "0");
    all.put("json", "");
    return all;
  }

  /// These defaults and those of every program that runs a model.
  static Map<String, String> withModel(Map<String, String> own) {
    Map<String, String> all = with(own);
    all.put("shape", SHAPE);
    all.put("folder", System.getProperty("java.io.tmpdir") + "/retmask-peers");
    return all;
  }
}
