package io.github.retmask.pretrained;

import io.github.retmask.backend.Ops;
import io.github.retmask.io.Checkpoint;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.FormatException;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.model.arch.Architecture;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.jspecify.annotations.Nullable;

/// A checkpoint folder in the layout of Hugging Face, opened for use. Weights are read straight from
/// the memory-mapped files, in the type they are stored in; nothing is copied.
///
/// For one thread, as its [#transformer] is. Close it after everything that uses its weights.
public final class PretrainedModel implements AutoCloseable {
  private final Checkpoint checkpoint;
  private final Architecture architecture;
  private final ModelConfig config;
  private final GenerationConfig generation;
  private final Transformer transformer;
  private @Nullable Tokenizer tokenizer;

  private PretrainedModel(
      Checkpoint checkpoint,
      Architecture architecture,
      ModelConfig config,
      GenerationConfig generation,
      Transformer transformer) {
    this.checkpoint = checkpoint;
    this.architecture = architecture;
    this.config = config;
    this.generation = generation;
    this.transformer = transformer;
  }

  /// Opens a folder. Its tokenizer is not touched until it is asked for.
  ///
  /// @param ops what computes; outlives the model
  /// @throws FormatException naming the file and the key or tensor that is missing, broken, of
  ///   another shape than config.json says, or not supported
  /// @throws IOException when the system refuses to read
  public static PretrainedModel open(Path folder, Ops ops) throws IOException {
    Checkpoint checkpoint = Checkpoint.open(folder);
    try {
      ConfigReader json = checkpoint.config();
      Architecture architecture = Architecture.of(json);
      ModelConfig config = config(architecture, json, folder);
      GenerationConfig generation = GenerationConfig.read(folder, json);
      Weights weights = architecture.weights(config, json, checkpoint::tensor);
      return new PretrainedModel(
          checkpoint, architecture, config, generation, new Transformer(config, weights, ops));
    } catch (Throwable failure) {
      checkpoint.close();
      throw failure;
    }
  }

  /// Sizes that contradict each other are the file's fault here.
  private static ModelConfig config(Architecture architecture, ConfigReader json, Path folder) {
    try {
      return architecture.config(json);
    } catch (IllegalArgumentException | ArithmeticException e) {
      throw new FormatException(folder.resolve("config.json") + ": " + e.getMessage(), e);
    }
  }

  /// The folder as it was named on opening.
  public Path folder() {
    return checkpoint.folder();
  }

  /// The files behind it.
  public Checkpoint checkpoint() {
    return checkpoint;
  }

  /// The model family.
  public Architecture architecture() {
    return architecture;
  }

  public ModelConfig config() {
    return config;
  }

  /// The weights, views of the mapped files.
  public Weights weights() {
    return transformer.weights();
  }

  /// The model.
  public Transformer transformer() {
    return transformer;
  }

  /// How it wants to generate.
  public GenerationConfig generation() {
    return generation;
  }

  /// Whether there is a tokenizer to ask for.
  public boolean hasTokenizer() {
    return Files.exists(checkpoint.folder().resolve("tokenizer.json"));
  }

  /// The tokenizer, read on the first call.
  ///
  /// @throws FormatException when a file of it is broken
  /// @throws IOException when there is none, or the system refuses to read
  public Tokenizer tokenizer() throws IOException {
    Tokenizer read = tokenizer;
    if (read == null) {
      read = Tokenizer.load(checkpoint.folder());
      tokenizer = read;
    }
    return read;
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
    transformer.close();
    checkpoint.close();
  }
}
