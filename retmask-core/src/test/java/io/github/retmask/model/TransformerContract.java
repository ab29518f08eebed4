package io.github.retmask.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.heads.MaskPhase;
import io.github.retmask.model.Activations.Keep;
import io.github.retmask.model.LayerSpec.NormPlacement;
import io.github.retmask.model.LayerSpec.QkNorm;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// What a whole model promises on every backend. Comparisons are bit for bit where the promise is.
public abstract class TransformerContract {
  private static final List<HeadId> SOME =
      List.of(new HeadId(0, 1), new HeadId(1, 5), new HeadId(2, 0));

  private Kernels kernels;
  private Ops ops;
  private TensorArena memory;
  private final Ops reference = new Ops(new ReferenceBackend().open(1));

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

  private static List<ModelConfig> configs() {
    return List.of(
        RandomModel.plain(),
        RandomModel.config(NormPlacement.PRE, QkNorm.PER_HEAD, 7, true),
        RandomModel.config(NormPlacement.POST, QkNorm.WHOLE, AttentionSpec.NO_WINDOW, false));
  }

  private float[] allLogits(Transformer model, HeadMask mask, int... ids) {
    TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
    Activations a = model.forward(Batch.of(Batch.Row.whole(ids, mask)), step);
    float[] logits = model.logits(a, step, upTo(ids.length)).toFloats();
    step.close();
    return logits;
  }

  private static int[] upTo(int n) {
    int[] all = new int[n];
    for (int i = 0; i < n; i++) {
      all[i] = i;
    }
    return all;
  }

  @Test
  void emptyMaskIsBitNeutral() {
    for (ModelConfig config : configs()) {
      Transformer model = RandomModel.transformer(config, ops, memory, 1);
      int[] ids = RandomModel.ids(config, 23, 2);
      HeadMask ones = model.noMask().withGate(SOME, 1f).withKind(SOME, HeadKind.FULL);
      assertThat(ones).isEqualTo(model.noMask());
      HeadMask wide = model.noMask().withKind(SOME, new HeadKind.Local(0, 1000));
      float[] intact = allLogits(model, model.noMask(), ids);
      assertThat(allLogits(model, ones, ids)).isEqualTo(intact);
      assertThat(allLogits(model, wide, ids)).isEqualTo(intact);
      assertThat(allLogits(model, model.noMask().withGate(SOME, 0), ids)).isNotEqualTo(intact);
    }
  }

  @Test
  void maskedHeadsEqualZeroedColumnsOfTheOutputProjection() {
    for (ModelConfig config : configs()) {
      Transformer model = RandomModel.transformer(config, ops, memory, 3);
      Transformer edited = RandomModel.transformer(config, ops, memory, 3);
      for (HeadId id : SOME) {
        Tensor o = edited.weights().layers().get(id.layer()).oProj().weight();
        long width = o.dim(1);
        for (long row = 0; row < o.dim(0); row++) {
          for (int d = 0; d < config.headDim(); d++) {
            o.set(row * width + (long) id.head() * config.headDim() + d, 0f);
          }
        }
      }
      int[] ids = RandomModel.ids(config, 19, 4);
      float[] masked = allLogits(model, model.noMask().withGate(SOME, 0), ids);
      // adding products with zero leaves every partial sum as it is, whichever factor is the zero
      assertThat(masked).isEqualTo(allLogits(edited, edited.noMask(), ids));
    }
  }

  @Test
  void everyRowOfAMixedBatchEqualsItsSoloRun() {
    for (ModelConfig config : configs()) {
      Transformer model = RandomModel.transformer(config, ops, memory, 5);
      List<HeadMask> masks = masks(model, config);
      List<Batch.Row> rows = new ArrayList<>();
      for (int r = 0; r < masks.size(); r++) {
        rows.add(Batch.Row.whole(RandomModel.ids(config, 1 + 6 * r, r), masks.get(r)));
      }
      TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
      Activations a = model.forward(new Batch(rows), step);
      float[] all = model.logits(a, step, upTo(a.layout().tokens())).toFloats();
      for (int r = 0; r < rows.size(); r++) {
        float[] solo = allLogits(model, rows.get(r).mask(), rows.get(r).ids());
        int from = a.layout().tokenStart(r) * config.vocabSize();
        assertThat(java.util.Arrays.copyOfRange(all, from, from + solo.length))
            .as("row %d under %s", r, masks.get(r))
            .isEqualTo(solo);
      }
      step.close();
    }
  }

  private static List<HeadMask> masks(Transformer model, ModelConfig config) {
    HeadMask none = model.noMask();
    float[] mean = new float[config.headDim()];
    java.util.Arrays.fill(mean, 0.25f);
    return List.of(
        none,
        none.withGate(SOME, 0),
        none.withGate(SOME, 0.3f),
        none.withKind(SOME, HeadKind.UNIFORM),
        none.withKind(SOME, new HeadKind.Local(2, 5)),
        none.withKind(SOME, new HeadKind.Mean(mean)).withGate(List.of(SOME.getFirst()), 0.5f));
  }

  @Test
  void chunksThroughTheCacheEqualOnePass() {
    for (ModelConfig config : configs()) {
      Transformer model = RandomModel.transformer(config, ops, memory, 6);
      int[] ids = RandomModel.ids(config, 41, 7);
      for (HeadMask mask : masks(model, config)) {
        float[] whole = allLogits(model, mask, ids);
        for (int chunk : new int[] {1, 3, 16, 40}) {
          try (KvCache cache = new KvCache(model, 3, 50)) {
            assertThat(chunked(model, cache, mask, ids, chunk))
                .as("chunk %d, %s", chunk, mask)
                .isEqualTo(whole);
          }
        }
      }
    }
  }

  private float[] chunked(Transformer model, KvCache cache, HeadMask mask, int[] ids, int chunk) {
    int vocab = model.config().vocabSize();
    float[] out = new float[ids.length * vocab];
    for (int from = 0; from < ids.length; from += chunk) {
      int[] part = java.util.Arrays.copyOfRange(ids, from, Math.min(ids.length, from + chunk));
      TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
      Batch.Row row = new Batch.Row(1, part, mask, Batch.Phase.PREFILL);
      Activations a =
          model.forward(
              Batch.of(row), cache, Keep.RESULT, ReadoutRequest.NONE, step, Observer.NONE);
      float[] logits = model.logits(a, step, upTo(part.length)).toFloats();
      System.arraycopy(logits, 0, out, from * vocab, logits.length);
      step.close();
    }
    return out;
  }

  @Test
  void threadCountDoesNotChangeBits() {
    ModelConfig config = RandomModel.plain();
    int[] ids = RandomModel.ids(config, 37, 8);
    float[] first = null;
    for (int threads : new int[] {1, 2, 3}) {
      try (Kernels other = open(threads)) {
        Ops otherOps = new Ops(other);
        TensorArena arena = otherOps.arena(TensorArena.Lifetime.MODEL);
        Transformer model = RandomModel.transformer(config, otherOps, arena, 9);
        TensorArena step = otherOps.arena(TensorArena.Lifetime.STEP);
        Activations a = model.forward(Batch.of(Batch.Row.whole(ids, model.noMask())), step);
        float[] logits = model.logits(a, step, upTo(ids.length)).toFloats();
        first = first == null ? logits : first;
        assertThat(logits).as("%d threads", threads).isEqualTo(first);
        step.close();
        arena.close();
      }
    }
  }

  @Test
  void decodeOnlyMaskLeavesThePromptIntact() {
    ModelConfig config = RandomModel.plain();
    Transformer model = RandomModel.transformer(config, ops, memory, 10);
    int[] ids = RandomModel.ids(config, 12, 11);
    HeadMask late = model.noMask().withGate(SOME, 0).during(MaskPhase.DECODE_ONLY);
    assertThat(allLogits(model, late, ids)).isEqualTo(allLogits(model, model.noMask(), ids));
    try (KvCache cache = new KvCache(model, 1, 20)) {
      TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
      Batch.Row prompt = new Batch.Row(0, ids, late, Batch.Phase.PREFILL);
      model.forward(Batch.of(prompt), cache, Keep.RESULT, ReadoutRequest.NONE, step, Observer.NONE);
      Batch.Row next = new Batch.Row(0, new int[] {3}, late, Batch.Phase.DECODE);
      Activations a =
          model.forward(
              Batch.of(next), cache, Keep.RESULT, ReadoutRequest.NONE, step, Observer.NONE);
      float[] decoded = model.logits(a, step, 0).toFloats();
      int[] longer = java.util.Arrays.copyOf(ids, 13);
      longer[12] = 3;
      float[] intact = allLogits(model, model.noMask(), longer);
      assertThat(decoded)
          .isNotEqualTo(
              java.util.Arrays.copyOfRange(intact, 12 * config.vocabSize(), intact.length));
      step.close();
    }
  }

  @Test
  void aSlotRefusesAnotherMask() {
    ModelConfig config = RandomModel.plain();
    Transformer model = RandomModel.transformer(config, ops, memory, 12);
    try (KvCache cache = new KvCache(model, 2, 20)) {
      chunked(model, cache, model.noMask(), new int[] {1, 2}, 2);
      HeadMask other = model.noMask().withGate(SOME, 0);
      assertThatThrownBy(() -> chunked(model, cache, other, new int[] {3}, 1))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageContaining("slot 1 was computed under mask [none]");
      cache.clear(1);
      chunked(model, cache, other, new int[] {3}, 1);
      assertThat(cache.length(1)).isEqualTo(1);
    }
  }

  @Test
  void aGatedOffHeadStillReportsItsPattern() {
    ModelConfig config = RandomModel.plain();
    Transformer model = RandomModel.transformer(config, ops, memory, 13);
    int[] ids = RandomModel.ids(config, 15, 14);
    HeadMask mask = model.noMask().withGate(List.of(new HeadId(0, 2)), 0);
    TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
    List<AttentionReadout> intact = readouts(model, model.noMask(), ids, step);
    List<AttentionReadout> masked = readouts(model, mask, ids, step);
    assertThat(masked.getFirst().topWeight().toFloats())
        .isEqualTo(intact.getFirst().topWeight().toFloats());
    assertThat(masked.get(1).topWeight().toFloats())
        .isNotEqualTo(intact.get(1).topWeight().toFloats());
    step.close();
  }

  private static List<AttentionReadout> readouts(
      Transformer model, HeadMask mask, int[] ids, TensorArena step) {
    return model
        .forward(
            Batch.of(Batch.Row.whole(ids, mask)),
            null,
            Keep.RESULT,
            ReadoutRequest.of(4, 9, 14),
            step,
            Observer.NONE)
        .readouts();
  }

  @Test
  void observerSeesEverySiteOfEveryLayer() {
    ModelConfig config = RandomModel.plain();
    Transformer model = RandomModel.transformer(config, ops, memory, 15);
    Set<String> seen = new java.util.TreeSet<>();
    TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
    model.forward(
        Batch.of(Batch.Row.whole(RandomModel.ids(config, 5, 16), model.noMask())),
        null,
        Keep.RESULT,
        ReadoutRequest.NONE,
        step,
        (site, layer, tensor) -> {
          assertThat(tensor.dim(0)).isEqualTo(5);
          seen.add(site + "@" + layer);
        });
    step.close();
    assertThat(seen).hasSize(1 + config.layerCount() * (EnumSet.allOf(Site.class).size() - 1));
  }

  @Test
  void wrongIdsAndMasksAreNamed() {
    ModelConfig config = RandomModel.plain();
    Transformer model = RandomModel.transformer(config, ops, memory, 17);
    assertThatThrownBy(() -> allLogits(model, model.noMask(), 1, 50))
        .hasMessage("row 0: token id 50 at 1, want 0 to 49");
    assertThatThrownBy(() -> allLogits(model, HeadMask.none(2, 6), 1))
        .hasMessage("row 0: mask of 2 layers x 6 heads, model has 3 x 6");
  }

  /// Central differences of a random linear functional of the final hidden states, in every weight
  /// class and every gate.
  @Test
  void backwardEqualsCentralDifferences() {
    for (ModelConfig config : configs()) {
      Transformer model = RandomModel.transformer(config, ops, memory, 18);
      try (TensorArena arena = reference.arena(TensorArena.Lifetime.MODEL)) {
        Transformer same = RandomModel.transformer(config, reference, arena, 18);
        for (HeadMask mask : masks(model, config)) {
          checkGradients(model, same, config, mask);
        }
      }
    }
  }

  /// @param same the model on the reference backend, whose forward the differences are of
  private void checkGradients(
      Transformer model, Transformer same, ModelConfig config, HeadMask mask) {
    int[] ids = RandomModel.ids(config, 9, 19);
    Weights grads = model.weights().map(t -> memory.floats("d_" + t.name(), t.shape().dims()));
    float[] direction = new float[ids.length * config.hiddenSize()];
    java.util.Random random = new java.util.Random(20);
    for (int i = 0; i < direction.length; i++) {
      direction[i] = (float) random.nextGaussian();
    }
    TensorArena step = ops.arena(TensorArena.Lifetime.STEP);
    Batch batch = Batch.of(Batch.Row.whole(ids, mask));
    Activations a =
        model.forward(
            batch, null, Keep.FOR_GATE_GRADIENTS, ReadoutRequest.NONE, step, Observer.NONE);
    Tensor dHidden = step.floats("d_hidden", ids.length, config.hiddenSize()).copyFrom(direction);
    List<Tensor> dGates = new ArrayList<>();
    for (int l = 0; l < config.layerCount(); l++) {
      dGates.add(step.floats("d_gates", 1, config.heads()));
    }
    model.backward(grads, dGates, dHidden, a, step);

    List<Tensor> weights = same.weights().tensors();
    for (int w = 0; w < weights.size(); w++) {
      Tensor weight = weights.get(w);
      if (weight == same.weights().lmHead() && !config.tiedEmbeddings()) {
        continue; // the hidden states do not depend on it
      }
      // the largest entry is the one whose difference quotient drowns least in rounding
      float[] gradient = grads.tensors().get(w).toFloats();
      int at = 0;
      for (int i = 1; i < gradient.length; i++) {
        at = Math.abs(gradient[i]) > Math.abs(gradient[at]) ? i : at;
      }
      int entry = at;
      float kept = weight.get(at);
      double slope =
          slope(
              offset -> {
                weight.set(entry, kept + offset);
                return functional(same, batch, direction);
              });
      weight.set(at, kept);
      assertClose(weight + " [" + at + "] under " + mask, gradient[at], slope);
    }
    for (HeadId id : SOME) {
      float gate = mask.gate(id.layer(), id.head());
      double slope =
          slope(offset -> functional(same, gated(ids, mask, id, gate + offset), direction));
      assertClose("gate " + id + " under " + mask, dGates.get(id.layer()).get(id.head()), slope);
    }
    step.close();
  }

  private static Batch gated(int[] ids, HeadMask mask, HeadId id, float gate) {
    return Batch.of(Batch.Row.whole(ids, mask.withGate(List.of(id), gate)));
  }

  private static double functional(Transformer model, Batch batch, float[] direction) {
    TensorArena step = model.ops().arena(TensorArena.Lifetime.STEP);
    float[] hidden = model.forward(batch, step).hidden().toFloats();
    step.close();
    double sum = 0;
    for (int i = 0; i < hidden.length; i++) {
      sum += (double) hidden[i] * direction[i];
    }
    return sum;
  }

  /// Fourth-order central difference at 0: truncation of order h^4; the float noise of the
  /// functional, about 1e-5, is divided by h.
  private static double slope(Slope f) {
    float h = 1e-2f;
    return (8 * (f.at(h) - f.at(-h)) - (f.at(2 * h) - f.at(-2 * h))) / (12 * h);
  }

  private interface Slope {
    double at(float offset);
  }

  private static void assertClose(String what, double got, double want) {
    double diff = Math.abs(got - want);
    if (!(diff <= 2e-2 * Math.max(1, Math.abs(want)))) {
      throw new AssertionError(what + ": gradient " + got + ", central difference " + want);
    }
  }
}
