package io.github.retmask.benchmarks;

import com.fasterxml.jackson.databind.json.JsonMapper;
import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.model.arch.Architecture;
import io.github.retmask.random.SplitMix64;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import io.github.retmask.train.AdamW;
import io.github.retmask.train.CrossEntropyLoss;
import io.github.retmask.train.Example;
import io.github.retmask.train.GradientCheckpointing;
import io.github.retmask.train.LabelledBatch;
import io.github.retmask.train.StepSource.MicroBatch;
import io.github.retmask.train.TrainingStep;
import java.io.IOException;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/// Whole training steps of a Llama-shaped model with random weights: forward, backward, norm of the
/// gradients, AdamW. Prints tokens a second, where the time goes, and the resident memory at most
/// (Linux).
///
/// `TrainingReport [KEY=NUMBER ...]`; the keys and their defaults stand in [#DEFAULTS].
public final class TrainingReport {
  private static final Map<String, Integer> DEFAULTS = new LinkedHashMap<>();

  static {
    DEFAULTS.put("C", 1024); // hidden size
    DEFAULTS.put("L", 8); // layers
    DEFAULTS.put("H", 16); // query heads
    DEFAULTS.put("Hkv", 4); // key/value heads
    DEFAULTS.put("F", 2816); // width of the feed-forward block
    DEFAULTS.put("V", 32_000); // vocabulary
    DEFAULTS.put("B", 1); // rows
    DEFAULTS.put("T", 512); // tokens of a row
    DEFAULTS.put("prompt", 0); // of them at the begin and not labelled
    DEFAULTS.put("pairs", 0); // 1: every second row has the prompt of the one before
    DEFAULTS.put("checkpointing", 0); // 1 for gradient checkpointing
    DEFAULTS.put("clipping", 1); // 0: updates within the backward
    DEFAULTS.put("warmup", 2); // steps before any is timed
    DEFAULTS.put("steps", 5); // timed steps
    DEFAULTS.put("threads", Runtime.getRuntime().availableProcessors());
  }

  private final Map<String, Integer> sizes;

  private TrainingReport(Map<String, Integer> sizes) {
    this.sizes = sizes;
  }

  static void main(String[] args) throws IOException {
    Map<String, Integer> sizes = new LinkedHashMap<>(DEFAULTS);
    for (String arg : args) {
      String[] parts = arg.split("=", 2);
      if (parts.length != 2 || !sizes.containsKey(parts[0])) {
        System.err.println("usage: TrainingReport [KEY=NUMBER ...], defaults " + DEFAULTS);
        System.exit(2);
      }
      sizes.put(parts[0], Integer.parseInt(parts[1]));
    }
    new TrainingReport(sizes).run();
  }

  private int size(String key) {
    return sizes.get(key);
  }

  private void run() throws IOException {
    ConfigReader json = new ConfigReader(new JsonMapper().readTree(config()), "config");
    Map<String, Long> nanos = new TreeMap<>();
    try (Kernels kernels = timed(Backends.open("vector", size("threads")), nanos)) {
      Ops ops = new Ops(kernels);
      try (TensorArena memory = ops.arena(TensorArena.Lifetime.MODEL);
          TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
        Architecture architecture = Architecture.of(json);
        ModelConfig config = architecture.config(json);
        Weights weights =
            architecture.weights(config, json, (name, dims) -> random(memory, name, dims));
        long parameters = weights.tensors().stream().mapToLong(Tensor::size).sum();
        System.out.printf(Locale.ROOT, "%s: %.1fM parameters%n", sizes, parameters * 1e-6);
        AdamW.Options recipe = AdamW.Options.RETMASK;
        AdamW.Options options =
            new AdamW.Options(
                recipe.beta1(),
                recipe.beta2(),
                recipe.eps(),
                recipe.weightDecay(),
                AdamW.Options.maxGradNorm(size("clipping")));
        AdamW optimizer = new AdamW(weights, options, ops, memory);
        try (Transformer model = new Transformer(config, weights, ops)) {
          LabelledBatch batch = LabelledBatch.of(rows(), model.noMask());
          MicroBatch only = new MicroBatch(batch, CrossEntropyLoss.over(batch));
          List<Double> seconds = new ArrayList<>();
          for (int s = 1; s <= size("warmup") + size("steps"); s++) {
            if (s == size("warmup") + 1) {
              nanos.clear();
            }
            long began = System.nanoTime();
            TrainingStep done =
                TrainingStep.run(
                    model,
                    optimizer,
                    List.of(only),
                    GradientCheckpointing.of(size("checkpointing") != 0),
                    s,
                    1e-4,
                    step);
            seconds.add((System.nanoTime() - began) * 1e-9);
            System.out.printf(
                Locale.ROOT,
                "step %d: %.2f s, loss %.4f, gradient norm %.4f%n",
                s,
                seconds.getLast(),
                done.loss(),
                done.gradNorm());
          }
          report(seconds.subList(size("warmup"), seconds.size()), nanos, step.usedBytes());
        }
      }
    }
  }

  private void report(List<Double> seconds, Map<String, Long> nanos, long stepBytes) {
    double total = seconds.stream().mapToDouble(Double::doubleValue).sum();
    List<Double> sorted = seconds.stream().sorted().toList();
    double tokens = size("B") * (double) size("T");
    nanos.put("rest", (long) (total * 1e9) - nanos.values().stream().mapToLong(n -> n).sum());
    nanos.entrySet().stream()
        .sorted(Collections.reverseOrder(Map.Entry.comparingByValue()))
        .forEach(
            e ->
                System.out.printf(
                    Locale.ROOT,
                    "%-24s %9.1f ms %5.1f %%%n",
                    e.getKey(),
                    e.getValue() * 1e-6 / seconds.size(),
                    e.getValue() * 1e-7 / total));
    System.out.printf(
        Locale.ROOT,
        "%.1f tokens/s (median; %.1f to %.1f), activations %.1f MiB, resident at most %.2f GiB%n",
        tokens / sorted.get(sorted.size() / 2),
        tokens / sorted.getLast(),
        tokens / sorted.getFirst(),
        stepBytes / (double) (1 << 20),
        MemoryReport.status("VmHWM:") / (double) (1 << 30));
  }

  /// The same kernels; the time of every call is added to its op.
  private static Kernels timed(Kernels kernels, Map<String, Long> nanos) {
    return (Kernels)
        Proxy.newProxyInstance(
            Kernels.class.getClassLoader(),
            new Class<?>[] {Kernels.class},
            (_, method, args) -> {
              long began = System.nanoTime();
              try {
                return method.invoke(kernels, args);
              } catch (InvocationTargetException e) {
                throw e.getCause();
              } finally {
                nanos.merge(method.getName(), System.nanoTime() - began, Long::sum);
              }
            });
  }

  private String config() {
    return """
    {"model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
     "hidden_size": %d, "num_hidden_layers": %d, "num_attention_heads": %d,
     "num_key_value_heads": %d, "intermediate_size": %d, "vocab_size": %d,
     "max_position_embeddings": %d, "tie_word_embeddings": false}
    """
        .formatted(size("C"), size("L"), size("H"), size("Hkv"), size("F"), size("V"), size("T"));
  }

  /// Ones for a norm; a matrix is uniform with a standard deviation of 0.02. Passes through a small
  /// array, to leave no trace in the memory that is reported.
  private static Tensor random(TensorArena memory, String name, long... dims) {
    Tensor tensor = memory.floats(name, dims);
    SplitMix64 random = new SplitMix64(SplitMix64.key(name));
    for (long row = 0; row < dims[0]; row++) {
      float[] values = new float[Math.toIntExact(tensor.size() / dims[0])];
      for (int i = 0; i < values.length; i++) {
        float unit = (random.next() >>> 40) * 0x1p-23f - 1; // in [-1, 1)
        values[i] = dims.length == 1 ? 1 : 0.02f * (float) Math.sqrt(3) * unit;
      }
      var _ = tensor.slice(row, row + 1).copyFrom(values);
    }
    return tensor;
  }

  /// Rows of random tokens, each of which is labelled but those of the prompt and the first.
  private List<Example> rows() {
    SplitMix64 random = new SplitMix64(1);
    List<Example> rows = new ArrayList<>();
    for (int r = 0; r < size("B"); r++) {
      int[] ids = new int[size("T") + 1];
      Arrays.setAll(ids, _ -> random.nextInt(size("V")));
      if (size("pairs") != 0 && r % 2 == 1) {
        System.arraycopy(rows.getLast().ids(), 0, ids, 0, size("prompt"));
      }
      float[] weights = new float[ids.length];
      Arrays.fill(weights, size("prompt"), ids.length, 1f);
      rows.add(new Example(ids, weights));
    }
    return rows;
  }
}
