package io.github.retmask.eval;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.backend.Ops;
import io.github.retmask.io.AtomicFiles;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.io.JsonLines;
import io.github.retmask.io.SafeTensorsWriter;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Weights;
import io.github.retmask.model.arch.Architecture;
import io.github.retmask.tensor.TensorArena;
import io.github.retmask.train.AdamW;
import io.github.retmask.train.GradientCheckpointing;
import io.github.retmask.train.InitialWeights;
import io.github.retmask.train.LanguageModelTrainer;
import io.github.retmask.train.LrSchedule;
import io.github.retmask.train.TrainedCheckpoint;
import io.github.retmask.train.Trainer;
import io.github.retmask.train.TrainingStart;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.stream.Collectors;

/// How to train a model from scratch on a [SyntheticLanguage]: one JSON file with the sections
/// `model` (a config.json; `vocab_size` comes from the language), `language` and `training`. What
/// made the bundled model.
public final class TrainingRecipe {
  /// The language's options beside a trained model: probes for it can be made from this file.
  public static final String LANGUAGE_FILE = "language.json";

  /// Questions of the shortest training length, half of them to be answered from memory.
  public static final String PROMPTS_FILE = "prompts.jsonl.gz";

  private static final int PROMPTS = 500;

  private final ConfigReader json;
  private final ConfigReader model; // with vocab_size filled in
  private final SyntheticLanguage language;
  private final ModelConfig config;

  private TrainingRecipe(ConfigReader json, String file) {
    json.requireKnown(List.of("model", "language", "training"));
    this.json = json;
    this.language = new SyntheticLanguage(language(json.object("language")));
    ObjectNode filled = json.object("model").json().deepCopy();
    filled.put("vocab_size", language.vocabulary().size());
    this.model = new ConfigReader(filled, file + ": model");
    try {
      this.config = Architecture.of(model).config(model);
    } catch (IllegalArgumentException | ArithmeticException e) {
      throw new FormatException(file + ": " + e.getMessage(), e);
    }
  }

  /// Reads a recipe.
  ///
  /// @throws io.github.retmask.io.FormatException naming file and key of what is missing, unknown
  ///   or out of range
  public static TrainingRecipe read(Path file) throws IOException {
    return new TrainingRecipe(
        new ConfigReader(JsonFiles.read(file), file.toString()), file.toString());
  }

  /// The language of a trained model, or null where the folder has no [#LANGUAGE_FILE].
  public static @org.jspecify.annotations.Nullable SyntheticLanguage languageOf(Path model)
      throws IOException {
    Path file = model.resolve(LANGUAGE_FILE);
    return Files.exists(file)
        ? new SyntheticLanguage(language(new ConfigReader(JsonFiles.read(file), file.toString())))
        : null;
  }

  public ModelConfig config() {
    return config;
  }

  public SyntheticLanguage language() {
    return language;
  }

  /// Trains into `out`, which becomes a model folder: config.json, model.safetensors (F32),
  /// tokenizer files, generation_config.json, [#LANGUAGE_FILE], prompts to sample answers to
  /// ([#PROMPTS_FILE]), this recipe and metrics.jsonl.
  /// Resumes as [Trainer#run] says.
  ///
  /// @param checkpointing on here or by the recipe's key `gradient_checkpointing`
  public void train(
      Ops ops,
      Path out,
      TrainingStart start,
      GradientCheckpointing checkpointing,
      Consumer<Trainer.Progress> progress)
      throws IOException, InterruptedException {
    ConfigReader t = json.object("training");
    t.requireKnown(
        List.of(
            "seed",
            "data_seed",
            "steps",
            "batch_size",
            "micro_batch_tokens",
            "gradient_checkpointing",
            "learning_rate",
            "min_learning_rate",
            "warmup_steps",
            "beta1",
            "beta2",
            "weight_decay",
            "max_grad_norm",
            "initializer_std",
            "log_every",
            "checkpoint_every"));
    int steps = t.integer("steps", 1);
    LrSchedule schedule =
        new LrSchedule.Cosine(
            t.number("learning_rate"),
            t.number("min_learning_rate", 0),
            t.integer("warmup_steps", 0, 0),
            steps);
    AdamW.Options optimizer =
        new AdamW.Options(
            t.number("beta1", 0.9),
            t.number("beta2", 0.95),
            1e-8,
            t.number("weight_decay", 0.1),
            AdamW.Options.maxGradNorm(t.number("max_grad_norm", 1)));
    LanguageModelTrainer.Options options =
        new LanguageModelTrainer.Options(
            steps,
            t.integer("batch_size", 1),
            t.integer("micro_batch_tokens", 1, 4096),
            new Trainer.Options(
                schedule,
                optimizer,
                t.integer("log_every", 1, 10),
                t.integer("checkpoint_every", 1, 100),
                t.flag("gradient_checkpointing", false)
                    ? GradientCheckpointing.ON
                    : checkpointing));
    int seed = t.integer("seed", 0);
    double std = t.number("initializer_std", 0.02);
    LanguageModelTrainer.train(
        config,
        memory ->
            Architecture.of(model)
                .weights(
                    config,
                    model,
                    new InitialWeights(
                        seed,
                        std,
                        InitialWeights.Residuals.SCALED_BY_DEPTH,
                        config.layerCount(),
                        memory)),
        ops,
        options,
        language.examples(t.integer("data_seed", 0, seed + 1)),
        Map.of("recipe", json.json().toString()),
        out,
        start,
        weights -> save(weights, ops, out),
        progress::accept);
  }

  private void save(Weights weights, Ops ops, Path out) throws IOException {
    SafeTensorsWriter tensors = new SafeTensorsWriter(SafeTensorsWriter.PYTORCH);
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      TrainedCheckpoint.stored(weights, model, ops, arena).values().forEach(tensors::add);
      tensors.writeTo(out.resolve("model.safetensors"));
    }
    ObjectNode generation = ((ObjectNode) model.json()).objectNode();
    generation.put("bos_token_id", SyntheticLanguage.BOS);
    generation.put("eos_token_id", SyntheticLanguage.EOS);
    write(out, "generation_config.json", generation);
    write(out, LANGUAGE_FILE, (ObjectNode) json.object("language").json());
    write(out, "recipe.json", (ObjectNode) json.json());
    writePrompts(language, out.resolve(PROMPTS_FILE));
    List<String> words = language.vocabulary();
    AtomicFiles.write(out.resolve("tokenizer.json"), WordLevelTokenizerFiles.tokenizer(words));
    AtomicFiles.write(
        out.resolve("tokenizer_config.json"), WordLevelTokenizerFiles.tokenizerConfig(words));
    write(out, "config.json", (ObjectNode) model.json());
  }

  /// Writes the prompts of a language, without the BOS that its tokenizer adds.
  static void writePrompts(SyntheticLanguage language, Path file) throws IOException {
    List<String> words = language.vocabulary();
    List<SyntheticLanguage.Probe> probes =
        language.prompts(0, PROMPTS, language.options().minLength(), 0.5);
    JsonLines.write(
        file,
        sink -> {
          for (int i = 0; i < probes.size(); i++) {
            String text =
                Arrays.stream(probes.get(i).prompt())
                    .skip(1)
                    .mapToObj(words::get)
                    .collect(Collectors.joining(" "));
            sink.write(
                JsonNodeFactory.instance
                    .objectNode()
                    .put("id", Integer.toString(i))
                    .put("prompt", text));
          }
        });
  }

  private static void write(Path out, String name, ObjectNode content) throws IOException {
    byte[] text = (content.toPrettyString() + "\n").getBytes(StandardCharsets.UTF_8);
    AtomicFiles.write(out.resolve(name), text);
  }

  private static SyntheticLanguage.Options language(ConfigReader json) {
    json.requireKnown(
        List.of(
            "seed",
            "fillers",
            "keys",
            "numbers",
            "value_length",
            "min_length",
            "max_length",
            "max_needles",
            "reach",
            "repeat_share",
            "memory_share",
            "filler_weight"));
    List<SyntheticLanguage.Reach> reach =
        json.objects("reach").stream()
            .map(r -> new SyntheticLanguage.Reach(r.integer("below", 1), share(r, "probability")))
            .toList();
    return new SyntheticLanguage.Options(
        json.integer("seed", 0),
        json.integer("fillers", 1),
        json.integer("keys", 1),
        json.integer("numbers", 1),
        json.integer("value_length", 1),
        json.integer("min_length", 1),
        json.integer("max_length", 1),
        json.integer("max_needles", 1),
        reach,
        share(json, "repeat_share"),
        share(json, "memory_share"),
        share(json, "filler_weight"));
  }

  private static double share(ConfigReader json, String key) {
    double value = json.number(key);
    if (!(value >= 0 && value <= 1)) {
      throw json.error(key, "is " + value + ", want 0 to 1");
    }
    return value;
  }
}
