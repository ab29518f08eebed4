package io.github.retmask.train;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.GoldenFolder;
import io.github.retmask.backend.Ops;
import io.github.retmask.io.Checkpoint;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Weights;
import io.github.retmask.model.arch.Architecture;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;

/// A tiny random checkpoint with float64 results, copied from the test resources to a folder: they
/// may be in a jar, which cannot be mapped.
///
/// @param checkpoint its files
/// @param config sizes
/// @param weights as stored
/// @param train content of train.json
record GoldenModel(Checkpoint checkpoint, ModelConfig config, Weights weights, JsonNode train)
    implements AutoCloseable {
  static GoldenModel open(String family, Path empty) throws IOException {
    GoldenFolder.copy(family, empty);
    Checkpoint checkpoint = Checkpoint.open(empty);
    Architecture architecture = Architecture.of(checkpoint.config());
    ModelConfig config = architecture.config(checkpoint.config());
    Weights weights = architecture.weights(config, checkpoint.config(), checkpoint::tensor);
    return new GoldenModel(
        checkpoint, config, weights, JsonFiles.read(empty.resolve("train.json")));
  }

  /// The weights with some of the checkpoint's tensors multiplied, F32.
  Weights scaled(Map<String, Float> factors, TensorArena arena) {
    return Architecture.of(checkpoint.config())
        .weights(
            config,
            checkpoint.config(),
            (name, dims) -> {
              float[] values = checkpoint.tensor(name, dims).toFloats();
              for (int i = 0; i < values.length; i++) {
                values[i] *= factors.getOrDefault(name, 1f);
              }
              return arena.floats(name, dims).copyFrom(values);
            });
  }

  /// Something of the structure of the weights under the checkpoint's names.
  Map<String, Tensor> byName(Weights weights, Ops ops, TensorArena arena) {
    return TrainedCheckpoint.stored(weights, checkpoint.config(), ops, arena);
  }

  @Override
  public void close() {
    checkpoint.close();
  }
}
