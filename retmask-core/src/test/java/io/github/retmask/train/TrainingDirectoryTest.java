package io.github.retmask.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.io.FormatException;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// What the folder of a training guards against.
class TrainingDirectoryTest {
  private static final Map<String, String> OPTIONS = Map.of("rate", "1");

  private final Ops ops = new Ops(new ReferenceBackend().open(1));
  private final TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
  private final Weights weights = TinyModel.weights(false, 1, arena);
  private final AdamW optimizer =
      new AdamW(weights, new AdamW.Options(0.9, 0.95, 1e-8, 0, 1), ops, arena);

  @TempDir Path folder;

  @AfterEach
  void free() {
    arena.close();
  }

  @Test
  void anInterruptDoesNotCostTheCheckpoint() throws IOException {
    try (TrainingDirectory files = open(TrainingStart.RESUME)) {
      weights.norm().set(0, 42);
      Thread.currentThread().interrupt();
      files.save(new TrainingState(3, 5, 0, Map.of()), weights, optimizer);
      assertThat(Thread.interrupted()).as("still interrupted").isTrue();
      weights.norm().set(0, 0);
      assertThat(files.load(weights, optimizer, ops).step()).isEqualTo(3);
      assertThat(weights.norm().get(0)).isEqualTo(42);
    }
  }

  @Test
  void aStateComesBackAsItWas() throws IOException {
    try (TrainingDirectory files = open(TrainingStart.RESUME)) {
      Map<String, Double> sums = Map.of("loss", 0.1 + 0.2);
      files.save(new TrainingState(7, 1L << 40, 3, sums), weights, optimizer);
      TrainingState state = files.load(weights, optimizer, ops);
      assertThat(state.step()).isEqualTo(7);
      assertThat(state.numTokens()).isEqualTo(1L << 40);
      assertThat(state.count()).isEqualTo(3);
      assertThat(state.sums()).isEqualTo(sums);
    }
  }

  @Test
  void aCheckpointOfAnotherModelIsRefused() throws IOException {
    try (TrainingDirectory files = open(TrainingStart.RESUME)) {
      files.save(new TrainingState(7, 1, 0, Map.of()), weights, optimizer);
      Weights other = MixedModel.weights(1, arena);
      AdamW moments = new AdamW(other, new AdamW.Options(0.9, 0.95, 1e-8, 0, 1), ops, arena);
      assertThatThrownBy(() -> files.load(other, moments, ops))
          .isInstanceOf(FormatException.class)
          .hasMessageContaining("training-state.safetensors");
    }
  }

  @Test
  void aLogFromElsewhereIsNotOverwritten() throws IOException {
    Files.writeString(folder.resolve("metrics.jsonl"), "{}\n");
    assertThatThrownBy(() -> open(TrainingStart.RESUME))
        .isInstanceOf(IOException.class)
        .hasMessage(
            folder
                + ": holds a metrics.jsonl but no training.json, so it is not from here."
                + " Use another folder, or --restart");
    assertThat(folder.resolve("metrics.jsonl")).hasContent("{}\n");
    open(TrainingStart.RESTART).close();
    assertThat(folder.resolve("metrics.jsonl")).isEmptyFile();
  }

  @Test
  void whatAKillLeftBehindTheEndIsRemoved() throws IOException {
    try (TrainingDirectory files = open(TrainingStart.RESUME)) {
      files.finish();
    }
    Files.writeString(folder.resolve("training-state.safetensors"), "left");
    Files.writeString(folder.resolve("more"), "left");
    try (TrainingDirectory files = open(TrainingStart.RESUME)) {
      assertThat(files.isFinished()).isTrue();
    }
    try (var names = Files.list(folder)) {
      assertThat(names.map(f -> f.getFileName().toString()))
          .containsExactlyInAnyOrder("metrics.jsonl", "training.json");
    }
  }

  private TrainingDirectory open(TrainingStart start) throws IOException {
    return TrainingDirectory.open(folder, OPTIONS, List.of("more"), start);
  }
}
