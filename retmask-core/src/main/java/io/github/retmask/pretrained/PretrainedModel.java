package io.github.retmask.pretrained;

import io.github.retmask.backend.Ops;
import io.github.retmask.gguf.GgufModel;
import io.github.retmask.gguf.GgufTokenizer;
import io.github.retmask.io.Checkpoint;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.ModelFiles;
import io.github.retmask.io.Quantization;
import io.github.retmask.io.QuantizedFiles;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.model.arch.Architecture;
import io.github.retmask.tensor.TensorArena;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.Set;
import java.util.function.BiFunction;
import org.jspecify.annotations.Nullable;

/// A checkpoint folder in the layout of Hugging Face or a GGUF file, opened for use. Weights are read
/// straight from the memory-mapped files, in the type they are stored in; nothing is copied, but see
/// [GgufModel] and `Kernels.place`, or are rounded on opening ([#openQuantized]).
///
/// For one thread, as its [#transformer] is. Close it after everything that uses its weights.
public final class PretrainedModel implements AutoCloseable {
  private static final String EMBEDDINGS = "model.embed_tokens.weight";
  private static final String LM_HEAD = "lm_head.weight";

  private final ModelFiles files;
  private final Architecture architecture;
  private final ModelConfig config;
  private final GenerationConfig generation;
  private final Weights weights;
  private final Ops ops;
  private @Nullable Transformer transformer;
  private @Nullable Tokenizer tokenizer;

  private PretrainedModel(
      ModelFiles files,
      Architecture architecture,
      ModelConfig config,
      GenerationConfig generation,
      Weights weights,
      Ops ops) {
    this.files = files;
    this.architecture = architecture;
    this.config = config;
    this.generation = generation;
    this.weights = weights;
    this.ops = ops;
  }

  /// Opens a folder or a GGUF file. Its tokenizer is not touched until it is asked for.
  ///
  /// @param ops what computes; outlives the model
  /// @throws FormatException naming the file and the key or tensor that is missing, broken, of
  ///   another shape than config.json says, or not supported
  /// @throws IOException when the system refuses to read
  public static PretrainedModel open(Path model, Ops ops) throws IOException {
    return open(model, ops, (files, _) -> files);
  }

  /// Opens a folder or a GGUF file for inference with its matrices rounded, see [QuantizedFiles].
  ///
  /// @param ops what computes; outlives the model
  /// @throws FormatException as [#open], or naming a matrix with a value that blocks are not made for
  /// @throws IOException when the system refuses to read
  public static PretrainedModel openQuantized(
      Path model, Ops ops, Quantization to, QuantizedFiles.Progress progress) throws IOException {
    return open(
        model,
        ops,
        (files, config) ->
            new QuantizedFiles(
                files,
                to,
                config.tiedEmbeddings() ? EMBEDDINGS : LM_HEAD,
                ops.threads() > 1,
                progress,
                ops.arena(TensorArena.Lifetime.MODEL),
                ops::place));
  }

  private static PretrainedModel open(
      Path model, Ops ops, BiFunction<ModelFiles, ModelConfig, ModelFiles> wrap)
      throws IOException {
    boolean isFile = Files.isRegularFile(model);
    ModelFiles source = isFile ? GgufModel.open(model) : Checkpoint.open(model);
    ModelFiles opened = source;
    try {
      ConfigReader json = source.config();
      Architecture architecture = Architecture.of(json);
      Path configFile = isFile ? model : model.resolve("config.json");
      ModelConfig config = config(architecture, json, configFile);
      GenerationConfig generation = GenerationConfig.read(model, json);
      ModelFiles files = wrap.apply(source, config);
      opened = files;
      Set<String> read = new HashSet<>();
      Weights weights =
          architecture.weights(
              config,
              json,
              (name, dims) -> {
                read.add(name);
                return files.tensor(name, dims);
              });
      requireAllRead(files, read, config.tiedEmbeddings());
      return new PretrainedModel(files, architecture, config, generation, weights, ops);
    } catch (Throwable failure) {
      opened.close();
      throw failure;
    }
  }

  /// A tensor that the configuration has no use for is a part of the model that would be left out.
  /// Old checkpoints of Llama also store rope's speeds, and some with tied embeddings a copy of them.
  private static void requireAllRead(ModelFiles files, Set<String> read, boolean tied) {
    for (ModelFiles.Stored stored : files.stored()) {
      String name = stored.name();
      boolean derived = name.endsWith(".rotary_emb.inv_freq") || tied && name.equals(LM_HEAD);
      if (!derived && !read.contains(name)) {
        throw new FormatException(
            "%s: tensor %s has no place in the model that config.json describes"
                .formatted(files.path(), FormatException.quote(name)));
      }
    }
  }

  /// Sizes that contradict each other are the file's fault here.
  private static ModelConfig config(Architecture architecture, ConfigReader json, Path file) {
    try {
      return architecture.config(json);
    } catch (IllegalArgumentException | ArithmeticException e) {
      throw new FormatException(file + ": " + e.getMessage(), e);
    }
  }

  /// The folder or file as it was named on opening.
  public Path folder() {
    return files.path();
  }

  /// What the weights and the configuration come from.
  public ModelFiles files() {
    return files;
  }

  /// The folder behind it, of which changed copies can be written.
  ///
  /// @throws FormatException when the model comes from a GGUF file, or was rounded
  public Checkpoint checkpoint() {
    if (files instanceof Checkpoint checkpoint) {
      return checkpoint;
    }
    if (files instanceof QuantizedFiles quantized) {
      throw new FormatException(
          "%s: opened as %s; changed copies are written of the weights as they are stored"
              .formatted(files.path(), quantized.quantization().label()));
    }
    throw new FormatException(
        files.path()
            + ": a GGUF file; changed copies are written of checkpoint folders in Hugging Face's layout only");
  }

  /// The model family.
  public Architecture architecture() {
    return architecture;
  }

  public ModelConfig config() {
    return config;
  }

  /// The weights as views of the mapped files; matrices that were rounded as the backend keeps them.
  public Weights weights() {
    return weights;
  }

  /// The model, with its weights placed where the backend reads them on the first call.
  ///
  /// @throws OutOfMemoryError when the backend has no room for them
  public Transformer transformer() {
    Transformer made = transformer;
    if (made == null) {
      made = new Transformer(config, weights, ops);
      transformer = made;
    }
    return made;
  }

  /// How it wants to generate.
  public GenerationConfig generation() {
    return generation;
  }

  /// Whether there is a tokenizer to ask for.
  public boolean hasTokenizer() throws IOException {
    Path path = files.path();
    return Files.isRegularFile(path)
        ? GgufTokenizer.isIn(path)
        : Files.exists(path.resolve("tokenizer.json"));
  }

  /// The tokenizer, read on the first call.
  ///
  /// @throws FormatException when a file of it is broken
  /// @throws IOException when there is none, or the system refuses to read
  public Tokenizer tokenizer() throws IOException {
    Tokenizer read = tokenizer;
    if (read == null) {
      read = tokenizer(files.path());
      tokenizer = read;
    }
    return read;
  }

  /// The tokenizer of a model that need not be opened.
  ///
  /// @param model a checkpoint folder or a GGUF file
  /// @throws FormatException when a file of it is broken
  /// @throws IOException when there is none, or the system refuses to read
  public static Tokenizer tokenizer(Path model) throws IOException {
    return Files.isRegularFile(model) ? GgufTokenizer.load(model) : Tokenizer.load(model);
  }

  /// Tokens that end a text: those of [#generation], or else the tokenizer's; may be empty.
  public int[] eosIds() throws IOException {
    int[] ids = generation.eosIds();
    if (ids.length > 0 || !hasTokenizer() || tokenizer().eosId() < 0) {
      return ids;
    }
    return new int[] {tokenizer().eosId()};
  }

  /// Unmaps the weights.
  @Override
  public void close() {
    if (transformer != null) {
      transformer.close();
    }
    files.close();
  }
}
