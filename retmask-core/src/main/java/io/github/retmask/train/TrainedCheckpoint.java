package io.github.retmask.train;

import io.github.retmask.backend.Ops;
import io.github.retmask.io.Checkpoint;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.IfPresent;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Weights;
import io.github.retmask.model.arch.Architecture;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// Writes trained weights as a checkpoint like the one that was trained.
public final class TrainedCheckpoint {
  private TrainedCheckpoint() {}

  /// Writes `original` again with these weights, rounded to the types it stores; tokenizer and
  /// configuration are copied. A checkpoint in the folder is replaced, other files there stay.
  ///
  /// @param trained F32, with the structure of the original's weights
  /// @throws IOException when the folder cannot be written
  public static void save(Weights trained, Checkpoint original, Ops ops, Path directory)
      throws IOException {
    ConfigReader json = original.config();
    Architecture architecture = Architecture.of(json);
    ModelConfig config = architecture.config(json);
    // Laid out by the family itself: what it fuses in its checkpoint must be written as one tensor.
    Map<String, Tensor> stored = new LinkedHashMap<>();
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      Weights layout =
          architecture.weights(
              config,
              json,
              (name, dims) -> stored.computeIfAbsent(name, _ -> arena.floats(name, dims)));
      List<Tensor> from = trained.tensors();
      List<Tensor> to = layout.tensors();
      for (int i = 0; i < to.size(); i++) {
        ops.cast(to.get(i), from.get(i));
      }
      original.save(directory, stored, IfPresent.REPLACE);
    }
  }
}
