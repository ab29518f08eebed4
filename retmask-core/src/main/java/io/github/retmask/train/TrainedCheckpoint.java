package io.github.retmask.train;

import io.github.retmask.backend.Ops;
import io.github.retmask.io.Checkpoint;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.IfPresent;
import io.github.retmask.model.Weights;
import io.github.retmask.model.arch.Architecture;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SequencedMap;

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
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      Map<String, Tensor> stored = stored(trained, original.config(), ops, arena);
      original.save(directory, stored, IfPresent.REPLACE);
    }
  }

  /// Copies of weights, or of anything of their structure, under the names and in the layout of a
  /// checkpoint: what a family fuses there is one tensor.
  ///
  /// @param json config.json of the checkpoint
  /// @param arena memory of the copies
  public static SequencedMap<String, Tensor> stored(
      Weights weights, ConfigReader json, Ops ops, TensorArena arena) {
    Architecture architecture = Architecture.of(json);
    SequencedMap<String, Tensor> stored = new LinkedHashMap<>();
    Weights layout =
        architecture.weights(
            architecture.config(json),
            json,
            (name, dims) -> stored.computeIfAbsent(name, _ -> arena.floats(name, dims)));
    List<Tensor> to = layout.tensors();
    for (int i = 0; i < to.size(); i++) {
      ops.cast(to.get(i), weights.tensors().get(i));
    }
    return stored;
  }
}
