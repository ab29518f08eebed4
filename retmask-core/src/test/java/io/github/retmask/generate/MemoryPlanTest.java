package io.github.retmask.generate;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.Batch;
import io.github.retmask.model.KvCache;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.model.TokenStates;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.tensor.HostArena;
import java.io.IOException;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class MemoryPlanTest {
  @ParameterizedTest
  @ValueSource(strings = {"llama", "planted"})
  void weightsAreCountedOnceAndNoMoreThanTheFilesHold(String family) throws IOException {
    try (PretrainedModel model = TestModels.golden(family)) {
      long files = 0;
      for (var file : model.checkpoint().files()) {
        files += Files.size(file.file());
      }
      long weights = MemoryPlan.of(model.transformer(), 1, 10, 4).weights();
      assertThat(weights).isLessThanOrEqualTo(files).isGreaterThan(files - 40_000);
    }
  }

  @Test
  void weightsInMemoryOfTheProcessAreTakenAlready() {
    try (TinyModel tiny = new TinyModel(new ReferenceBackend().open(1))) {
      assertThat(MemoryPlan.of(tiny.model, 3, 50, 4).weights()).isZero();
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama", "planted"})
  void activationsOfAStepTakeNoMoreThanPlanned(String family) throws IOException {
    try (PretrainedModel model = TestModels.golden(family)) {
      HeadMask none = model.transformer().noMask();
      int prefill = 37;
      List<Batch.Row> batch = new ArrayList<>();
      batch.add(new Batch.Row(0, new int[prefill], none, Batch.Phase.PREFILL));
      batch.add(new Batch.Row(1, new int[1], none, Batch.Phase.DECODE));
      batch.add(new Batch.Row(2, new int[1], none, Batch.Phase.DECODE));
      assertFitsPlan(model, batch, 100, prefill);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama", "planted"})
  void twinsThatReadTogetherTakeNoMoreThanPlanned(String family) throws IOException {
    try (PretrainedModel model = TestModels.golden(family)) {
      HeadMask none = model.transformer().noMask();
      HeadMask off = none.withGate(List.of(new HeadId(0, 0)), 0);
      int piece = 18;
      List<Batch.Row> batch = new ArrayList<>();
      batch.add(new Batch.Row(0, new int[piece], none, Batch.Phase.PREFILL));
      batch.add(new Batch.Row(1, new int[piece], off, Batch.Phase.PREFILL));
      batch.add(new Batch.Row(2, new int[1], none, Batch.Phase.DECODE));
      assertFitsPlan(model, batch, 100, 2 * piece);
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama", "planted"})
  void shortPromptsThatOneStepReadsAreAllCounted(String family) throws IOException {
    try (PretrainedModel model = TestModels.golden(family)) {
      HeadMask none = model.transformer().noMask();
      List<Batch.Row> batch = new ArrayList<>();
      for (int r = 0; r < 4; r++) {
        batch.add(new Batch.Row(r, new int[] {r, 1, 2, 3, 4, 5, 6, 7}, none, Batch.Phase.PREFILL));
      }
      assertFitsPlan(model, batch, 8, 64);
    }
  }

  private static void assertFitsPlan(
      PretrainedModel model, List<Batch.Row> batch, int positions, int prefill) {
    int rows = batch.size();
    int[] last = new int[rows];
    for (int r = 0; r < rows; r++) {
      last[r] = (r == 0 ? -1 : last[r - 1]) + batch.get(r).ids().length;
    }
    long planned = MemoryPlan.of(model.transformer(), rows, positions, prefill).activations();
    try (KvCache cache = new KvCache(model.transformer(), rows, 99);
        HostArena step = new HostArena()) {
      TokenStates states =
          model.transformer().states(new Batch(batch), cache, ReadoutRequest.NONE, step, last);
      var _ = model.transformer().logits(states.hidden(), step);
      assertThat(step.usedBytes()).isLessThanOrEqualTo(planned).isGreaterThan(planned / 3);
    }
  }

  @Test
  void theLongestContextThatFitsIsFound() throws IOException {
    try (PretrainedModel model = TestModels.golden("llama")) {
      long most = MemoryPlan.of(model.transformer(), 1, 777, 64).total();
      assertThat(MemoryPlan.positionsWithin(most, model.transformer(), 64)).isEqualTo(777);
      assertThat(MemoryPlan.positionsWithin(most - 1, model.transformer(), 64)).isEqualTo(776);
      assertThat(MemoryPlan.positionsWithin(100, model.transformer(), 64)).isZero();
      assertThat(MemoryPlan.positionsWithin(Long.MAX_VALUE, model.transformer(), 64))
          .isEqualTo(model.config().maxPositions());
    }
  }
}
