package io.github.retmask.train;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.io.Checkpoint;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// A trained model on disk is the one it began as, with other weights in the same types.
class TrainedCheckpointTest {
  private final Ops ops = new Ops(new ReferenceBackend().open(1));

  @TempDir Path folder;
  private Path original;
  private Path out;

  @BeforeEach
  void makeFolders() throws IOException {
    original = Files.createDirectory(folder.resolve("original"));
    out = Files.createDirectory(folder.resolve("out"));
    Files.writeString(out.resolve("metrics.jsonl"), "kept\n");
  }

  @Test
  void untrainedWeightsGiveTheSameFiles() throws IOException {
    try (GoldenModel golden = GoldenModel.open("llama", original);
        TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      Weights weights = golden.scaled(Map.of(), arena);
      TrainedCheckpoint.save(weights, golden.checkpoint(), ops, out);
      for (String name : List.of("model.safetensors", "config.json")) {
        assertThat(out.resolve(name)).hasSameBinaryContentAs(original.resolve(name));
      }
      assertThat(out.resolve("metrics.jsonl")).hasContent("kept\n");
    }
  }

  @Test
  void trainedWeightsAreRoundedToTheStoredType() throws IOException {
    try (GoldenModel golden = GoldenModel.open("llama", original);
        TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      String name = "model.layers.1.mlp.down_proj.weight";
      Weights weights = golden.scaled(Map.of(name, 1.0039f), arena); // half a BF16 step and less
      TrainedCheckpoint.save(weights, golden.checkpoint(), ops, out);
      try (Checkpoint saved = Checkpoint.open(out)) {
        Tensor rounded = saved.tensor(name);
        assertThat(rounded.dtype()).isEqualTo(DType.BF16);
        Tensor wanted = arena.allocate("wanted", DType.BF16, rounded.shape().dims());
        ops.cast(wanted, golden.byName(weights, ops, arena).get(name));
        assertThat(rounded.toFloats()).isEqualTo(wanted.toFloats());
        assertThat(rounded.toFloats()).isNotEqualTo(golden.checkpoint().tensor(name).toFloats());
      }
    }
  }

  @Test
  void savingAgainReplacesWhatWasSaved() throws IOException {
    try (GoldenModel golden = GoldenModel.open("llama", original);
        TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      Weights other = golden.scaled(Map.of("lm_head.weight", 2f), arena);
      TrainedCheckpoint.save(other, golden.checkpoint(), ops, out);
      TrainedCheckpoint.save(golden.scaled(Map.of(), arena), golden.checkpoint(), ops, out);
      assertThat(out.resolve("model.safetensors"))
          .hasSameBinaryContentAs(original.resolve("model.safetensors"));
    }
  }
}
