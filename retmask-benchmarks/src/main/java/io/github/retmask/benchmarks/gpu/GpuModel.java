package io.github.retmask.benchmarks.gpu;

import com.fasterxml.jackson.databind.json.JsonMapper;
import io.github.retmask.backend.Ops;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.Batch;
import io.github.retmask.model.KvCache;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.model.TokenStates;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.model.arch.Architecture;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import io.github.retmask.train.AdamW;
import io.github.retmask.train.CrossEntropyLoss;
import io.github.retmask.train.Example;
import io.github.retmask.train.GradientCheckpointing;
import io.github.retmask.train.LabelledBatch;
import io.github.retmask.train.LogProbs;
import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/// A whole Llama of random weights: seconds of a prefill, of a decoding step of one row and of twins
/// (one intact, one with a quarter of the heads off), and of a training step.
///
/// @param name of the shape
/// @param layers L
/// @param hidden C
/// @param heads H
/// @param kvHeads Hkv
/// @param intermediate F
/// @param vocab V
/// @param tied whether the LM head is the embedding
/// @param prompt tokens of the prefill
/// @param steps decoding steps that are timed
record GpuModel(
    String name,
    int layers,
    int hidden,
    int heads,
    int kvHeads,
    int intermediate,
    int vocab,
    boolean tied,
    int prompt,
    int steps) {

  static final GpuModel LLAMA_1B =
      new GpuModel("llama-1b", 16, 2048, 32, 8, 8192, 128_256, true, 8192, 64);
  static final GpuModel LLAMA_8B =
      new GpuModel("llama-8b", 32, 4096, 32, 8, 14_336, 128_256, false, 8192, 64);

  /// Small enough for an emulated GPU.
  static final GpuModel TINY = new GpuModel("tiny", 2, 64, 4, 2, 96, 200, true, 24, 2);

  /// Sizes in a form that the peer reads.
  Map<String, Object> json() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("name", name);
    json.put("layers", layers);
    json.put("hidden", hidden);
    json.put("heads", heads);
    json.put("kv_heads", kvHeads);
    json.put("intermediate", intermediate);
    json.put("vocab", vocab);
    json.put("tied", tied);
    json.put("prompt", prompt);
    json.put("steps", steps);
    return json;
  }

  private ConfigReader config() throws IOException {
    return new ConfigReader(
        new JsonMapper()
            .readTree(
                """
                {"model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5,
                 "rope_theta": 500000.0, "hidden_size": %d, "num_hidden_layers": %d,
                 "num_attention_heads": %d, "num_key_value_heads": %d, "intermediate_size": %d,
                 "vocab_size": %d, "max_position_embeddings": %d, "tie_word_embeddings": %b}
                """
                    .formatted(
                        hidden,
                        layers,
                        heads,
                        kvHeads,
                        intermediate,
                        vocab,
                        prompt + steps + 2,
                        tied)),
        name);
  }

  private interface Use {
    void of(Transformer model, Weights weights, TensorArena memory) throws IOException;
  }

  private void with(Ops ops, DType type, Use use) throws IOException {
    RandomTensors random = new RandomTensors(ops);
    ConfigReader json = config();
    Architecture architecture = Architecture.of(json);
    ModelConfig config = architecture.config(json);
    try (TensorArena memory = ops.arena(TensorArena.Lifetime.MODEL)) {
      Weights weights =
          architecture.weights(
              config, json, (tensor, dims) -> random.normal(memory, tensor, 0.02, type, dims));
      try (Transformer model = new Transformer(config, weights, ops)) {
        use.of(model, weights, memory);
      }
    }
  }

  /// Seconds of `prefill`, `decode` and `twin_decode`, the latter two of one step.
  Map<String, Double> generate(Ops ops, DType type) throws IOException {
    Map<String, Double> seconds = new LinkedHashMap<>();
    with(
        ops,
        type,
        (model, _, _) -> {
          List<HeadId> off = new ArrayList<>();
          for (int l = 0; l < layers; l++) {
            for (int h = 0; h < heads; h += 4) {
              off.add(new HeadId(l, h));
            }
          }
          HeadMask intact = model.noMask();
          HeadMask masked = HeadMask.off(layers, heads, off);
          generate(model, List.of(intact), seconds, "prefill", "decode");
          generate(model, List.of(intact, masked), seconds, "twin_prefill", "twin_decode");
        });
    return seconds;
  }

  private void generate(
      Transformer model,
      List<HeadMask> masks,
      Map<String, Double> seconds,
      String prefill,
      String decode) {
    int[] ids = new Random(1).ints(prompt, 0, vocab).toArray();
    try (KvCache cache = new KvCache(model, masks.size(), prompt + steps + 2);
        TensorArena step = model.ops().arena(TensorArena.Lifetime.STEP)) {
      int[] next = new int[masks.size()];
      for (int round = 0; round < 2; round++) { // the first one warms up
        for (int r = 0; r < masks.size(); r++) {
          cache.clear(r);
          next[r] = -1;
        }
        long start = System.nanoTime();
        step(model, cache, masks, ids, next, step, Batch.Phase.PREFILL);
        seconds.put(prefill, (System.nanoTime() - start) / 1e9);
        step(model, cache, masks, null, next, step, Batch.Phase.DECODE);
        start = System.nanoTime();
        for (int i = 0; i < steps; i++) {
          step(model, cache, masks, null, next, step, Batch.Phase.DECODE);
        }
        seconds.put(decode, (System.nanoTime() - start) / 1e9 / steps);
      }
    }
  }

  /// One forward and its greedy choice.
  private void step(
      Transformer model,
      KvCache cache,
      List<HeadMask> masks,
      int @org.jspecify.annotations.Nullable [] ids,
      int[] next,
      TensorArena step,
      Batch.Phase phase) {
    step.reset();
    List<Batch.Row> rows = new ArrayList<>();
    int[] last = new int[masks.size()];
    int tokens = 0;
    for (int r = 0; r < masks.size(); r++) {
      int[] own = ids != null ? ids : new int[] {next[r]};
      rows.add(new Batch.Row(r, own, masks.get(r), phase, ids != null ? ids.length : 0));
      tokens += own.length;
      last[r] = tokens - 1;
    }
    TokenStates states = model.states(new Batch(rows), cache, ReadoutRequest.NONE, step, last);
    Tensor logits = model.logits(states.hidden(), step).toHost(); // [B,V]
    for (int r = 0; r < masks.size(); r++) {
      float[] values = logits.slice(r, r + 1).toFloats();
      int best = 0;
      for (int i = 1; i < values.length; i++) {
        best = values[i] > values[best] ? i : best;
      }
      next[r] = best;
    }
  }

  /// Seconds of a training step in F32 over one row of `tokens` tokens.
  Map<String, Double> train(Ops ops, int tokens) throws IOException {
    Map<String, Double> seconds = new LinkedHashMap<>();
    with(
        ops,
        DType.F32,
        (model, weights, memory) -> {
          AdamW optimizer = new AdamW(weights, AdamW.Options.RETMASK, ops, memory);
          int[] ids = new Random(2).ints(tokens + 1, 0, vocab).toArray();
          LabelledBatch batch = LabelledBatch.of(List.of(Example.of(ids)), model.noMask());
          CrossEntropyLoss loss = CrossEntropyLoss.over(batch);
          try (TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
            for (int s = 1; s <= 3; s++) {
              step.reset();
              long start = System.nanoTime();
              LogProbs.gradients(
                  optimizer.gradients(),
                  null,
                  model,
                  batch,
                  loss,
                  loss.units(),
                  GradientCheckpointing.ON,
                  step);
              double norm = optimizer.gradientNorm();
              optimizer.step(s, 1e-4, norm);
              optimizer.gradientNorm(); // waits for the update
              seconds.put("training_step", (System.nanoTime() - start) / 1e9);
            }
          }
        });
    return seconds;
  }
}
