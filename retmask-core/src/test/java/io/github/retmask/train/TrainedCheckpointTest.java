package io.github.retmask.train;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.GoldenFolder;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.Checkpoint;
import io.github.retmask.io.SafeTensors;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.model.arch.Architecture;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

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

  static String[] families() {
    return GoldenFolder.FAMILIES;
  }

  @ParameterizedTest
  @MethodSource("families")
  void untrainedWeightsGiveTheSameFiles(String family) throws IOException {
    try (GoldenModel golden = GoldenModel.open(family, original);
        TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      Weights weights = golden.scaled(Map.of(), arena);
      TrainedCheckpoint.save(weights, golden.checkpoint(), ops, out);
      List<String> written = names(out);
      assertThat(written).contains("config.json", "tokenizer.json", "tokenizer_config.json");
      assertThat(written.stream().filter(name -> name.endsWith(".safetensors")))
          .containsExactlyElementsOf(
              names(original).stream()
                  .filter(name -> name.startsWith("model") && name.endsWith(".safetensors"))
                  .toList());
      for (String name : written) {
        if (!name.equals("metrics.jsonl")) {
          assertThat(out.resolve(name)).hasSameBinaryContentAs(original.resolve(name));
        }
      }
      assertThat(out.resolve("metrics.jsonl")).hasContent("kept\n");
    }
  }

  private static List<String> names(Path folder) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.map(file -> file.getFileName().toString()).sorted().toList();
    }
  }

  /// Two steps with F32 masters from whatever type the checkpoint has.
  @ParameterizedTest
  @MethodSource("families")
  void aTrainedModelComesBackInItsOwnTypesAndNames(String family) throws IOException {
    try (GoldenModel golden = GoldenModel.open(family, original);
        TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      Weights masters = golden.scaled(Map.of(), arena);
      AdamW optimizer = new AdamW(masters, AdamW.Options.RETMASK, ops, arena);
      LabelledBatch batch =
          LabelledBatch.of(
              List.of(Example.of(5, 1, 9, 40, 7, 3, 250)),
              HeadMask.none(golden.config().layerCount(), golden.config().heads()));
      Loss loss = CrossEntropyLoss.over(batch);
      double before;
      try (Transformer model = new Transformer(golden.config(), masters, ops)) {
        before = loss.part(LogProbs.of(model, batch, arena), loss.units()).loss();
        for (int step = 1; step <= 2; step++) {
          LogProbs.gradients(
              optimizer.gradients(),
              null,
              model,
              batch,
              loss,
              loss.units(),
              GradientCheckpointing.OFF,
              arena);
          optimizer.step(step, 0.01, optimizer.gradientNorm());
        }
      }
      TrainedCheckpoint.save(masters, golden.checkpoint(), ops, out);
      try (Checkpoint saved = Checkpoint.open(out)) {
        assertThat(saved.entries()).isEqualTo(golden.checkpoint().entries());
        Map<String, Tensor> trained = golden.byName(masters, ops, arena);
        for (SafeTensors.Entry entry : saved.entries()) {
          Tensor wanted = arena.allocate("wanted", entry.readable(), entry.shape().dims());
          ops.cast(wanted, trained.get(entry.name()));
          assertThat(saved.tensor(entry.name()).toFloats())
              .as(entry.name())
              .isEqualTo(wanted.toFloats())
              .isNotEqualTo(golden.checkpoint().tensor(entry.name()).toFloats());
        }
        Weights reloaded =
            Architecture.of(saved.config()).weights(golden.config(), saved.config(), saved::tensor);
        try (Transformer model = new Transformer(golden.config(), reloaded, ops)) {
          double after = loss.part(LogProbs.of(model, batch, arena), loss.units()).loss();
          assertThat(after).isLessThan(before);
        }
      }
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
