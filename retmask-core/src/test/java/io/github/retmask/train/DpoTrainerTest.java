package io.github.retmask.train;

import static io.github.retmask.train.GradientCheckpointing.OFF;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.SafeTensors;
import io.github.retmask.io.SafeTensorsWriter;
import io.github.retmask.model.Weights;
import io.github.retmask.random.SplitMix64;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// Preference training on a tiny model: it prefers what it was shown, begins at the loss of a coin,
/// and ends with the same files wherever it is killed.
class DpoTrainerTest {
  private static final int PAIRS = 7;
  private static final HeadMask NONE = HeadMask.none(2, 3);
  private static final HeadMask MASKED =
      HeadMask.off(2, 3, List.of(new HeadId(0, 1), new HeadId(1, 2)));

  private final Ops ops = new Ops(new ReferenceBackend().open(1));

  @TempDir Path folder;

  private static final class Killed extends RuntimeException {
    private static final long serialVersionUID = 1L;
  }

  /// Dies after so many events, steps and groups of reference values alike.
  private static final class DieAfter implements TrainingListener {
    private int left;

    DieAfter(int events) {
      this.left = events;
    }

    @Override
    public void step(Trainer.Progress progress) {
      tick();
    }

    @Override
    public void references(int done, int all) {
      tick();
    }

    private void tick() {
      if (--left == 0) {
        throw new Killed();
      }
    }
  }

  @ParameterizedTest
  @EnumSource
  void itLearnsToPreferTheChosenCompletions(Precision precision) throws Exception {
    Path out = folder.resolve("run");
    train(out, options(NONE, 12, 0.01, precision), TrainingStart.RESUME, p -> {});
    List<JsonNode> log = log(out);
    JsonNode last = log.getLast();
    assertThat(last.get("rewards/accuracies").doubleValue()).isEqualTo(1);
    assertThat(last.get("rewards/margins").doubleValue()).isGreaterThan(1);
    assertThat(last.get("loss").doubleValue()).isLessThan(0.3);
    assertThat(last.get("epoch").doubleValue()).isEqualTo(12);
  }

  @Test
  void stepsBelowTheSpacingOfBf16AddUpInTheMasters() throws Exception {
    Path out = folder.resolve("small steps");
    train(out, options(NONE, 12, 1e-4, Precision.BF16), TrainingStart.RESUME, p -> {});
    Path f32 = folder.resolve("f32");
    train(f32, options(NONE, 12, 1e-4), TrainingStart.RESUME, p -> {});
    List<JsonNode> log = log(out);
    double learnt = log.getLast().get("rewards/margins").doubleValue();
    double inF32 = log(f32).getLast().get("rewards/margins").doubleValue();
    assertThat(inF32).isPositive();
    assertThat(learnt).isBetween(0.5 * inF32, 1.5 * inF32);
    assertThat(Files.readString(out.resolve("training.json"))).contains("\"BF16\"");
  }

  @Test
  void theFirstStepHasTheLossOfACoin() throws Exception {
    Path out = folder.resolve("run");
    train(out, options(NONE, 1, 0.01), TrainingStart.RESUME, p -> {});
    JsonNode first = log(out).getFirst();
    // Reference and policy were computed in other batches; a row's result does not depend on that.
    assertThat(first.get("loss").doubleValue()).isEqualTo(StrictMath.log1p(1));
    assertThat(first.get("rewards/chosen").doubleValue()).isZero();
    assertThat(first.get("rewards/rejected").doubleValue()).isZero();
    assertThat(first.propertyStream().map(java.util.Map.Entry::getKey))
        .containsExactly(
            "step",
            "epoch",
            "loss",
            "learning_rate",
            "grad_norm",
            "rewards/chosen",
            "rewards/rejected",
            "rewards/margins",
            "rewards/accuracies",
            "logps/chosen",
            "logps/rejected",
            "num_tokens");
  }

  @Test
  void theReferenceIsNeverMasked() throws Exception {
    Path out = folder.resolve("masked");
    train(out, options(MASKED, 1, 0.01), TrainingStart.RESUME, p -> {});
    JsonNode first = log(out).getFirst();
    assertThat(Math.abs(first.get("rewards/chosen").doubleValue())).isGreaterThan(1e-3);
  }

  @Test
  void everyEpochHasEveryPairOnceInAnOrderOfItsOwn() throws Exception {
    Path out = folder.resolve("run");
    List<Long> tokens = new ArrayList<>();
    train(out, options(NONE, 3, 0.01), TrainingStart.RESUME, p -> tokens.add(p.numTokens()));
    long once = pairs().stream().mapToLong(PreferencePair::tokens).sum();
    // 7 pairs in steps of 3: 3 steps an epoch
    assertThat(tokens).hasSize(9);
    assertThat(List.of(tokens.get(2), tokens.get(5), tokens.get(8)))
        .containsExactly(once, 2 * once, 3 * once);
    long firstOfEpoch1 = tokens.get(0);
    long firstOfEpoch2 = tokens.get(3) - once;
    long firstOfEpoch3 = tokens.get(6) - 2 * once;
    assertThat(firstOfEpoch1 == firstOfEpoch2 && firstOfEpoch2 == firstOfEpoch3).isFalse();
  }

  @ParameterizedTest
  @EnumSource
  void killedAnywhereItEndsWithTheSameBytes(Precision precision) throws Exception {
    DpoTrainer.Options options = options(MASKED, 2, 0.01, precision);
    Path whole = folder.resolve("whole");
    train(whole, options, TrainingStart.RESUME, p -> {});
    for (int events = 1; events <= 12; events++) {
      Path out = folder.resolve("killed-" + events);
      DieAfter killer = new DieAfter(events);
      try {
        train(out, options, TrainingStart.RESUME, killer);
        assertThat(events).isGreaterThan(6 + 4); // 6 steps and 4 groups of references
      } catch (Killed e) {
        train(out, options, TrainingStart.RESUME, p -> {});
      }
      assertSameFiles(out, whole);
    }
  }

  @Test
  void killedAgainAndAgainItEndsWithTheSameBytes() throws Exception {
    DpoTrainer.Options options = options(NONE, 2, 0.01);
    Path whole = folder.resolve("whole");
    train(whole, options, TrainingStart.RESUME, p -> {});
    Path out = folder.resolve("killed");
    int kills = 0;
    while (true) {
      try {
        // two steps: enough to reach the next checkpoint
        train(out, options, TrainingStart.RESUME, new DieAfter(2));
        break;
      } catch (Killed e) {
        kills++;
        assertThat(kills).isLessThan(20);
      }
    }
    assertThat(kills).isGreaterThan(3);
    assertSameFiles(out, whole);
  }

  @Test
  void aLostReferenceFileIsComputedAgain() throws Exception {
    DpoTrainer.Options options = options(NONE, 2, 0.01);
    Path whole = folder.resolve("whole");
    train(whole, options, TrainingStart.RESUME, p -> {});
    Path out = folder.resolve("killed");
    assertThatThrownBy(() -> train(out, options, TrainingStart.RESUME, new DieAfter(4 + 3)))
        .isInstanceOf(Killed.class);
    Files.delete(out.resolve("reference_logps.partial"));
    train(out, options, TrainingStart.RESUME, p -> {});
    assertSameFiles(out, whole);
  }

  @Test
  void anotherModelAndOtherPairsAreRefusedByName() throws Exception {
    Path out = folder.resolve("run");
    train(out, options(NONE, 1, 0.01), TrainingStart.RESUME, p -> {});
    assertThatThrownBy(
            () -> train(out, options(NONE, 1, 0.01), 2, pairs(), TrainingStart.RESUME, p -> {}))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("other options: model was sha256:");
    assertThatThrownBy(
            () ->
                train(
                    out,
                    options(MASKED, 1, 0.01),
                    1,
                    pairs().subList(0, 6),
                    TrainingStart.RESUME,
                    p -> {}))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("pairs was sha256:")
        .hasMessageContaining("policy_mask was none, now gate 0.0: 0-1 1-2;");
  }

  @Test
  void withoutARateNothingChanges() throws Exception {
    Path out = folder.resolve("run");
    LrPlan none = new LrPlan(LrPlan.Shape.CONSTANT, 1, 0, 1); // all steps of a one-step warm-up
    DpoTrainer.Options options =
        new DpoTrainer.Options(0.1, 0, NONE, 1, PAIRS, 30, OFF, 5, none, adamW(), 1, 100);
    train(out, options, TrainingStart.RESUME, p -> {});
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
        SafeTensors trained = SafeTensors.open(out.resolve("model.safetensors"))) {
      for (Tensor tensor : TinyModel.weights(true, 1, arena).tensors()) {
        assertThat(trained.tensor(tensor.name()).toFloats()).isEqualTo(tensor.toFloats());
      }
    }
  }

  @Test
  void memoryThatRanOutOnTheWayIsGivenBack() {
    List<TensorArena> taken = new ArrayList<>();
    Trainer.Options training =
        new Trainer.Options(new LrSchedule.Constant(1e-3, 0), adamW(), 1, 1, OFF, Precision.F32);
    assertThatThrownBy(
            () ->
                new Trainer(
                    TinyModel.config(true),
                    memory -> {
                      taken.add(memory);
                      memory.floats("first", 8);
                      throw new OutOfMemoryError("no room for the second");
                    },
                    ops,
                    training,
                    null))
        .isInstanceOf(OutOfMemoryError.class)
        .hasMessage("no room for the second");
    assertThatThrownBy(() -> taken.getFirst().floats("more", 1)).hasMessageContaining("is closed");
  }

  /// The chosen completion counts upwards, the rejected one downwards.
  private static List<PreferencePair> pairs() {
    List<PreferencePair> pairs = new ArrayList<>();
    for (int p = 0; p < PAIRS; p++) {
      SplitMix64 random = new SplitMix64(p);
      int[] prompt = new int[1 + random.nextInt(4)];
      for (int t = 0; t < prompt.length; t++) {
        prompt[t] = random.nextInt(TinyModel.VOCAB);
      }
      int from = prompt[prompt.length - 1];
      pairs.add(
          new PreferencePair(
              prompt, count(from, 1, 1 + p % 3), count(from, TinyModel.VOCAB - 1, 2)));
    }
    return pairs;
  }

  private static int[] count(int from, int by, int length) {
    int[] ids = new int[length];
    for (int t = 0; t < length; t++) {
      ids[t] = (from + (t + 1) * by) % TinyModel.VOCAB;
    }
    return ids;
  }

  private static AdamW.Options adamW() {
    return new AdamW.Options(0.9, 0.95, 1e-8, 0.1, 1);
  }

  /// Steps of 3 pairs, micro-batches of about 2, checkpoints every second step.
  private static DpoTrainer.Options options(HeadMask mask, int epochs, double rate) {
    return options(mask, epochs, rate, Precision.F32);
  }

  private static DpoTrainer.Options options(
      HeadMask mask, int epochs, double rate, Precision precision) {
    LrPlan plan = new LrPlan(LrPlan.Shape.COSINE, rate, rate / 10, 0.1);
    return new DpoTrainer.Options(
        0.5, 0, mask, epochs, 3, 20, OFF, 5, plan, adamW(), 1, 2, precision);
  }

  private void train(
      Path out, DpoTrainer.Options options, TrainingStart start, TrainingListener listener)
      throws IOException, InterruptedException {
    train(out, options, 1, pairs(), start, listener);
  }

  private void train(
      Path out,
      DpoTrainer.Options options,
      long modelSeed,
      List<PreferencePair> pairs,
      TrainingStart start,
      TrainingListener listener)
      throws IOException, InterruptedException {
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      DpoTrainer.train(
          TinyModel.config(true),
          TinyModel.weights(true, modelSeed, arena),
          ops,
          options,
          PreferenceData.of(pairs, 64),
          out,
          start,
          weights -> save(weights, out),
          listener);
    }
  }

  private static void save(Weights weights, Path out) throws IOException {
    SafeTensorsWriter writer = new SafeTensorsWriter(java.util.Map.of());
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
