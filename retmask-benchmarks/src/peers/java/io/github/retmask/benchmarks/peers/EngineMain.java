package io.github.retmask.benchmarks.peers;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;

/// The JVM of one engine: answers lines of its input one by one, with a mark before each answer, since
/// engines print what they like. `EngineMain WORK ENGINE THREADS [MODEL SHAPE DTYPE]`.
final class EngineMain {
  static final String ANSWER = "> ";
  static final String READY = "ready";

  private EngineMain() {}

  static void main(String[] args) throws Exception {
    try {
      Engine engine = open(args);
      System.out.println(ANSWER + READY);
      BufferedReader in =
          new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
      for (String line = in.readLine(); line != null; line = in.readLine()) {
        System.out.println(ANSWER + engine.answer(line.split(" ")));
      }
    } catch (Throwable failure) {
      failure.printStackTrace();
    }
    System.out.flush();
    Runtime.getRuntime()
        .halt(0); // llama.cpp's thread stays attached: a normal exit would wait for it
  }

  private static Engine open(String[] args) throws Exception {
    String what = args[0] + " " + args[1];
    int threads = Integer.parseInt(args[2]);
    if (args[0].equals(Sgemm.WORK)) {
      return new SgemmEngine(
          switch (args[1]) {
            case "retmask" -> new RetmaskSgemm(threads);
            case "openblas" -> new OpenBlasSgemm(threads);
            case "libtorch" -> new TorchSgemm(threads);
            default -> throw new IllegalArgumentException(what);
          });
    }
    ModelFolder model = new ModelFolder(Path.of(args[3]), args[4], args[5]);
    return switch (what) {
      case "generation retmask" -> new GenerationEngine(new RetmaskGeneration(model, threads));
      case "generation llama.cpp" -> new GenerationEngine(new LlamaCppGeneration(model, threads));
      case "generation jlama" -> new GenerationEngine(new JlamaGeneration(model, threads));
      case "generation libtorch" -> new GenerationEngine(new TorchGeneration(model, threads));
      case "generation " + LimitGeneration.ENGINE ->
          new GenerationEngine(new LimitGeneration(model, threads));
      case "training retmask" -> new TrainingEngine(new RetmaskTraining(model, threads));
      case "training libtorch" -> new TrainingEngine(new TorchTraining(model, threads));
      case "ablation retmask" -> new AblationEngine(RetmaskAblation.together(model, threads));
      case "ablation retmask-separate" ->
          new AblationEngine(RetmaskAblation.oneByOne(model, threads));
      case "ablation libtorch" -> new AblationEngine(new TorchAblation(model, threads));
      default -> throw new IllegalArgumentException(what);
    };
  }
}
