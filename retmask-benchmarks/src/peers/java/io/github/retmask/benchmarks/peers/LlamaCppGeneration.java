package io.github.retmask.benchmarks.peers;

import de.kherud.llama.InferenceParameters;
import de.kherud.llama.LlamaModel;
import de.kherud.llama.LlamaOutput;
import de.kherud.llama.ModelParameters;
import de.kherud.llama.args.LogFormat;
import de.kherud.llama.args.Sampler;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/// llama.cpp through java-llama.cpp, which takes and gives texts.
final class LlamaCppGeneration implements Generation {
  private static final int CONTEXT = 8192;
  private static final int BATCH = 512;
  private static final int UNKNOWN = -1;

  private final LlamaModel model;
  private final Map<String, Integer> idOfText = new HashMap<>();

  LlamaCppGeneration(ModelFolder folder, int threads) {
    LlamaModel.setLogger(LogFormat.TEXT, (_, _) -> {});
    model =
        new LlamaModel(
            new ModelParameters()
                .setModel(folder.gguf().toString())
                .setThreads(threads)
                .setThreadsBatch(threads)
                .setCtxSize(CONTEXT)
                .setBatchSize(BATCH)
                .setUbatchSize(BATCH)
                .setGpuLayers(0)
                .setParallel(1)
                .skipWarmup()
                .disableContextShift());
    List<String> tokens = folder.model().tokens();
    for (int id = 0; id < tokens.size(); id++) {
      idOfText.put(tokens.get(id), id);
    }
  }

  @Override
  public Result generate(int prompt, int tokens) {
    String text = Prompts.text(prompt);
    if (!Arrays.equals(model.encode(text), Prompts.ids(prompt))) {
      throw new IllegalStateException("llama.cpp cuts the prompt into other tokens");
    }
    InferenceParameters greedy =
        new InferenceParameters(text)
            .setTemperature(0f)
            .setTopK(1)
            .setSamplers(Sampler.TOP_K)
            .setRepeatPenalty(1f)
            .setNPredict(tokens)
            .setIgnoreEos(true)
            .setCachePrompt(false);
    int[] ids = new int[tokens];
    int count = 0;
    long first = 0;
    long begin = System.nanoTime();
    for (LlamaOutput output : model.generate(greedy)) {
      if (count == 0) {
        first = System.nanoTime();
      }
      if (count < tokens) { // an empty text may follow
        ids[count++] = idOfText.getOrDefault(output.text, UNKNOWN);
      }
    }
    long end = System.nanoTime();
    return new Result((first - begin) / 1e9, (end - first) / 1e9, Arrays.copyOf(ids, count));
  }
}
