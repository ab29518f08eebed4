package io.github.retmask.train;

import static java.util.Objects.requireNonNull;
import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.Batch;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Transformer;
import io.github.retmask.model.Weights;
import io.github.retmask.random.SplitMix64;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import io.github.retmask.train.StepSource.MicroBatch;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.function.DoubleUnaryOperator;
import org.assertj.core.api.SoftAssertions;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Gradients of a whole model against differences of its loss, under soft gates and every kind of
/// head, for every sort of weight and for the gates themselves.
public abstract class GradientContract {
  /// Step of the differences.
  private static final double H = 0x1p-8;

  /// The loss is a mean over a dozen log-probabilities of size 3, each right to a few units in the
  /// last place of F32 (2.4e-7 there); the differences divide that by h.
  private static final double NOISE = 4 * 2.4e-7 / H;

  private Kernels kernels;
  private Ops ops;
  private final Ops reference = new Ops(new ReferenceBackend().open(1)); // of losses

  /// The backend under test.
  protected abstract Kernels open(int threads);

  @BeforeEach
  void openBackend() {
    kernels = open(2);
    ops = new Ops(kernels);
  }

  @AfterEach
  void closeBackend() {
    kernels.close();
  }

  private static final List<Example> ROWS =
      List.of(
          new Example(new int[] {3, 1, 4, 1, 5, 9, 2}, new float[] {0, 1, 0, 0.3f, 1, 0.5f, 1}),
          new Example(new int[] {10, 7, 0, 7, 6}, new float[] {9, 0, 0, 1, 1}),
          Example.of(2, 7, 1, 8, 2, 8));

  /// Gates 0, 0.3, 1 and -0.5 on ordinary, uniform, local and constant heads.
  private static List<HeadMask> masks() {
    HeadMask none = HeadMask.none(3, 6);
    HeadMask soft =
        none.withGate(heads("0-0", "1-3", "2-5"), 0.3f)
            .withGate(heads("0-1", "1-4", "2-0"), 0f)
            .withGate(heads("1-5"), -0.5f);
    HeadMask kinds =
        none.withKind(heads("0-2", "1-0", "2-1"), HeadKind.UNIFORM)
            .withKind(heads("0-3", "1-1", "2-2"), new HeadKind.Local(1, 2))
            .withKind(heads("0-4", "1-2"), new HeadKind.Mean(new float[] {1, -2, 0.5f, 3}))
            .withGate(heads("0-2", "0-3", "0-4"), 0.3f)
            .withGate(heads("1-0", "1-1", "1-2"), 0f);
    return List.of(soft, kinds, none);
  }

  @Test
  void gradientsOfAllWeightsMatchDifferencesOfTheLoss() {
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
        TensorArena plain = reference.arena(TensorArena.Lifetime.MODEL)) {
      Weights weights = MixedModel.weights(11, arena);
      Weights same = MixedModel.weights(11, plain);
      Weights grads = zeros(weights, arena);
      LabelledBatch batch = new LabelledBatch(ROWS, masks());
      gradients(grads, null, weights, batch, ops);
      SplitMix64 random = new SplitMix64(12);
      SoftAssertions softly = new SoftAssertions();
      for (int t = 0; t < same.tensors().size(); t++) {
        Tensor tensor = same.tensors().get(t);
        float[] grad = grads.tensors().get(t).toFloats();
        List<double[]> directions = directions(grad, random);
        softly
            .assertThat(along(directions.getFirst(), grad))
            .as("gradient of %s, which must stand out from the noise to be compared", tensor)
            .isGreaterThan(10 * NOISE);
        for (double[] direction : directions) {
          Derivative wanted = Derivative.of(h -> lossAlong(same, tensor, direction, h, batch));
          double got = along(direction, grad);
          softly
              .assertThat(wanted.matches(got))
              .as("%s: along a direction %s, want %s", tensor, got, wanted)
              .isTrue();
        }
      }
      softly.assertAll();
    }
  }

  @Test
  void gradientsOfAllGatesMatchDifferencesOfTheLoss() {
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
        TensorArena plain = reference.arena(TensorArena.Lifetime.MODEL)) {
      Weights weights = MixedModel.weights(11, arena);
      Weights same = MixedModel.weights(11, plain);
      List<Tensor> dGates = new ArrayList<>();
      for (int l = 0; l < 3; l++) {
        dGates.add(arena.floats("d_gates", ROWS.size(), 6));
      }
      List<HeadMask> masks = masks();
      gradients(zeros(weights, arena), dGates, weights, new LabelledBatch(ROWS, masks), ops);
      SoftAssertions softly = new SoftAssertions();
      for (int r = 0; r < ROWS.size(); r++) {
        for (int l = 0; l < 3; l++) {
          for (int h = 0; h < 6; h++) {
            HeadMask mask = masks.get(r);
            List<HeadId> head = List.of(new HeadId(l, h));
            float gate = mask.gate(l, h);
            int row = r;
            Derivative wanted =
                Derivative.of(
                    x -> {
                      List<HeadMask> moved = new ArrayList<>(masks);
                      moved.set(row, mask.withGate(head, (float) (gate + x)));
                      return loss(same, new LabelledBatch(ROWS, moved));
                    });
            double got = dGates.get(l).get((long) r * 6 + h);
            softly
                .assertThat(wanted.matches(got))
                .as("gate %d-%d of row %d: %s, want %s", l, h, r, got, wanted)
                .isTrue();
          }
        }
      }
      softly.assertAll();
    }
  }

  @Test
  void gradientsAreTheSameOnAnyNumberOfThreads() {
    try (Kernels alone = open(1);
        TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      Weights weights = MixedModel.weights(11, arena);
      LabelledBatch batch = new LabelledBatch(ROWS, masks());
      Weights onOne = zeros(weights, arena);
      Weights onMore = zeros(weights, arena);
      gradients(onMore, null, weights, batch, ops);
      gradients(onOne, null, weights, batch, new Ops(alone));
      assertSame(onMore, onOne);
    }
  }

  @Test
  void gradientsAreTheSameWithAndWithoutGateGradients() {
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      Weights weights = MixedModel.weights(11, arena);
      Weights plain = zeros(weights, arena);
      Weights beside = zeros(weights, arena);
      List<Tensor> dGates = new ArrayList<>();
      for (int l = 0; l < 3; l++) {
        dGates.add(arena.floats("d_gates", ROWS.size(), 6));
      }
      LabelledBatch batch = new LabelledBatch(ROWS, masks());
      gradients(plain, null, weights, batch, ops);
      gradients(beside, dGates, weights, batch, ops);
      assertSame(beside, plain);
    }
  }

  /// Six layers: those of one kind share memory.
  @Test
  void gradientCheckpointingChangesNoBitOfWeightsAndGates() {
    ModelConfig config = MixedModel.config(2);
    HeadMask none = HeadMask.none(6, 6);
    List<HeadMask> masks =
        List.of(
            none.withGate(heads("0-0", "1-3", "3-2", "4-5"), 0.3f)
                .withGate(heads("0-1", "1-4", "2-0", "4-4", "5-1"), 0f),
            none.withKind(heads("0-2", "4-0", "5-1"), HeadKind.UNIFORM)
                .withKind(heads("0-3", "3-1"), new HeadKind.Local(1, 2))
                .withGate(heads("0-2", "3-1"), 0f),
            none);
    LabelledBatch batch = new LabelledBatch(ROWS, masks);
    Loss loss = CrossEntropyLoss.over(batch);
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
        TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
        Transformer model = new Transformer(config, MixedModel.weights(config, 13, arena), ops)) {
      for (boolean gates : new boolean[] {false, true}) {
        List<Weights> grads = new ArrayList<>();
        List<List<Tensor>> dGates = new ArrayList<>();
        for (GradientCheckpointing checkpointing : GradientCheckpointing.values()) {
          Weights weightGrads = zeros(model.weights(), arena);
          List<Tensor> gateGrads = new ArrayList<>();
          for (int l = 0; l < 6; l++) {
            gateGrads.add(arena.floats("d_gates", ROWS.size(), 6));
          }
          LogProbs.gradients(
              weightGrads,
              gates ? gateGrads : null,
              model,
              batch,
              loss,
              loss.units(),
              checkpointing,
              step);
          grads.add(weightGrads);
          dGates.add(gateGrads);
        }
        assertSame(grads.get(1), grads.get(0));
        assertThat(grads.get(0).layers().getFirst().qProj().weight().toFloats())
            .doesNotContain(0f, Float.NaN);
        for (int l = 0; l < 6; l++) {
          assertThat(dGates.get(1).get(l).toFloats()).isEqualTo(dGates.get(0).get(l).toFloats());
          if (gates) {
            assertThat(dGates.get(0).get(l).toFloats())
                .doesNotContain(Float.NaN)
                .isNotEqualTo(new float[18]);
          }
        }
      }
    }
  }

  /// Prompts of 20 and 18 tokens, under one mask and under another.
  @Test
  void whatRowsBeginWithIsComputedOnceAndChangesNothing() {
    List<Example> rows =
        List.of(
            answer(20, 5, 9, 2),
            answer(20, 4, 1),
            answer(18, 0, 3, 3),
            answer(20, 8),
            answer(20, 1));
    HeadMask soft = masks().get(0);
    HeadMask kinds = masks().get(1);
    LabelledBatch batch = new LabelledBatch(rows, List.of(soft, soft, soft, kinds, kinds));
    assertThat(batch.input(MixedModel.config()).batch().rows())
        .extracting(Batch.Row::prefix)
        .containsExactly(
            Batch.Prefix.NONE,
            new Batch.Prefix(0, 19),
            new Batch.Prefix(0, 17),
            Batch.Prefix.NONE,
            new Batch.Prefix(3, 19));
    Loss loss = CrossEntropyLoss.over(batch);
    try (Kernels alone = open(1);
        TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
        TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
      Weights weights = MixedModel.weights(11, arena);
      Weights summed = zeros(weights, arena);
      float[] logps;
      try (Transformer model = new Transformer(MixedModel.config(), weights, ops)) {
        logps = LogProbs.of(model, batch, step).values();
        for (int r = 0; r < rows.size(); r++) {
          LabelledBatch row = LabelledBatch.of(rows.subList(r, r + 1), batch.masks().get(r));
          assertThat(LogProbs.of(model, row, step).values())
              .isEqualTo(Arrays.copyOfRange(logps, batch.rowStart()[r], batch.rowStart()[r + 1]));
          Loss part = CrossEntropyLoss.over(row);
          GradientCheckpointing off = GradientCheckpointing.OFF;
          LogProbs.gradients(summed, null, model, row, part, loss.units(), off, step);
        }
      }
      Weights first = null;
      for (Ops on : List.of(ops, new Ops(alone))) {
        try (Transformer model = new Transformer(MixedModel.config(), weights, on)) {
          for (GradientCheckpointing checkpointing : GradientCheckpointing.values()) {
            Weights grads = zeros(weights, arena);
            LogProbs.gradients(grads, null, model, batch, loss, loss.units(), checkpointing, step);
            first = first == null ? grads : first;
            assertSame(grads, first);
          }
        }
      }
      for (int t = 0; t < weights.tensors().size(); t++) {
        float[] got = requireNonNull(first).tensors().get(t).toFloats();
        float[] wanted = summed.tensors().get(t).toFloats();
        double error = 0;
        double norm = 0;
        for (int i = 0; i < got.length; i++) {
          error += Math.pow(got[i] - (double) wanted[i], 2);
          norm += Math.pow(wanted[i], 2);
        }
        // sums over up to a hundred tokens, in another order
        assertThat(Math.sqrt(error) <= 100 * 0x1p-24 * Math.sqrt(norm))
            .as("%s: relative error %s", weights.tensors().get(t), Math.sqrt(error / norm))
            .isTrue();
      }
    }
  }

  @Test
  void gradientsOfGatesAreThoseOfTheWholeRowWhateverItSharesWithOthers() {
    List<Example> rows = List.of(answer(20, 5, 9, 2), answer(20, 4, 1));
    HeadMask soft = masks().getFirst();
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL)) {
      Weights weights = MixedModel.weights(11, arena);
      List<Tensor> together = new ArrayList<>();
      List<List<Tensor>> alone = List.of(new ArrayList<>(), new ArrayList<>());
      for (int l = 0; l < 3; l++) {
        together.add(arena.floats("d_gates", 2, 6));
        alone.forEach(gates -> gates.add(arena.floats("d_gates", 1, 6)));
      }
      LabelledBatch batch = LabelledBatch.of(rows, soft);
      Loss loss = CrossEntropyLoss.over(batch);
      try (TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
          Transformer model = new Transformer(MixedModel.config(), weights, ops)) {
        GradientCheckpointing off = GradientCheckpointing.OFF;
        Weights grads = zeros(weights, arena);
        LogProbs.gradients(grads, together, model, batch, loss, loss.units(), off, step);
        for (int r = 0; r < 2; r++) {
          LabelledBatch row = LabelledBatch.of(rows.subList(r, r + 1), soft);
          Loss part = CrossEntropyLoss.over(row);
          LogProbs.gradients(grads, alone.get(r), model, row, part, loss.units(), off, step);
          for (int l = 0; l < 3; l++) {
            assertThat(together.get(l).slice(r, r + 1).toFloats())
                .as("gates of row %d in layer %d", r, l)
                .isEqualTo(alone.get(r).get(l).toFloats())
                .isNotEqualTo(new float[6]);
          }
        }
      }
    }
  }

  /// The first tokens of one prompt, not labelled, and what follows them, labelled.
  private static Example answer(int prompt, int... ids) {
    int[] all = new int[prompt + ids.length];
    Arrays.setAll(all, t -> t < prompt ? (7 * t + t / 3) % 11 : ids[t - prompt]);
    float[] weights = new float[all.length];
    Arrays.fill(weights, prompt, all.length, 1f);
    return new Example(all, weights);
  }

  @ParameterizedTest
  @CsvSource({"true, OFF, F32", "false, ON, F32", "true, ON, BF16", "false, OFF, BF16"})
  void updatesWithinTheBackwardHaveTheBitsOfThoseAfterIt(
      boolean tied, GradientCheckpointing checkpointing, Precision precision) {
    assertThat(trained(tied, checkpointing, precision, true))
        .usingRecursiveComparison()
        .isEqualTo(trained(tied, checkpointing, precision, false));
  }

  /// Loss and gradient norm of three steps, then weights, what the model reads, and moments.
  private List<Object> trained(
      boolean tied, GradientCheckpointing checkpointing, Precision precision, boolean within) {
    AdamW.Options unclipped = new AdamW.Options(0.9, 0.95, 1e-8, 0.1, Double.POSITIVE_INFINITY);
    try (TensorArena arena = ops.arena(TensorArena.Lifetime.MODEL);
        TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
      Weights mixed = MixedModel.weights(13, arena);
      Tensor head = tied ? mixed.lmHead() : MixedModel.weights(14, arena).lmHead();
      Weights weights = new Weights(mixed.embedTokens(), mixed.layers(), mixed.norm(), head);
      Weights stored = precision == Precision.BF16 ? rounded(weights, arena) : weights;
      AdamW optimizer = new AdamW(weights, stored, unclipped, ops, arena);
      List<Object> seen = new ArrayList<>();
      try (Transformer model = new Transformer(MixedModel.config(), stored, ops)) {
        LabelledBatch batch = new LabelledBatch(ROWS, masks());
        Loss loss = CrossEntropyLoss.over(batch);
        for (int i = 1; i <= 3; i++) {
          step.reset();
          if (within) {
            List<MicroBatch> only = List.of(new MicroBatch(batch, loss));
            assertThat(optimizer.updatesInBackward()).isTrue();
            seen.add(TrainingStep.run(model, optimizer, only, checkpointing, i, 0.01, step));
          } else {
            Loss.Part part =
                LogProbs.gradients(
                    optimizer.gradients(),
                    null,
                    model,
                    batch,
                    loss,
                    loss.units(),
                    checkpointing,
                    step);
            double norm = optimizer.gradientNorm();
            optimizer.step(i, 0.01, norm);
            seen.add(new TrainingStep(part.loss(), norm, part.metrics()));
          }
        }
      }
      for (Weights of :
          List.of(weights, stored, optimizer.firstMoments(), optimizer.secondMoments())) {
        of.tensors().forEach(t -> seen.add(t.toFloats()));
      }
      return seen;
    }
  }

  private Weights rounded(Weights weights, TensorArena arena) {
    return weights.map(
        t -> {
          if (t.shape().rank() == 1) {
            return t;
          }
          Tensor to = arena.allocate(t.name(), DType.BF16, t.shape().dims());
          ops.cast(to, t);
          return to;
        });
  }

  private static void assertSame(Weights got, Weights wanted) {
    for (int t = 0; t < wanted.tensors().size(); t++) {
      assertThat(got.tensors().get(t).toFloats())
          .as(wanted.tensors().get(t).name())
          .isEqualTo(wanted.tensors().get(t).toFloats());
    }
  }

  private static double along(double[] direction, float[] grad) {
    double sum = 0;
    for (int i = 0; i < grad.length; i++) {
      sum += direction[i] * grad[i];
    }
    return sum;
  }

  /// Along the gradient, where a wrong length shows, and along random signs, where a wrong
  /// direction does; of length 1 and at most 1.
  private static List<double[]> directions(float[] grad, SplitMix64 random) {
    double norm = 0;
    for (float g : grad) {
      norm += (double) g * g;
    }
    List<double[]> all = new ArrayList<>();
    double[] along = new double[grad.length];
    for (int i = 0; i < grad.length; i++) {
      along[i] = grad[i] / Math.sqrt(norm);
    }
    all.add(along);
    for (int n = 0; n < 3; n++) {
      double[] signs = new double[grad.length];
      for (int i = 0; i < grad.length; i++) {
        signs[i] = (random.next() < 0 ? -1 : 1) / Math.sqrt(grad.length);
      }
      all.add(signs);
    }
    return all;
  }

  /// A first derivative at 0.
  ///
  /// @param error of its formula, from what a doubled step gives; of order h^4
  private record Derivative(double value, double error) {
    static Derivative of(DoubleUnaryOperator f) {
      double value = difference(f, H);
      return new Derivative(value, Math.abs(value - difference(f, 2 * H)));
    }

    private static double difference(DoubleUnaryOperator f, double h) {
      double inner = f.applyAsDouble(h) - f.applyAsDouble(-h);
      double outer = f.applyAsDouble(2 * h) - f.applyAsDouble(-2 * h);
      return (8 * inner - outer) / (12 * h);
    }

    boolean matches(double gradient) {
      return Math.abs(gradient - value) <= NOISE + error;
    }
  }

  private double lossAlong(
      Weights weights, Tensor tensor, double[] direction, double h, LabelledBatch batch) {
    float[] kept = tensor.toFloats();
    float[] moved = kept.clone();
    for (int i = 0; i < moved.length; i++) {
      moved[i] += (float) (h * direction[i]);
    }
    tensor.copyFrom(moved);
    try {
      return loss(weights, batch);
    } finally {
      tensor.copyFrom(kept);
    }
  }

  /// On the reference backend.
  private double loss(Weights weights, LabelledBatch batch) {
    try (TensorArena step = reference.arena(TensorArena.Lifetime.STEP);
        Transformer model = new Transformer(MixedModel.config(), weights, reference)) {
      Loss loss = CrossEntropyLoss.over(batch);
      return loss.part(LogProbs.of(model, batch, step), loss.units()).loss();
    }
  }

  private static void gradients(
      Weights grads, List<Tensor> dGates, Weights weights, LabelledBatch batch, Ops ops) {
    try (TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
        Transformer model = new Transformer(MixedModel.config(), weights, ops)) {
      Loss loss = CrossEntropyLoss.over(batch);
      LogProbs.gradients(
          grads, dGates, model, batch, loss, loss.units(), GradientCheckpointing.OFF, step);
    }
  }

  private static Weights zeros(Weights like, TensorArena arena) {
    return like.map(t -> arena.floats(t.name(), t.shape().dims()));
  }

  private static List<HeadId> heads(String... ids) {
    return java.util.Arrays.stream(ids).map(HeadId::parse).toList();
  }
}
