package io.github.retmask.generate;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.model.KvCache;
import io.github.retmask.model.Observer;
import io.github.retmask.model.ReadoutRequest;
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
      int rows = 3;
      int prefill = 37;
      long planned = MemoryPlan.of(model.transformer(), rows, 100, prefill).activations();
      try (KvCache cache = new KvCache(model.config(), model.transformer().ops(), rows, 99);
          HostArena step = new HostArena()) {
        List<Batch.Row> batch = new ArrayList<>();
        batch.add(new Batch.Row(0, new int[prefill], none, Batch.Phase.PREFILL));
        for (int r = 1; r < rows; r++) {
          batch.add(new Batch.Row(r, new int[1], none, Batch.Phase.DECODE));
        }
        Activations a =
            model
                .transformer()
                .forward(
                    new Batch(batch),
                    cache,
                    Activations.Keep.RESULT,
                    ReadoutRequest.NONE,
                    step,
                    Observer.NONE);
        var _ = model.transformer().logits(a, step, prefill - 1, prefill, prefill + 1);
        assertThat(step.usedBytes()).isLessThanOrEqualTo(planned).isGreaterThan(planned / 3);
      }
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
