package io.github.retmask.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.model.RopeSpec;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

class LogProbsTest {
  private final Ops ops = new Ops(new ReferenceBackend().open(1));

  private static final Example A =
      new Example(new int[] {1, 2, 3, 4, 5}, new float[] {1, 0, 1, 0.5f, 0});
  private static final Example B = new Example(new int[] {7, 7, 7}, new float[] {0, 0, 0});
  private static final Example C = Example.of(9, 10, 0, 2);

  @Test
  void onlyLabelledTokensAreCountedRowByRow() {
    LabelledBatch batch = LabelledBatch.of(List.of(A, B, C), HeadMask.none(3, 6));
    assertThat(batch.labels()).isEqualTo(5);
    assertThat(batch.targets()).containsExactly(3, 4, 10, 0, 2);
    assertThat(batch.rowStart()).containsExactly(0, 2, 2, 5);
    assertThat(batch.labelWeights()).containsExactly(1, 0.5f, 1, 1, 1);
    assertThat(batch.tokens()).isEqualTo(12);
  }

  @Test
  void valuesAreTheLogSoftmaxOfTheLogits() {
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
        Transformer model =
            new Transformer(MixedModel.config(), MixedModel.weights(1, arena), ops)) {
      HeadMask mask = model.noMask().withGate(List.of(new HeadId(1, 2), new HeadId(2, 0)), 0.3f);
      LabelledBatch batch =
          new LabelledBatch(List.of(A, B, C), List.of(mask, model.noMask(), mask));
      TokenLogProbs got = LogProbs.of(model, batch, arena);
      int at = 0;
      for (Example row : List.of(A, C)) {
        Activations a = model.forward(Batch.of(Batch.Row.whole(row.ids(), mask)), arena);
        for (int t = 1; t < row.ids().length; t++) {
          if (row.weights()[t] != 0) {
            float[] logits = model.logits(a, arena, t - 1).toFloats();
            double sum = 0;
            for (float logit : logits) {
              sum += Math.exp(logit);
            }
            double wanted = logits[row.ids()[t]] - Math.log(sum);
            // sums and logits of size below 8, rounded to F32 a few times
            assertThat(Math.abs(got.values()[at] - wanted) <= 8 * 4 * 0x1p-24)
                .as("token %d: %s, want %s", t, got.values()[at], wanted)
                .isTrue();
            at++;
          }
        }
      }
      assertThat(at).isEqualTo(got.values().length);
    }
  }

  @Test
  void aStepInPartsHasTheLossAndGradientOfTheWhole() {
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      Weights weights = MixedModel.weights(1, arena);
      List<Example> rows = List.of(A, C, Example.of(4, 4, 8), Example.of(0, 9, 1, 3, 3, 2));
      Weights whole = zeros(weights, arena);
      double loss = gradients(whole, weights, rows, units(rows));
      Weights parts = zeros(weights, arena);
      double sum = 0;
      for (Example row : rows) {
        sum += gradients(parts, weights, List.of(row), units(rows));
      }
      assertThat(Math.abs(sum - loss) <= 1e-15 * loss).isTrue(); // sums in double
      for (int t = 0; t < whole.tensors().size(); t++) {
        float[] wanted = whole.tensors().get(t).toFloats();
        float[] got = parts.tensors().get(t).toFloats();
        double error = 0;
        double norm = 0;
        for (int i = 0; i < wanted.length; i++) {
          error += Math.pow(got[i] - (double) wanted[i], 2);
          norm += Math.pow(wanted[i], 2);
        }
        // four partial sums in F32 instead of one sum in double
        assertThat(Math.sqrt(error) <= 4 * 0x1p-23 * Math.sqrt(norm))
            .as("%s: relative error %s", whole.tensors().get(t), Math.sqrt(error / norm))
            .isTrue();
      }
    }
  }

  /// `tokens` tokens that begin with `common` ones alike, and two labelled ones.
  private static Example begins(int common, int tokens, int own) {
    int[] ids = new int[tokens + 2];
    Arrays.setAll(ids, t -> t < common ? t * t % 11 : (t * own + own) % 11);
    float[] weights = new float[ids.length];
    weights[tokens] = 1;
    weights[tokens + 1] = 1;
    return new Example(ids, weights);
  }

  private static List<Batch.Prefix> prefixes(ModelConfig config, Example... rows) {
    LabelledBatch batch = LabelledBatch.of(List.of(rows), HeadMask.none(3, 6));
    return batch.input(config).batch().rows().stream().map(Batch.Row::prefix).toList();
  }

  @Test
  void pairsShareTheirPromptsWhateverAllPromptsBeginWith() {
    Batch.Prefix none = Batch.Prefix.NONE;
    Example one = begins(20, 60, 3); // prompts alike in 20 tokens
    Example other = begins(20, 60, 5);
    ModelConfig config = MixedModel.config();
    assertThat(prefixes(config, one, one, other, other))
        .containsExactly(none, new Batch.Prefix(0, 59), none, new Batch.Prefix(2, 59));
    assertThat(prefixes(config, one, other, begins(20, 60, 7)))
        .containsExactly(none, new Batch.Prefix(0, 20), new Batch.Prefix(0, 20));
    assertThat(prefixes(config, begins(15, 40, 3), begins(15, 40, 5))).containsOnly(none);
    assertThat(prefixes(config, begins(16, 40, 3), begins(16, 40, 5)))
        .containsExactly(none, new Batch.Prefix(0, 16));
    assertThat(prefixes(config, begins(16, 140, 3), begins(16, 140, 5))).containsOnly(none);
    assertThat(prefixes(null, one, one)).containsOnly(none);
  }

  /// In a context of 61 tokens and one of 60, NTK scaling rotates otherwise, but not below 100.
  @Test
  void contextsThatRotateOtherwiseShareNothing() {
    for (int original : new int[] {50, 100}) {
      RopeSpec rope = new RopeSpec(100, 4, new RopeSpec.DynamicNtk(2, original));
      ModelConfig config = MixedModel.config(1, rope);
      Example longer = begins(40, 41, 3);
      int[] ids = Arrays.copyOf(longer.ids(), 61);
      float[] weights = Arrays.copyOf(longer.weights(), 61);
      Arrays.fill(weights, 41, 61, 1f);
      List<Example> rows = List.of(new Example(ids, weights), longer, longer);
      Batch.Prefix none = Batch.Prefix.NONE;
      Batch.Prefix first = original == 50 ? none : new Batch.Prefix(0, 40);
      assertThat(prefixes(config, rows.toArray(Example[]::new))).startsWith(none, first).hasSize(3);
      try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
          Transformer model = new Transformer(config, MixedModel.weights(config, 1, arena), ops)) {
        LabelledBatch batch = LabelledBatch.of(rows, model.noMask());
        float[] got = LogProbs.of(model, batch, arena).values();
        int at = 0;
        for (Example row : rows) {
          float[] alone =
              LogProbs.of(model, LabelledBatch.of(List.of(row), model.noMask()), arena).values();
          assertThat(Arrays.copyOfRange(got, at, at + alone.length)).isEqualTo(alone);
          at += alone.length;
        }
      }
    }
  }

  @Test
  void prefixesAreFirstTokensOfEarlierWholeRowsUnderTheSameMask() {
    RopeSpec rope = new RopeSpec(100, 4, new RopeSpec.DynamicNtk(2, 3));
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
        Transformer model =
            new Transformer(MixedModel.config(), MixedModel.weights(1, arena), ops);
        Transformer byContext =
            new Transformer(MixedModel.config(1, rope), MixedModel.weights(1, arena), ops)) {
      HeadMask mask = model.noMask().withGate(List.of(new HeadId(1, 2)), 0);
      Batch.Row whole = Batch.Row.whole(new int[] {1, 2, 3}, model.noMask());
      Batch.Row own = Batch.Row.whole(new int[] {4}, model.noMask());
      Batch.Row decoding = new Batch.Row(0, new int[] {4}, model.noMask(), Batch.Phase.DECODE);
      for (Batch batch :
          List.of(
              Batch.of(own.after(0, 1)),
              Batch.of(whole, own.after(1, 1)),
              Batch.of(own.after(1, 1), whole),
              Batch.of(whole, own.after(0, 4)),
              Batch.of(whole, own.after(0, 0)),
              Batch.of(whole, own.after(0, 2), own.after(1, 1)),
              Batch.of(whole, decoding.after(0, 2)),
              Batch.of(whole, Batch.Row.whole(new int[] {4}, mask).after(0, 2)))) {
        assertThatThrownBy(() -> model.forward(batch, arena))
            .isInstanceOf(IllegalArgumentException.class)
            .hasMessageContaining("want at least one of an earlier row that has as many");
      }
      Batch right = Batch.of(whole, own.after(0, 3), own.after(0, 1));
      assertThat(model.forward(right, arena).layout().tokens()).isEqualTo(5);
      assertThatThrownBy(() -> model.states(right, null, ReadoutRequest.NONE, arena, 0))
          .hasMessage("states: rows with prefixes; want whole ones");
      assertThatThrownBy(() -> byContext.forward(right, arena))
          .hasMessage(
              "row 1 begins with tokens of row 0, which this model rotates otherwise in a context of 4 than in one of 3");
    }
  }

  @Test
  void aMaskLeavesNoTraceInTheModel() {
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
        Transformer model =
            new Transformer(MixedModel.config(), MixedModel.weights(1, arena), ops)) {
      LabelledBatch plain = LabelledBatch.of(List.of(A, C), model.noMask());
      HeadMask mask = model.noMask().withGate(List.of(new HeadId(1, 2)), 0);
      float[] before = LogProbs.of(model, plain, arena).values();
      float[] masked = LogProbs.of(model, LabelledBatch.of(List.of(A, C), mask), arena).values();
      float[] after = LogProbs.of(model, plain, arena).values();
      assertThat(masked).isNotEqualTo(before);
      assertThat(after).isEqualTo(before);
    }
  }

  @Test
  void aBatchWithoutLabelsIsRefused() {
    assertThatThrownBy(() -> LabelledBatch.of(List.of(B, B), HeadMask.none(3, 6)))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("labelled batch: no token of its 2 rows has a weight other than 0");
    assertThatThrownBy(() -> new LabelledBatch(List.of(A), List.of()))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("labelled batch: 1 rows and 0 masks, want as many of both and at least 1");
  }

  @Test
  void brokenExamplesAreRefused() {
    assertThatThrownBy(() -> new Example(new int[] {1}, new float[] {1}))
        .isInstanceOf(IllegalArgumentException.class);
    assertThatThrownBy(() -> new Example(new int[] {1, 2}, new float[] {1}))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("example: 2 ids and 1 weights, want as many of both and at least 2");
    assertThatThrownBy(() -> new Example(new int[] {1, 2}, new float[] {0, Float.NaN}))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("example: weight NaN at token 1, want finite and at least 0");
  }

  private static double units(List<Example> rows) {
    return CrossEntropyLoss.over(LabelledBatch.of(rows, HeadMask.none(3, 6))).units();
  }

  private double gradients(Weights grads, Weights weights, List<Example> rows, double units) {
    try (TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
        Transformer model = new Transformer(MixedModel.config(), weights, ops)) {
      LabelledBatch batch = LabelledBatch.of(rows, model.noMask());
      Loss loss = CrossEntropyLoss.over(batch);
      return LogProbs.gradients(
              grads, null, model, batch, loss, units, GradientCheckpointing.OFF, step)
          .loss();
    }
  }

  private static Weights zeros(Weights like, TensorArena arena) {
    return like.map((Tensor t) -> arena.floats(t.name(), t.shape().dims()));
  }
}
