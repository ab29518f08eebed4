package io.github.retmask.benchmarks.gpu;

import com.fasterxml.jackson.databind.json.JsonMapper;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.TokenDraw;
import io.github.retmask.generate.Sampling;
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
import io.github.retmask.train.DpoLoss;
import io.github.retmask.train.Example;
import io.github.retmask.train.GradientCheckpointing;
import io.github.retmask.train.LabelledBatch;
import io.github.retmask.train.LrSchedule;
import io.github.retmask.train.PairLogProbs;
import io.github.retmask.train.Precision;
import io.github.retmask.train.StepSource;
import io.github.retmask.train.Trainer;
import io.github.retmask.train.TrainingStart;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Supplier;
import java.util.stream.Stream;

/// A whole Llama of random weights: seconds of a prefill, of a decoding step of one row and of twins
/// (one intact, one with a quarter of the heads off), and of a DPO step.
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
/// @param trained tokens of each row of the pair that is trained on
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
    int steps,
    int trained) {

  static final GpuModel LLAMA_1B =
      new GpuModel("llama-1b", 16, 2048, 32, 8, 8192, 128_256, true, 8192, 64, 2048);
  static final GpuModel LLAMA_8B =
      new GpuModel("llama-8b", 32, 4096, 32, 8, 14_336, 128_256, false, 8192, 64, 2048);

  /// Small enough for an emulated GPU.
  static final GpuModel TINY = new GpuModel("tiny", 2, 64, 4, 2, 96, 200, true, 24, 2, 16);

  /// The same with rows of another length to train on.
  GpuModel withTrained(int tokens) {
    return new GpuModel(
        name, layers, hidden, heads, kvHeads, intermediate, vocab, tied, prompt, steps, tokens);
  }

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
    json.put("trained", trained);
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
    void of(Transformer model) throws IOException;
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
        use.of(model);
      }
    }
  }

  /// Seconds of `prefill`, `decode` and `twin_decode`, the latter two of one step.
  Map<String, Double> generate(Ops ops, DType type) throws IOException {
    Map<String, Double> seconds = new LinkedHashMap<>();
    with(
        ops,
        type,
        model -> {
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
    Supplier<Tensor> forward =
        () -> {
          TokenStates states =
              model.states(new Batch(rows), cache, ReadoutRequest.NONE, step, last);
          return model.logits(states.hidden(), step);
        };
    Tensor logits = ids == null ? model.ops().together(forward) : forward.get(); // [B,V]
    List<TokenDraw> draws = new ArrayList<>();
    for (int r = 0; r < masks.size(); r++) {
      draws.add(Sampling.GREEDY.draw(r, 0));
    }
    System.arraycopy(model.ops().drawTokens(logits, draws), 0, next, 0, next.length);
  }

  /// Seconds of a DPO step over one pair of rows of [#trained] tokens, the last half of each labelled,
  /// full fine-tuning from F32 masters with gradient checkpointing; bytes of the device that are taken
  /// then, those of copies in BF16 among them, parameters, and its tokens and model operations (6 per token
  /// and matrix element; attention of half the keys).
  ///
  /// @param type of the matrices and activations that compute
  /// @param free bytes of the device before anything was allocated
  Map<String, Double> train(Ops ops, DType type, long free) throws IOException {
    RandomTensors random = new RandomTensors(ops);
    ConfigReader json = config();
    Architecture architecture = Architecture.of(json);
    ModelConfig config = architecture.config(json);
    Map<String, Double> measured = new LinkedHashMap<>();
    Trainer.Options options =
        new Trainer.Options(
            new LrSchedule.Constant(1e-6, 0),
            AdamW.Options.RETMASK,
            Pairs.STEPS,
            Pairs.STEPS,
            GradientCheckpointing.ON,
            type == DType.BF16 ? Precision.BF16 : Precision.F32);
    Path folder = Files.createTempDirectory("retmask-gpu-training");
    try (Trainer trainer =
        new Trainer(
            config,
            memory ->
                architecture.weights(
                    config,
                    json,
                    (name, dims) -> random.normal(memory, name, 0.02, DType.F32, dims)),
            ops,
            options,
            new Pairs(this))) {
      measured.put("training_parameters", (double) elements(trainer.weights(), DType.F32));
      measured.put(
          "training_copies",
          (double) DType.BF16.bytes(elements(trainer.model().weights(), DType.BF16)));
      long[] start = {0};
      trainer.run(
          folder,
          TrainingStart.RESTART,
          _ -> {},
          progress -> {
            long now = System.nanoTime();
            if (progress.step() == Pairs.TIMED) { // the ones before warm up
              measured.put("training_step", (now - start[0]) / 1e9);
              measured.put("training_bytes", (double) (free - ops.freeBytes()));
              throw new Done();
            }
            start[0] = now;
          });
    } catch (Done _) {
      double matrices =
          (double) layers * (hidden * (2.0 * hidden + 2.0 * kvWidth() + 3.0 * intermediate));
      double attention = 2.0 * layers * hidden * trained; // scores and values of half the keys
      double head = (double) vocab * hidden / 2; // of labelled tokens
      measured.put("training_tokens", 2.0 * trained);
      measured.put("training_flop", 2.0 * trained * (6 * (matrices + head) + 3 * attention));
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException("interrupted", e);
    } finally {
      deleteAll(folder);
    }
    return measured;
  }

  private static long elements(Weights weights, DType type) {
    return weights.tensors().stream().filter(t -> t.dtype() == type).mapToLong(Tensor::size).sum();
  }

  private int kvWidth() {
    return hidden / heads * kvHeads;
  }

  private static void deleteAll(Path folder) throws IOException {
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }

  /// Enough steps were timed.
  private static final class Done extends RuntimeException {
    private static final long serialVersionUID = 1;
  }

  /// The same pair in every step.
  private record Pairs(GpuModel model) implements StepSource {
    static final int TIMED = 3; // step
    static final int STEPS = 1000; // never reached

    @Override
    public long steps() {
      return STEPS;
    }

    @Override
    public double epoch(long stepsDone) {
      return 1;
    }

    @Override
    public List<MicroBatch> step(long index) {
      Random random = new Random(2);
      List<Example> rows = new ArrayList<>();
      for (int row = 0; row < 2; row++) {
        float[] labelled = new float[model.trained];
        Arrays.fill(labelled, model.trained / 2, model.trained, 1);
        rows.add(new Example(random.ints(model.trained, 0, model.vocab).toArray(), labelled));
      }
      DpoLoss loss = new DpoLoss(0.1, 0, List.of(new PairLogProbs(0, 0)));
      return List.of(
          new MicroBatch(LabelledBatch.of(rows, HeadMask.none(model.layers, model.heads)), loss));
    }

    @Override
    public Map<String, String> options() {
      return Map.of("pairs", "random");
    }
  }
}
