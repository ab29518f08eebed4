package io.github.retmask.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.Activations.Keep;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Models of arbitrary shapes and mixed layers against [DenseModel], and what is promised of rotary
/// embeddings that depend on the context.
public abstract class DenseModelContract {
  /// Of the largest logit: thirty times the deviation that the golden data saw in F32.
  private static final double LOGITS = 1e-3;

  private Kernels kernels;
  private Ops ops;
  private TensorArena memory;

  /// The backend under test.
  protected abstract Kernels open(int threads);

  @BeforeEach
  void openBackend() {
    kernels = open(2);
    ops = new Ops(kernels);
    memory = ops.arena(TensorArena.Lifetime.MODEL);
  }

  @AfterEach
  void closeBackend() {
    memory.close();
    kernels.close();
  }

  private static <T> T oneOf(Random random, List<T> choices) {
    return choices.get(random.nextInt(choices.size()));
  }

  private static ModelConfig config(Random random) {
    int heads = oneOf(random, List.of(1, 2, 3, 6));
    int kvHeads = oneOf(random, List.of(1, heads));
    int headDim = oneOf(random, List.of(4, 6, 10, 16));
    List<LayerSpec> layers = new ArrayList<>();
    for (int l = 0; l < 1 + random.nextInt(4); l++) {
      layers.add(
          new LayerSpec(
              oneOf(random, List.of(NormPlacement.values())),
              oneOf(random, List.of(QkNorm.values())),
              new AttentionSpec(
                  oneOf(random, List.of(1, 2, 5, 100, AttentionSpec.NO_WINDOW)),
                  (float) (1 / Math.sqrt(headDim))),
              rope(random, oneOf(random, List.of(4, headDim)))));
    }
    return new ModelConfig(
        oneOf(random, List.of(5, 17)),
        oneOf(random, List.of(5, 8, 13, 20)),
        heads,
        kvHeads,
        headDim,
        oneOf(random, List.of(3, 7, 16)),
        1e-5f,
        random.nextBoolean(),
        512,
        layers);
  }

  private static RopeSpec rope(Random random, int rotaryDim) {
    return new RopeSpec(100, rotaryDim, oneOf(random, scalings(rotaryDim)));
  }

  private static List<RopeSpec.Scaling> scalings(int rotaryDim) {
    return List.of(
        new RopeSpec.None(),
        new RopeSpec.Linear(3),
        new RopeSpec.Llama3(4, 1, 3, 9),
        new RopeSpec.Yarn(4, 9, 2, 0.5, false, 1.3),
        new RopeSpec.DynamicNtk(3, 6),
        longRope(rotaryDim, 8),
        longRope(rotaryDim, 50));
  }

  private static RopeSpec.LongRope longRope(int rotaryDim, int original) {
    return new RopeSpec.LongRope(
        Collections.nCopies(rotaryDim / 2, 1.1),
        Collections.nCopies(rotaryDim / 2, 5.0),
        original,
        1.2);
  }

  private static HeadMask mask(Random random, ModelConfig config) {
    HeadMask mask = HeadMask.none(config.layerCount(), config.heads());
    int off = random.nextInt(3 * config.layerCount()); // often a layer that is off as a whole
    for (int l = 0; l < config.layerCount(); l++) {
      for (int h = 0; h < config.heads(); h++) {
        List<HeadId> head = List.of(new HeadId(l, h));
        mask = mask.withGate(head, l == off ? 0 : oneOf(random, List.of(1f, 1f, 0f, 0.3f)));
        mask = mask.withKind(head, oneOf(random, kinds(config.headDim())));
      }
    }
    return mask;
  }

  private static List<HeadKind> kinds(int headDim) {
    float[] mean = new float[headDim];
    Arrays.fill(mean, 0.4f);
    return List.of(
        HeadKind.FULL,
        HeadKind.FULL,
        HeadKind.UNIFORM,
        new HeadKind.Local(1, 3),
        new HeadKind.Mean(mean));
  }

  /// Contexts of a sequence that begins with a prompt of so many tokens.
  private static DenseModel.Contexts contexts(int prompt, int length) {
    return spec ->
        spec.scaling() instanceof RopeSpec.LongRope
            ? _ -> Math.max(prompt, length)
            : p -> Math.max(prompt, p + 1);
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 4, 7, 8, 9, 23})
  void logitsAndReadOutsOfAnyModelAreThoseOfDenseArithmetic(int length) {
    for (int seed = 0; seed < 25; seed++) {
      Random random = new Random(1000L * length + seed);
      ModelConfig config = config(random);
      Weights weights = RandomModel.weights(config, memory, seed);
      HeadMask mask = mask(random, config);
      int[] ids = RandomModel.ids(config, length, seed);
      int prompt = 1 + random.nextInt(length);
      DenseModel dense = new DenseModel(config, weights, mask, contexts(prompt, length));
      double[][] wanted = dense.logits(ids);
      TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
      try (Transformer model = new Transformer(config, weights, ops)) {
        Activations a =
            model.forward(
                Batch.of(Batch.Row.whole(ids, mask).ofPrompt(prompt)),
                null,
                Keep.RESULT,
                ReadoutRequest.of(upTo(length)),
                step,
                Observer.NONE);
        String which = "seed %d: %s under %s".formatted(seed, config, mask);
        assertClose(which, model.logits(a, step, upTo(length)).toFloats(), wanted);
        assertReadouts(which, a.readouts(), dense, mask);
      }
      step.close();
    }
  }

  private static void assertClose(String which, float[] got, double[][] wanted) {
    double largest =
        Arrays.stream(wanted).flatMapToDouble(Arrays::stream).map(Math::abs).max().orElse(0);
    for (int i = 0; i < got.length; i++) {
      double want = wanted[i / wanted[0].length][i % wanted[0].length];
      if (!(Math.abs(got[i] - want) <= LOGITS * largest)) {
        throw new AssertionError("%s%nlogit %d is %s, want %s".formatted(which, i, got[i], want));
      }
    }
  }

  private static void assertReadouts(
      String which, List<AttentionReadout> readouts, DenseModel dense, HeadMask mask) {
    for (int l = 0; l < readouts.size(); l++) {
      for (int h = 0; h < mask.heads(); h++) {
        if (mask.kind(l, h) instanceof HeadKind.Mean
            || mask.kind(l, h) instanceof HeadKind.Uniform) {
          continue; // one attends to nothing, the other to all alike
        }
        double[][] p = dense.attention[l][h];
        for (int i = 0; i < p.length; i++) {
          int top = readouts.get(l).topPosition().getInt((long) i * mask.heads() + h);
          double weight = readouts.get(l).topWeight().get((long) i * mask.heads() + h);
          double best = Arrays.stream(p[i]).max().orElse(0);
          assertThat(Math.abs(weight - best) <= 1e-3 && p[i][top] >= best - 1e-3)
              .as("%s%nlayer %d head %d query %d: %s at %d", which, l, h, i, weight, top)
              .isTrue();
        }
      }
    }
  }

  private static int[] upTo(int n) {
    int[] all = new int[n];
    Arrays.setAll(all, i -> i);
    return all;
  }

  // --- rotary embeddings that depend on the context -------------------------------------------

  /// Three layers of plain attention under one scaling.
  private static ModelConfig scaled(RopeSpec.Scaling scaling) {
    LayerSpec layer =
        new LayerSpec(
            NormPlacement.PRE,
            QkNorm.NONE,
            new AttentionSpec(AttentionSpec.NO_WINDOW, 0.35f),
            new RopeSpec(100, 8, scaling));
    return new ModelConfig(50, 20, 6, 2, 8, 28, 1e-5f, false, 512, Collections.nCopies(3, layer));
  }

  private static final List<ModelConfig> IN_CONTEXT =
      List.of(scaled(new RopeSpec.DynamicNtk(3, 10)), scaled(longRope(8, 10)));

  /// Logits of all tokens, the prompt in pieces, the rest one by one.
  private float[] stepwise(
      Transformer model, int[] ids, int prompt, int chunk, Batch.@Nullable Row beside) {
    int vocab = model.config().vocabSize();
    float[] out = new float[ids.length * vocab];
    try (KvCache cache = new KvCache(model, 2, 64)) {
      for (int from = 0; from < ids.length; ) {
        boolean decode = from >= prompt;
        int to = decode ? from + 1 : Math.min(prompt, from + chunk);
        Batch.Phase phase = decode ? Batch.Phase.DECODE : Batch.Phase.PREFILL;
        List<Batch.Row> rows = new ArrayList<>();
        if (beside != null) {
          cache.clear(0);
          rows.add(beside);
        }
        rows.add(
            new Batch.Row(1, Arrays.copyOfRange(ids, from, to), model.noMask(), phase, prompt));
        TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
        Activations a =
            model.forward(
                new Batch(rows), cache, Keep.RESULT, ReadoutRequest.NONE, step, Observer.NONE);
        int first = a.layout().tokenStart(rows.size() - 1);
        int[] tokens = new int[to - from];
        Arrays.setAll(tokens, t -> first + t);
        float[] logits = model.logits(a, step, tokens).toFloats();
        System.arraycopy(logits, 0, out, from * vocab, logits.length);
        step.close();
        from = to;
      }
    }
    return out;
  }

  private float[] whole(Transformer model, int[] ids, int prompt) {
    TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
    Activations a =
        model.forward(Batch.of(Batch.Row.whole(ids, model.noMask()).ofPrompt(prompt)), step);
    float[] logits = model.logits(a, step, upTo(ids.length)).toFloats();
    step.close();
    return logits;
  }

  @Test
  void chunksNeighboursAndDecodingChangeNoBitOnceThePromptIsSaid() {
    for (ModelConfig config : IN_CONTEXT) {
      Transformer model = RandomModel.transformer(config, ops, memory, 31);
      int[] ids = RandomModel.ids(config, 25, 32);
      for (int prompt : new int[] {25, 14}) {
        float[] wanted = whole(model, ids, prompt);
        Batch.Row other =
            new Batch.Row(0, RandomModel.ids(config, 33, 34), model.noMask(), Batch.Phase.PREFILL);
        for (int chunk : new int[] {1, 4, 25}) {
          assertThat(stepwise(model, ids, prompt, chunk, null)).isEqualTo(wanted);
          assertThat(stepwise(model, ids, prompt, chunk, other)).isEqualTo(wanted);
        }
      }
      assertThat(whole(model, ids, 14))
          .as("the prompt matters or not")
          .satisfies(
              logits ->
                  assertThat(Arrays.equals(logits, whole(model, ids, 25)))
                      .isEqualTo(
                          config.layers().getFirst().rope().scaling()
                              instanceof RopeSpec.LongRope));
    }
  }

  @Test
  void withinTheOriginalContextNothingDependsOnIt() {
    Transformer plain = RandomModel.transformer(scaled(new RopeSpec.None()), ops, memory, 35);
    Transformer dynamic =
        RandomModel.transformer(scaled(new RopeSpec.DynamicNtk(3, 10)), ops, memory, 35);
    int[] ids = RandomModel.ids(plain.config(), 10, 36);
    assertThat(whole(dynamic, ids, 3)).isEqualTo(whole(plain, ids, 10));
    assertThat(stepwise(dynamic, ids, 3, 2, null)).isEqualTo(whole(plain, ids, 10));
  }

  @Test
  void theCacheRefusesKeysOfAnotherContext() {
    ModelConfig config = scaled(longRope(8, 10));
    Transformer model = RandomModel.transformer(config, ops, memory, 37);
    assertThatThrownBy(() -> stepwise(model, RandomModel.ids(config, 11, 38), 4, 4, null))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("slot 1 holds keys rotated for a shorter context than 11");
  }

  @Test
  void theCacheRefusesAPromptThatGrows() {
    ModelConfig config = scaled(new RopeSpec.DynamicNtk(3, 10));
    Transformer model = RandomModel.transformer(config, ops, memory, 39);
    try (KvCache cache = new KvCache(model, 1, 64);
        TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
      append(model, cache, step, 0, 6);
      append(model, cache, step, 0, 4); // still within the original context
      assertThatThrownBy(() -> append(model, cache, step, 0, 1))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageContaining("begun with a prompt of 6 tokens, now 11");
      cache.clear(0);
      append(model, cache, step, 11, 6);
      append(model, cache, step, 11, 5);
      assertThatThrownBy(() -> append(model, cache, step, 12, 1))
          .hasMessageContaining("slot 0 was begun with a prompt of 11 tokens, not 12");
    }
  }

  private static void append(
      Transformer model, KvCache cache, TensorArena step, int prompt, int tokens) {
    Batch.Row row = new Batch.Row(0, new int[tokens], model.noMask(), Batch.Phase.PREFILL, prompt);
    model.forward(Batch.of(row), cache, Keep.RESULT, ReadoutRequest.NONE, step, Observer.NONE);
  }

  @Test
  void gradientsFollowTheRotationsOfTheForward() {
    for (ModelConfig config : IN_CONTEXT) {
      Transformer model = RandomModel.transformer(config, ops, memory, 40);
      int[] ids = RandomModel.ids(config, 14, 41);
      TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
      Batch batch = Batch.of(Batch.Row.whole(ids, model.noMask()));
      Weights grads = model.weights().map(t -> step.floats("d_" + t.name(), t.shape().dims()));
      Activations a =
          model.forward(batch, null, Keep.FOR_BACKWARD, ReadoutRequest.NONE, step, Observer.NONE);
      float[] ones = new float[ids.length * config.hiddenSize()];
      for (int i = 0; i < ones.length; i++) {
        ones[i] = (i * 37 % 11 - 5) / 5f;
      }
      model.backward(
          grads, null, step.floats("d", ids.length, config.hiddenSize()).copyFrom(ones), a, step);
      // along the gradient of k_proj, whose change turns with every key
      var weight = model.weights().layers().getFirst().kProj().weight();
      float[] kept = weight.toFloats();
      float[] gradient = grads.layers().getFirst().kProj().weight().toFloats();
      double norm = Math.sqrt(squares(gradient));
      double h = 1e-3;
      double[] sums = new double[2];
      for (int side = 0; side < 2; side++) {
        float[] moved = kept.clone();
        for (int i = 0; i < moved.length; i++) {
          moved[i] += (float) ((side == 0 ? h : -h) * gradient[i] / norm);
        }
        weight.copyFrom(moved);
        float[] hidden = model.forward(batch, step).hidden().toFloats();
        for (int i = 0; i < hidden.length; i++) {
          sums[side] += (double) hidden[i] * ones[i];
        }
      }
      weight.copyFrom(kept);
      double slope = (sums[0] - sums[1]) / (2 * h);
      // a difference of second order, float noise of the sum (1e-5) divided by 2 h
      assertThat(Math.abs(slope - norm) <= 2e-2 * Math.max(1, norm))
          .as("slope %s, gradient %s", slope, norm)
          .isTrue();
      step.close();
    }
  }

  private static double squares(float[] values) {
    double sum = 0;
    for (float value : values) {
      sum += (double) value * value;
    }
    return sum;
  }
}
