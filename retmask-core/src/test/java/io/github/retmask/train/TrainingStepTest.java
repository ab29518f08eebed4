package io.github.retmask.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.model.LayerWeights;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import io.github.retmask.train.StepSource.MicroBatch;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// When a step updates within its backward, and what its gradients take then. That both ways have the
/// same bits is a part of [GradientContract].
class TrainingStepTest {
  private static final double NONE = Double.POSITIVE_INFINITY;

  private final Ops ops = new Ops(new ReferenceBackend().open(1));

  private static AdamW.Options clippedTo(double norm) {
    return new AdamW.Options(0.9, 0.95, 1e-8, 0.1, norm);
  }

  /// Runs steps of so many micro-batches each, one after the other, and returns the floats of their
  /// gradients.
  private long gradientFloats(boolean tied, int repeats, double maxGradNorm, int... microBatches) {
    ModelConfig config = MixedModel.config(repeats);
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
        TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
      Weights weights = weights(config, tied, arena);
      long before = arena.usedBytes();
      AdamW optimizer = new AdamW(weights, clippedTo(maxGradNorm), ops, arena);
      before +=
          Float.BYTES * (padded(optimizer.firstMoments()) + padded(optimizer.secondMoments()));
      try (Transformer model = new Transformer(config, weights, ops)) {
        LabelledBatch batch = LabelledBatch.of(List.of(Example.of(3, 1, 4, 1)), model.noMask());
        MicroBatch one = new MicroBatch(batch, CrossEntropyLoss.over(batch));
        for (int i = 0; i < microBatches.length; i++) {
          List<MicroBatch> parts = Collections.nCopies(microBatches[i], one);
          var _ =
              TrainingStep.run(
                  model, optimizer, parts, GradientCheckpointing.OFF, i + 1, 0.01, step);
        }
      }
      return (arena.usedBytes() - before) / Float.BYTES;
    }
  }

  private static Weights weights(ModelConfig config, boolean tied, TensorArena arena) {
    Weights mixed = MixedModel.weights(config, 1, arena);
    Tensor head = tied ? mixed.lmHead() : MixedModel.weights(config, 2, arena).lmHead();
    return new Weights(mixed.embedTokens(), mixed.layers(), mixed.norm(), head);
  }

  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void withinTheBackwardGradientsOfOneLayerExist(boolean tied) {
    long floats = gradientFloats(tied, 1, NONE, 1, 1);
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      Weights weights = weights(MixedModel.config(), tied, arena);
      long layer = weights.layers().stream().mapToLong(TrainingStepTest::padded).max().orElse(0);
      long embedding = tied ? padded(weights.embedTokens(), 16) : 0; // else in turn
      assertThat(floats).isEqualTo(layer + embedding);
    }
    assertThat(gradientFloats(tied, 4, NONE, 1, 1)).isEqualTo(floats);
  }

  private static long padded(Weights weights) {
    return weights.tensors().stream().mapToLong(t -> padded(t, 16)).sum();
  }

  private static long padded(LayerWeights layer) {
    return layer.tensors().stream().mapToLong(t -> padded(t, 64)).sum();
  }

  private static long padded(Tensor tensor, int floats) {
    return Math.ceilDiv(tensor.size(), floats) * floats;
  }

  @Test
  void clippingAndFurtherMicroBatchesNeedAllGradients() {
    long all = gradientFloats(true, 2, 1, 1);
    assertThat(all).isGreaterThan(3 * gradientFloats(true, 2, NONE, 1));
    assertThat(gradientFloats(true, 2, NONE, 2)).isEqualTo(all);
    assertThat(gradientFloats(true, 2, NONE, 2, 1, 2)).isEqualTo(all);
  }

  @Test
  void whoClipsTakesTheMemoryOfAllGradientsAtOnce() {
    assertThat(gradientFloats(true, 2, 1)).isEqualTo(gradientFloats(true, 2, 1, 1));
    assertThat(gradientFloats(true, 2, NONE)).isZero();
  }

  @Test
  void stepsOfEitherKindTakeLittleMoreThanAllGradients() {
    long layer = gradientFloats(false, 1, NONE, 1);
    assertThat(gradientFloats(true, 2, NONE, 1, 2, 1))
        .isLessThanOrEqualTo(gradientFloats(true, 2, NONE, 2) + layer);
  }

  @Test
  void anUpdateWithinTheBackwardRefusesToClipOrToTakeMoreMemory() {
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      Weights weights = TinyModel.weights(true, 1, arena);
      AdamW clips = new AdamW(weights, clippedTo(1), ops, arena);
      assertThatThrownBy(() -> clips.inBackward(1, 0.01))
          .isInstanceOf(IllegalStateException.class)
          .hasMessageContaining("maxGradNorm=1.0], all gradients");
      AdamW holdsAll = new AdamW(weights, clippedTo(NONE), ops, arena);
      var _ = holdsAll.gradients();
      assertThatThrownBy(() -> holdsAll.inBackward(1, 0.01))
          .isInstanceOf(IllegalStateException.class)
          .hasMessageContaining("maxGradNorm=Infinity], all gradients");
    }
  }

  @ParameterizedTest
  @ValueSource(doubles = {1, NONE})
  void gradientsThatAreNotFiniteEndTheTrainingThoughTheLossIs(double maxGradNorm) {
    ModelConfig config = MixedModel.config();
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
        TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
      Weights weights = weights(config, true, arena);
      AdamW optimizer = new AdamW(weights, clippedTo(maxGradNorm), ops, arena);
      Weights grads =
          optimizer.updatesInBackward()
              ? optimizer.inBackward(1, 0.01).gradients()
              : optimizer.gradients();
      grads.embedTokens().set(0, Float.NaN);
      try (Transformer model = new Transformer(config, weights, ops)) {
        LabelledBatch batch = LabelledBatch.of(List.of(Example.of(3, 1, 4, 1)), model.noMask());
        List<MicroBatch> only = List.of(new MicroBatch(batch, CrossEntropyLoss.over(batch)));
        assertThatThrownBy(
                () ->
                    TrainingStep.run(
                        model, optimizer, only, GradientCheckpointing.OFF, 1, 0.01, step))
            .isInstanceOf(ArithmeticException.class)
            .hasMessageContaining("gradient norm NaN")
            .message()
            .doesNotContain("loss NaN");
      }
    }
  }
}
