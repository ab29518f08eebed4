package io.github.retmask.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.io.SafeTensors;
import io.github.retmask.io.SafeTensorsWriter;
import io.github.retmask.model.Weights;
import io.github.retmask.random.SplitMix64;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/// Training from scratch: it learns, it stops on broken numbers, and wherever it is killed it ends
/// with the same files.
class LanguageModelTrainerTest {
  private static final int STEPS = 7;
  private static final int LONGEST = 8; // tokens of an example
  private static final AdamW.Options ADAMW = new AdamW.Options(0.9, 0.95, 1e-8, 0.1, 1);

  private final Ops ops = new Ops(new ReferenceBackend().open(1));

  @TempDir Path folder;

  /// What a process that dies at this point looks like from inside.
  private static final class Killed extends RuntimeException {
    private static final long serialVersionUID = 1L;
  }

  @Test
  void lossFallsOnCountingSequences() throws Exception {
    Path out = folder.resolve("run");
    train(out, options(60, 1, 60, 0.02), TrainingStart.RESUME, this::counting, p -> {});
    List<JsonNode> log = log(out);
    assertThat(log).hasSize(60);
    assertThat(log.getFirst().get("loss").doubleValue()).isGreaterThan(2);
    assertThat(log.getLast().get("loss").doubleValue()).isLessThan(0.7);
  }

  @Test
  void aLogLineHoldsTheNamesOfTrl() throws Exception {
    Path out = folder.resolve("run");
    train(out, options(STEPS, 3, 2, 0.01), TrainingStart.RESUME, this::counting, p -> {});
    List<JsonNode> log = log(out);
    assertThat(log).extracting(l -> l.get("step").intValue()).containsExactly(3, 6, 7);
    assertThat(log.getLast().propertyStream().map(Map.Entry::getKey))
        .containsExactly("step", "epoch", "loss", "learning_rate", "grad_norm", "num_tokens");
    assertThat(log.getLast().get("epoch").doubleValue()).isEqualTo(1);
  }

  @Test
  void aLogLineHoldsTheMeanLossSinceTheLineBefore() throws Exception {
    Path out = folder.resolve("run");
    List<Double> losses = new ArrayList<>();
    LanguageModelTrainer.Options options = options(STEPS, 3, 2, 0.01);
    train(out, options, TrainingStart.RESUME, this::counting, p -> losses.add(p.loss()));
    assertThat(log(out))
        .extracting(l -> l.get("loss").doubleValue())
        .containsExactly(
            (losses.get(0) + losses.get(1) + losses.get(2)) / 3,
            (losses.get(3) + losses.get(4) + losses.get(5)) / 3,
            losses.get(6));
  }

  /// Gradients summed over micro-batches and clipped; updates within the backward; now and then a step
  /// of two micro-batches in between.
  private static Stream<LanguageModelTrainer.Options> ways() {
    return Stream.of(
        options(STEPS, 3, 2, 0.01), unclipped(LONGEST * 3, 2), unclipped(LONGEST * 3 - 4, 2));
  }

  @ParameterizedTest
  @MethodSource("ways")
  void killedAfterAnyStepItEndsWithTheSameBytes(LanguageModelTrainer.Options options)
      throws Exception {
    Path whole = folder.resolve("whole");
    train(whole, options, TrainingStart.RESUME, this::counting, p -> {});
    for (int kill = 1; kill <= STEPS; kill++) {
      Path out = folder.resolve("killed-" + kill);
      long at = kill;
      TrainingListener dieThere =
          p -> {
            if (p.step() == at) {
              throw new Killed();
            }
          };
      assertThatThrownBy(() -> train(out, options, TrainingStart.RESUME, this::counting, dieThere))
          .isInstanceOf(Killed.class);
      List<Long> seen = new ArrayList<>();
      train(out, options, TrainingStart.RESUME, this::counting, p -> seen.add(p.step()));
      if (kill == STEPS) {
        assertThat(seen).isEmpty();
      } else {
        assertThat(seen.getFirst()).isEqualTo(kill / 2 * 2 + 1); // a checkpoint every second step
      }
      assertSameFiles(out, whole);
    }
  }

  @Test
  void gradientCheckpointingChangesNoByteAndMayBeTurnedOnInBetween() throws Exception {
    LanguageModelTrainer.Options off = options(STEPS, 3, 2, 0.01);
    Path whole = folder.resolve("whole");
    train(whole, off, TrainingStart.RESUME, this::counting, p -> {});
    Trainer.Options training = off.training();
    LanguageModelTrainer.Options on =
        new LanguageModelTrainer.Options(
            off.steps(),
            off.batchSize(),
            off.microBatchTokens(),
            new Trainer.Options(
                training.schedule(),
                training.optimizer(),
                training.logEvery(),
                training.checkpointEvery(),
                GradientCheckpointing.ON));
    Path out = folder.resolve("changed");
    TrainingListener dieAfterThree =
        p -> {
          if (p.step() == 3) {
            throw new Killed();
          }
        };
    assertThatThrownBy(() -> train(out, off, TrainingStart.RESUME, this::counting, dieAfterThree))
        .isInstanceOf(Killed.class);
    train(out, on, TrainingStart.RESUME, this::counting, p -> {});
    assertSameFiles(out, whole);
  }

  @Test
  void killedAtEveryStepItEndsWithTheSameBytes() throws Exception {
    LanguageModelTrainer.Options options = options(STEPS, 3, 1, 0.01);
    Path whole = folder.resolve("whole");
    train(whole, options, TrainingStart.RESUME, this::counting, p -> {});
    Path out = folder.resolve("killed");
    for (int i = 0; i < STEPS; i++) {
      assertThatThrownBy(
              () ->
                  train(
                      out,
                      options,
                      TrainingStart.RESUME,
                      this::counting,
                      p -> {
                        throw new Killed();
                      }))
          .isInstanceOf(Killed.class);
    }
    train(out, options, TrainingStart.RESUME, this::counting, p -> {});
    assertSameFiles(out, whole);
  }

  @Test
  void killedBetweenResultAndEndItWritesTheSameResultAgain() throws Exception {
    LanguageModelTrainer.Options options = options(STEPS, 3, 2, 0.01);
    Path whole = folder.resolve("whole");
    train(whole, options, TrainingStart.RESUME, this::counting, p -> {});
    Path out = folder.resolve("killed");
    assertThatThrownBy(
            () ->
                LanguageModelTrainer.train(
                    TinyModel.config(false),
                    memory -> TinyModel.weights(false, 1, memory),
                    ops,
                    options,
                    this::counting,
                    Map.of("seed", "1"),
                    out,
                    TrainingStart.RESUME,
                    weights -> {
                      save(weights, out);
                      throw new Killed();
                    },
                    p -> {}))
        .isInstanceOf(Killed.class);
    train(out, options, TrainingStart.RESUME, this::counting, p -> {});
    assertSameFiles(out, whole);
  }

  @Test
  void anInterruptLeavesACheckpointOfTheStepAtHand() throws Exception {
    LanguageModelTrainer.Options options = options(STEPS, 3, 100, 0.01);
    Path whole = folder.resolve("whole");
    train(whole, options, TrainingStart.RESUME, this::counting, p -> {});
    Path out = folder.resolve("interrupted");
    assertThatThrownBy(
            () ->
                train(
                    out,
                    options,
                    TrainingStart.RESUME,
                    i -> {
                      if (i == 4 * 3 + 1) { // while step 5 is under way
                        Thread.currentThread().interrupt();
                      }
                      return counting(i);
                    },
                    p -> {}))
        .isInstanceOf(InterruptedException.class)
        .hasMessageContaining("after step 5 of 7");
    List<Long> seen = new ArrayList<>();
    train(out, options, TrainingStart.RESUME, this::counting, p -> seen.add(p.step()));
    assertThat(seen).containsExactly(6L, 7L);
    assertSameFiles(out, whole);
  }

  @Test
  void aFinishedTrainingIsLeftAsItIs() throws Exception {
    LanguageModelTrainer.Options options = options(STEPS, 3, 2, 0.01);
    Path out = folder.resolve("run");
    train(out, options, TrainingStart.RESUME, this::counting, p -> {});
    train(
        out,
        options,
        TrainingStart.RESUME,
        this::counting,
        p -> {
          throw new Killed();
        });
    assertThat(names(out)).containsExactly("metrics.jsonl", "model.safetensors", "training.json");
  }

  @Test
  void otherOptionsAreRefusedByName() throws Exception {
    Path out = folder.resolve("run");
    train(out, options(STEPS, 3, 2, 0.01), TrainingStart.RESUME, this::counting, p -> {});
    assertThatThrownBy(
            () ->
                train(
                    out, options(STEPS, 1, 2, 0.02), TrainingStart.RESUME, this::counting, p -> {}))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage(
            out
                + ": holds a training with other options: log_every was 3, now 1;"
                + " schedule was Constant[peak=0.01, warmup=0], now Constant[peak=0.02, warmup=0]."
                + " Use those, another folder, or --restart");
  }

  @Test
  void restartBeginsAnew() throws Exception {
    Path out = folder.resolve("run");
    train(out, options(STEPS, 3, 2, 0.02), TrainingStart.RESUME, this::counting, p -> {});
    List<Long> seen = new ArrayList<>();
    LanguageModelTrainer.Options options = options(STEPS, 1, 2, 0.01);
    train(out, options, TrainingStart.RESTART, this::counting, p -> seen.add(p.step()));
    assertThat(seen).hasSize(STEPS);
    Path fresh = folder.resolve("fresh");
    train(fresh, options, TrainingStart.RESUME, this::counting, p -> {});
    assertSameFiles(out, fresh);
  }

  @Test
  void aShortenedLogIsRefused() throws Exception {
    Path out = folder.resolve("run");
    LanguageModelTrainer.Options options = options(STEPS, 1, 2, 0.01);
    assertThatThrownBy(
            () ->
                train(
                    out,
                    options,
                    TrainingStart.RESUME,
                    this::counting,
                    p -> {
                      if (p.step() == 4) {
                        throw new Killed();
                      }
                    }))
        .isInstanceOf(Killed.class);
    Files.writeString(out.resolve("metrics.jsonl"), "");
    assertThatThrownBy(() -> train(out, options, TrainingStart.RESUME, this::counting, p -> {}))
        .isInstanceOf(IOException.class)
        .hasMessageContaining("metrics.jsonl: has 0 bytes, but had");
  }

  @Test
  void aSecondTrainingIntoTheSameFolderIsRefusedWhileTheFirstRuns() throws Exception {
    Path out = folder.resolve("run");
    LanguageModelTrainer.Options options = options(STEPS, 1, 2, 0.01);
    train(
        out,
        options,
        TrainingStart.RESUME,
        this::counting,
        p ->
            assertThatThrownBy(
                    () -> train(out, options, TrainingStart.RESUME, this::counting, q -> {}))
                .isInstanceOf(IOException.class)
                .hasMessageContaining("another process is training into this folder"));
  }

  @ParameterizedTest
  @MethodSource("ways")
  void brokenNumbersStopTheTrainingAndKeepTheLastCheckpoint(LanguageModelTrainer.Options options)
      throws Exception {
    Path out = folder.resolve("run");
    // a broken source, and where the numbers of step 6 begin
    ExampleSource source =
        i -> {
          Example example = counting(i);
          if (i >= 15) {
            example.weights()[3] = Float.NaN;
          }
          return example;
        };
    for (int attempt = 0; attempt < 2; attempt++) {
      assertThatThrownBy(() -> train(out, options, TrainingStart.RESUME, source, p -> {}))
          .isInstanceOf(ArithmeticException.class)
          .hasMessageContaining("training: step 6 has loss NaN")
          .hasMessageContaining("Try a lower learning rate");
    }
    assertThat(names(out))
        .contains("training-state.safetensors")
        .doesNotContain("model.safetensors");
    try (SafeTensors state = SafeTensors.open(out.resolve("training-state.safetensors"))) {
      assertThat(state.metadata().get("state")).contains("\"step\":4,");
    }
  }

  /// Ids that count upwards from a start that depends on the index, all labelled but one.
  private Example counting(long index) {
    SplitMix64 random = new SplitMix64(index);
    int start = random.nextInt(TinyModel.VOCAB);
    int[] ids = new int[LONGEST - random.nextInt(4)];
    for (int t = 0; t < ids.length; t++) {
      ids[t] = (start + t) % TinyModel.VOCAB;
    }
    Example example = Example.of(ids);
    example.weights()[2] = 0.3f;
    return example;
  }

  private static LanguageModelTrainer.Options options(
      long steps, int logEvery, int checkpointEvery, double rate) {
    return new LanguageModelTrainer.Options(
        steps,
        3,
        13,
        new Trainer.Options(
            new LrSchedule.Constant(rate, 0),
            ADAMW,
            logEvery,
            checkpointEvery,
            GradientCheckpointing.OFF));
  }

  private static LanguageModelTrainer.Options unclipped(int microBatchTokens, int checkpointEvery) {
    return new LanguageModelTrainer.Options(
        STEPS,
        3,
        microBatchTokens,
        new Trainer.Options(
            new LrSchedule.Constant(0.01, 0),
            new AdamW.Options(0.9, 0.95, 1e-8, 0.1, Double.POSITIVE_INFINITY),
            3,
            checkpointEvery,
            GradientCheckpointing.OFF));
  }

  private void train(
      Path out,
      LanguageModelTrainer.Options options,
      TrainingStart start,
      ExampleSource source,
      TrainingListener progress)
      throws IOException, InterruptedException {
    LanguageModelTrainer.train(
        TinyModel.config(false),
        memory -> TinyModel.weights(false, 1, memory),
        ops,
        options,
        source,
        Map.of("seed", "1"),
        out,
        start,
        weights -> save(weights, out),
        progress);
  }

  private static void save(Weights weights, Path out) throws IOException {
    SafeTensorsWriter writer = new SafeTensorsWriter(Map.of());
    weights.tensors().forEach(writer::add);
    writer.writeTo(out.resolve("model.safetensors"));
  }

  private static List<JsonNode> log(Path out) throws IOException {
    List<JsonNode> lines = new ArrayList<>();
    for (String line : Files.readAllLines(out.resolve("metrics.jsonl"))) {
      lines.add(new JsonMapper().readTree(line));
    }
    return lines;
  }

  private static List<String> names(Path out) throws IOException {
    try (var files = Files.list(out)) {
      return files.map(f -> f.getFileName().toString()).sorted().toList();
    }
  }

  private static void assertSameFiles(Path got, Path wanted) throws IOException {
    assertThat(names(got)).isEqualTo(names(wanted));
    for (String name : names(wanted)) {
      assertThat(got.resolve(name)).hasSameBinaryContentAs(wanted.resolve(name));
    }
  }
}
