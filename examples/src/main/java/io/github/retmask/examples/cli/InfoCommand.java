package io.github.retmask.examples.cli;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.Backend;
import io.github.retmask.backend.Backends;
import io.github.retmask.generate.Generator;
import io.github.retmask.generate.MemoryPlan;
import io.github.retmask.io.CheckpointFingerprint;
import io.github.retmask.io.QuantizedFiles;
import io.github.retmask.io.RoundingError;
import io.github.retmask.model.LayerSpec;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.RopeSpec;
import io.github.retmask.model.Transformer;
import io.github.retmask.pretrained.GenerationConfig;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SequencedMap;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.ExitCode;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/// `retmask info`: what a checkpoint holds and what it takes to run it.
@Command(
    name = "info",
    description = "Show architecture, heads, types, parameters, memory and tokenizer of a model.",
    footer = {
      "",
      "Memory is what generating in one row takes at that context, computed beforehand; the "
          + "Java machine and the tokenizer take some 0.3 GiB more.",
      "",
      "With --quantize it also says how far rounding takes each kind of matrix from the "
          + "stored one: the error's norm relative to the matrix' (||W - Wq|| / ||W||), and the "
          + "largest difference; and with a text, how far the predictions after its tokens lie "
          + "apart: the Kullback-Leibler divergence from the stored model's, and how often both "
          + "have the same likeliest next token.",
      "",
      "Examples:",
      "  retmask info bundled:tiny",
      "  retmask info MODEL --context 32768",
      "  retmask info bundled:tiny --quantize q4_0 --text \"code mira is 12 15 31 .\""
    })
final class InfoCommand implements Callable<Integer> {
  private final Console console;

  @Mixin private final InferenceOptions model = new InferenceOptions();

  @Option(
      names = "--context",
      paramLabel = "N",
      description = "Positions to give the memory for (default: the model's longest context).")
  private @Nullable Integer context;

  @ArgGroup private @Nullable TextOrIds compared;

  InfoCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException {
    if (compared != null && !model.isQuantized()) {
      throw new UsageException("--text and --ids are for --quantize: rounded weights read them");
    }
    try (Session session = model.open(console)) {
      PretrainedModel opened = session.model();
      ModelConfig config = opened.config();
      int positions = positions(config);
      row("model", opened.folder().toString());
      row("architecture", opened.files().config().text("model_type"));
      row("layers", Units.count(config.layerCount()));
      row(
          "heads",
          "%d query and %d key/value heads a layer, dimension %d; %s query heads in all"
              .formatted(
                  config.heads(),
                  config.kvHeads(),
                  config.headDim(),
                  Units.count(config.totalHeads())));
      row(
          "sizes",
          "hidden %s, feed-forward %s, vocabulary %s, %s embeddings"
              .formatted(
                  Units.count(config.hiddenSize()),
                  Units.count(config.intermediateSize()),
                  Units.count(config.vocabSize()),
                  config.tiedEmbeddings() ? "tied" : "separate"));
      row("attention", byLayer(config, InfoCommand::attention));
      row("norms", byLayer(config, InfoCommand::norms));
      row("rope", byLayer(config, spec -> rope(spec.rope())));
      row("positions", Units.count(config.maxPositions()));
      weights(opened);
      if (opened.files() instanceof QuantizedFiles files) {
        quantization(files);
      }
      if (compared != null) {
        difference(opened, compared.tokens(opened));
      }
      memory(opened.transformer(), positions);
      tokenizer(opened);
      row("generation", generation(opened.generation()));
      row(
          "fingerprint",
          CheckpointFingerprint.of(opened.files(), CheckpointFingerprint.Coverage.SAMPLED).text());
      row(
          "backend",
          "%s on %s, threads: %d%s"
              .formatted(
                  opened.transformer().ops().backend(),
                  opened.transformer().ops().device(),
                  opened.transformer().ops().threads(),
                  unavailable()));
    }
    return ExitCode.OK;
  }

  private void row(String name, String value) {
    console.line("%-13s %s".formatted(name, value));
  }

  private void weights(PretrainedModel model) throws IOException {
    long parameters = 0;
    long bytes = 0;
    Map<String, Long> byType = new TreeMap<>();
    for (Tensor tensor : model.weights().tensors()) {
      parameters += tensor.size();
      bytes += tensor.storage().bytes();
      byType.merge(tensor.dtype().name(), tensor.size(), Long::sum);
    }
    List<String> types = new ArrayList<>();
    for (Map.Entry<String, Long> type : byType.entrySet()) {
      types.add(
          byType.size() == 1 ? type.getKey() : type.getKey() + " " + Units.count(type.getValue()));
    }
    row("parameters", Units.count(parameters));
    int files = model.files().weightFiles().size();
    long fileBytes = 0;
    for (Path file : model.files().weightFiles()) {
      fileBytes += Files.size(file);
    }
    row(
        "weights",
        "%s, %s %s %d %s of %s%s"
            .formatted(
                String.join(" + ", types),
                Units.bytes(bytes),
                model.files() instanceof QuantizedFiles ? "rounded from" : "in",
                files,
                files == 1 ? "file" : "files",
                Units.bytes(fileBytes),
                model.files() instanceof QuantizedFiles ? "" : ", memory-mapped"));
  }

  /// A row per kind and type of matrix.
  private void quantization(QuantizedFiles files) {
    SequencedMap<String, RoundingError> rounded = new LinkedHashMap<>();
    SequencedMap<String, Integer> counts = new LinkedHashMap<>();
    for (QuantizedFiles.Matrix matrix : files.matrices()) {
      Tensor stored = matrix.stored();
      String[] parts = stored.name().split("\\."); // ..., kind, weight
      String kind = parts[Math.max(0, parts.length - 2)];
      String what;
      if (matrix.isRounded()) {
        what = "%s %s".formatted(kind, matrix.used().dtype());
        rounded.merge(what, files.error(matrix), RoundingError::and);
      } else {
        String why =
            stored.dtype().isBlock()
                ? "in blocks already"
                : "rows of %d are no whole blocks of 32".formatted(stored.dim(1));
        what = "%s %s: %s".formatted(kind, stored.dtype(), why);
      }
      counts.merge(what, 1, Integer::sum);
    }
    counts.forEach(
        (what, count) -> {
          RoundingError error = rounded.get(what);
          String matrices = count == 1 ? "1 matrix" : count + " matrices";
          if (error == null) {
            row("as stored", "%s; %s".formatted(what, matrices));
          } else {
            row(
                "quantized",
                String.format(
                    Locale.ROOT,
                    "%s: relative error %.3f %%, largest difference %.3g; %s",
                    what,
                    100 * error.relative(),
                    error.largest(),
                    matrices));
          }
        });
  }

  private void difference(PretrainedModel rounded, int[] ids) throws IOException {
    try (PretrainedModel stored =
        PretrainedModel.open(rounded.folder(), rounded.transformer().ops())) {
      LogitsDifference apart =
          LogitsDifference.of(stored.transformer(), rounded.transformer(), ids);
      row(
          "predictions",
          String.format(
              Locale.ROOT,
              "divergence %.3g nats in the mean, %.3g at most; the same first choice after %d of %d tokens",
              apart.meanKl(),
              apart.largestKl(),
              apart.sameFirst(),
              apart.tokens()));
    }
  }

  private int positions(ModelConfig config) {
    int most = config.maxPositions();
    int positions = context == null ? most : context;
    if (positions < 1 || positions > most) {
      throw new UsageException(
          "--context %d: want 1 to %d, the positions of the model".formatted(positions, most));
    }
    return positions;
  }

  private void memory(Transformer transformer, int positions) {
    Generator.Options limits = Generator.Options.defaults();
    MemoryPlan plan = MemoryPlan.of(transformer, 1, positions, limits.prefillTokens());
    row("context", Units.count(positions) + " positions");
    row("keys, values", Units.bytes(plan.keysValues()));
    row("activations", Units.bytes(plan.activations()));
    row(
        "total",
        Units.bytes(plan.total() + MemoryPlan.heldWeights(transformer)) + " with the weights");
    long usable = limits.memoryBytes(transformer);
    int fits = MemoryPlan.positionsWithin(usable, transformer, limits.prefillTokens());
    row(
        "free memory",
        "%s, of which %s may be used: %s"
            .formatted(
                Units.bytes(transformer.ops().freeBytes()),
                Units.bytes(usable),
                plan.total() <= usable
                    ? "fits"
                    : "does not fit, %s positions would".formatted(Units.count(fits))));
  }

  private void tokenizer(PretrainedModel model) throws IOException {
    if (!model.hasTokenizer()) {
      row("tokenizer", "none: give prompts as token ids");
      return;
    }
    Tokenizer tokenizer = model.tokenizer();
    row(
        "tokenizer",
        "%s tokens, bos %s, eos %s, %s"
            .formatted(
                Units.count(tokenizer.vocabSize()),
                token(tokenizer, tokenizer.bosId()),
                token(tokenizer, tokenizer.eosId()),
                tokenizer.chatTemplate() == null ? "no chat template" : "chat template"));
  }

  private static String token(Tokenizer tokenizer, int id) {
    return id < 0 ? "none" : "%d %s".formatted(id, tokenizer.tokenOf(id));
  }

  private static String generation(GenerationConfig config) {
    String how =
        config.samples()
            ? "temperature %s, top-k %s, top-p %s, min-p %s"
                .formatted(config.temperature(), config.topK(), config.topP(), config.minP())
            : "greedy";
    String penalty =
        config.repetitionPenalty() == 1
            ? ""
            : ", repetition penalty %s".formatted(config.repetitionPenalty());
    String ends = config.eosIds().length == 0 ? "no token" : IdList.text(config.eosIds());
    return how + penalty + "; ends at " + ends;
  }

  /// One description where all layers agree, else each with its layers.
  private static String byLayer(ModelConfig config, Function<LayerSpec, String> describe) {
    Map<String, List<Integer>> layers = new LinkedHashMap<>();
    for (int l = 0; l < config.layerCount(); l++) {
      layers.computeIfAbsent(describe.apply(config.layers().get(l)), _ -> new ArrayList<>()).add(l);
    }
    if (layers.size() == 1) {
      return layers.keySet().iterator().next();
    }
    List<String> parts = new ArrayList<>();
    layers.forEach(
        (what, which) ->
            parts.add(
                "%s (layers %s)"
                    .formatted(
                        what, String.join(",", which.stream().map(Object::toString).toList()))));
    return String.join("; ", parts);
  }

  private static String attention(LayerSpec spec) {
    int window = spec.attention().window();
    return window == AttentionSpec.NO_WINDOW ? "full" : "window " + Units.count(window);
  }

  private static String norms(LayerSpec spec) {
    String place = spec.norms() == LayerSpec.NormPlacement.PRE ? "before" : "after";
    String qk =
        switch (spec.qkNorm()) {
          case NONE -> "";
          case PER_HEAD -> ", q and k normalised per head";
          case WHOLE -> ", q and k normalised whole";
        };
    return place + " each block" + qk;
  }

  private static String rope(RopeSpec rope) {
    return rope.scaling() instanceof RopeSpec.None
        ? "theta %s, unscaled".formatted(rope.theta())
        : "theta %s, %s".formatted(rope.theta(), rope.scaling());
  }

  private static String unavailable() {
    List<String> reasons = new ArrayList<>();
    for (Backend backend : Backends.all()) {
      String why = backend.whyUnavailable();
      if (why != null) {
        reasons.add("; %s: %s".formatted(backend.name(), why));
      }
    }
    return String.join("", reasons);
  }
}
