package io.github.retmask.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.backend.AttentionSpec;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
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
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// Sharing work between rows changes no bit, on every backend. What is compared with is every row
/// alone, by the forward that shares nothing.
public abstract class SharedForwardContract {
  private Kernels kernels;
  private CountedMatmuls counted;
  private Ops ops;
  private TensorArena memory;

  /// The backend under test.
  protected abstract Kernels open(int threads);

  @BeforeEach
  void openBackend() {
    kernels = open(2);
    counted = new CountedMatmuls(kernels);
    ops = new Ops(counted.kernels());
    memory = ops.arena(TensorArena.Lifetime.MODEL);
  }

  @AfterEach
  void closeBackend() {
    memory.close();
    kernels.close();
  }

  private static List<ModelConfig> configs() {
    ModelConfig windows = RandomModel.config(NormPlacement.PRE, QkNorm.PER_HEAD, 7, true);
    List<LayerSpec> mixed = new ArrayList<>(windows.layers());
    LayerSpec local = mixed.get(1);
    AttentionSpec full = new AttentionSpec(AttentionSpec.NO_WINDOW, local.attention().scale());
    RopeSpec inContext = new RopeSpec(10000, 8, new RopeSpec.DynamicNtk(2, 8));
    mixed.set(1, new LayerSpec(local.norms(), local.qkNorm(), full, inContext));
    return List.of(
        RandomModel.plain(),
        windows,
        RandomModel.config(NormPlacement.POST, QkNorm.WHOLE, AttentionSpec.NO_WINDOW, false),
        withLayers(windows, mixed),
        withLayers(windows, List.of(mixed.get(1), local, local, mixed.get(1), local)),
        withLayers(RandomModel.plain(), RandomModel.plain().layers().subList(0, 1)));
  }

  private static ModelConfig withLayers(ModelConfig c, List<LayerSpec> layers) {
    return new ModelConfig(
        c.vocabSize(),
        c.hiddenSize(),
        c.heads(),
        c.kvHeads(),
        c.headDim(),
        c.intermediateSize(),
        c.normEps(),
        c.tiedEmbeddings(),
        c.maxPositions(),
        layers);
  }

  /// Masks that part in every layer, by gates, by kinds and by both, some of them equal.
  private static List<HeadMask> masks(Transformer model) {
    HeadMask none = model.noMask();
    List<HeadMask> masks = new ArrayList<>(List.of(none, none));
    float[] mean = new float[model.config().headDim()];
    Arrays.fill(mean, 0.25f);
    for (int l = 0; l < model.config().layerCount(); l++) {
      List<HeadId> one = List.of(new HeadId(l, 1));
      List<HeadId> two = List.of(new HeadId(l, 1), new HeadId(model.config().layerCount() - 1, 4));
      masks.add(none.withGate(one, 0));
      masks.add(none.withGate(two, 0));
      masks.add(none.withGate(two, 0.3f));
      masks.add(none.withKind(one, HeadKind.UNIFORM));
      masks.add(none.withKind(two, new HeadKind.Local(2, 5)));
      masks.add(none.withKind(two, new HeadKind.Mean(mean)).withGate(one, 0.5f));
      masks.add(none.withKind(one, new HeadKind.Mean(mean)).withGate(one, 0));
      masks.add(none.withGate(two, 0).during(MaskPhase.DECODE_ONLY));
    }
    return masks;
  }

  private static List<HeadMask> gates(Transformer model) {
    List<HeadMask> masks = new ArrayList<>();
    for (int l = 0; l < model.config().layerCount(); l++) {
      for (int h = 0; h < model.config().heads(); h++) {
        masks.add(model.noMask().withGate(List.of(new HeadId(l, h)), 0));
      }
    }
    return masks;
  }

  /// Final states of a sequence alone, `[T][C]`.
  private float[][] alone(Transformer model, HeadMask mask, int... ids) {
    try (TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
      return rows(model.forward(Batch.of(Batch.Row.whole(ids, mask)), step).hidden());
    }
  }

  private static float[][] rows(Tensor hidden) {
    float[][] rows = new float[(int) hidden.dim(0)][];
    for (int m = 0; m < rows.length; m++) {
      rows[m] = hidden.slice(m, m + 1).toFloats();
    }
    return rows;
  }

  @Test
  void rowsOfABatchEqualTheirSoloRuns() {
    for (ModelConfig config : configs()) {
      Transformer model = RandomModel.transformer(config, ops, memory, 1);
      List<Batch.Row> rows = new ArrayList<>();
      for (HeadMask mask : masks(model)) {
        rows.add(Batch.Row.whole(RandomModel.ids(config, 23, 2), mask));
        if (rows.size() % 3 == 0) {
          rows.add(Batch.Row.whole(RandomModel.ids(config, 13, 3), mask));
        }
      }
      int[] starts = new int[rows.size() + 1];
      for (int r = 0; r < rows.size(); r++) {
        starts[r + 1] = starts[r] + rows.get(r).ids().length;
      }
      // of a row its last token, two runs, or nothing
      int[] tokens =
          IntStream.range(0, rows.size())
              .flatMap(
                  r ->
                      switch (r % 3) {
                        case 0 -> IntStream.of(starts[r + 1] - 1);
                        case 1 -> IntStream.of(1, 4, 5, 6, 11).map(t -> starts[r] + t);
                        default -> IntStream.empty();
                      })
              .toArray();
      try (TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
        float[][] got =
            rows(model.states(new Batch(rows), null, ReadoutRequest.NONE, step, tokens).hidden());
        for (int m = 0; m < tokens.length; m++) {
          int r = 0;
          while (starts[r + 1] <= tokens[m]) {
            r++;
          }
          float[][] want = alone(model, rows.get(r).mask(), rows.get(r).ids());
          assertThat(got[m])
              .as("row %d under %s, token %d", r, rows.get(r).mask(), tokens[m] - starts[r])
              .isEqualTo(want[tokens[m] - starts[r]]);
        }
      }
    }
  }

  @Test
  void chunksThroughTheCacheAndDecodingGoOnFromWhatWasShared() {
    for (ModelConfig config : configs()) {
      Transformer model = RandomModel.transformer(config, ops, memory, 4);
      int[] prompt = RandomModel.ids(config, 23, 5);
      List<HeadMask> masks = masks(model);
      List<float[][]> alone = new ArrayList<>();
      List<float[]> decodedAlone = new ArrayList<>();
      for (HeadMask mask : masks) {
        alone.add(alone(model, mask, prompt));
        decodedAlone.add(decodedAlone(model, mask, prompt, 3));
      }
      for (int chunk : new int[] {1, 5, 23}) {
        try (KvCache cache = new KvCache(model, masks.size(), 30)) {
          for (int from = 0; from < prompt.length; from += chunk) {
            int to = Math.min(prompt.length, from + chunk);
            float[][] got = step(model, cache, masks, prompt, from, to, Batch.Phase.PREFILL);
            for (int r = 0; r < masks.size(); r++) {
              assertThat(got[r])
                  .as("chunk of %d to %d under %s", chunk, to, masks.get(r))
                  .isEqualTo(alone.get(r)[to - 1]);
            }
          }
          int[] longer = Arrays.copyOf(prompt, prompt.length + 1);
          longer[prompt.length] = 3;
          float[][] got =
              step(model, cache, masks, longer, prompt.length, longer.length, Batch.Phase.DECODE);
          for (int r = 0; r < masks.size(); r++) {
            assertThat(got[r])
                .as("decode after chunks of %d under %s", chunk, masks.get(r))
                .isEqualTo(decodedAlone.get(r));
          }
        }
      }
    }
  }

  /// The last states of rows that all read tokens `from` to `to`.
  private float[][] step(
      Transformer model,
      KvCache cache,
      List<HeadMask> masks,
      int[] ids,
      int from,
      int to,
      Batch.Phase phase) {
    List<Batch.Row> rows = new ArrayList<>();
    int prompt = phase == Batch.Phase.PREFILL ? ids.length : 0;
    for (int r = 0; r < masks.size(); r++) {
      int[] part = Arrays.copyOfRange(ids, from, to);
      rows.add(new Batch.Row(r, part, masks.get(r), phase, prompt));
    }
    int length = to - from;
    int[] last = IntStream.rangeClosed(1, masks.size()).map(r -> r * length - 1).toArray();
    try (TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
      return rows(model.states(new Batch(rows), cache, ReadoutRequest.NONE, step, last).hidden());
    }
  }

  private float[] decodedAlone(Transformer model, HeadMask mask, int[] prompt, int next) {
    try (KvCache cache = new KvCache(model, 1, prompt.length + 1);
        TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
      Batch.Row read = new Batch.Row(0, prompt, mask, Batch.Phase.PREFILL);
      model.forward(Batch.of(read), cache, Keep.RESULT, ReadoutRequest.NONE, step, Observer.NONE);
      Batch.Row row = new Batch.Row(0, new int[] {next}, mask, Batch.Phase.DECODE);
      return model
          .forward(Batch.of(row), cache, Keep.RESULT, ReadoutRequest.NONE, step, Observer.NONE)
          .hidden()
          .toFloats();
    }
  }

  @Test
  void slotsOfDifferentHistoryAreNotTakenForOne() {
    ModelConfig config = RandomModel.plain();
    Transformer model = RandomModel.transformer(config, ops, memory, 6);
    HeadMask late = model.noMask().withGate(List.of(new HeadId(0, 1)), 0);
    List<int[]> starts = List.of(new int[] {1, 2, 3}, new int[] {1, 4, 3}, new int[] {1, 2, 3});
    List<Batch.Phase> phases =
        List.of(Batch.Phase.PREFILL, Batch.Phase.PREFILL, Batch.Phase.DECODE);
    HeadMask mask = late.during(MaskPhase.DECODE_ONLY);
    try (KvCache together = new KvCache(model, 3, 9);
        TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
      List<float[]> want = new ArrayList<>();
      List<Batch.Row> rows = new ArrayList<>();
      for (int r = 0; r < 3; r++) {
        Batch.Row begin = new Batch.Row(r, starts.get(r), mask, phases.get(r));
        Batch.Row then = new Batch.Row(r, new int[] {7, 8}, mask, Batch.Phase.PREFILL);
        rows.add(then);
        try (KvCache own = new KvCache(model, 3, 9)) {
          plain(model, begin, own, step);
          want.add(Arrays.copyOfRange(plain(model, then, own, step), 20, 40));
        }
        plain(model, begin, together, step);
      }
      float[][] got =
          rows(
              model.states(new Batch(rows), together, ReadoutRequest.NONE, step, 1, 3, 5).hidden());
      for (int r = 0; r < 3; r++) {
        assertThat(got[r]).as("row %d", r).isEqualTo(want.get(r));
      }
    }
  }

  private static float[] plain(Transformer model, Batch.Row row, KvCache cache, TensorArena step) {
    return model
        .forward(Batch.of(row), cache, Keep.RESULT, ReadoutRequest.NONE, step, Observer.NONE)
        .hidden()
        .toFloats();
  }

  @Test
  void readoutsAreThoseOfTheForwardThatSharesNothing() {
    for (ModelConfig config : configs()) {
      Transformer model = RandomModel.transformer(config, ops, memory, 7);
      List<Batch.Row> rows = new ArrayList<>();
      for (HeadMask mask : masks(model)) {
        rows.add(Batch.Row.whole(RandomModel.ids(config, 9, 8), mask));
      }
      int[] queries = {3, 8, 17, 20, 26, 9 * rows.size() - 1};
      int[][][] spans = new int[queries.length][][];
      Arrays.fill(spans, new int[][] {{0, 2}, {1, 4}});
      ReadoutRequest request = new ReadoutRequest(queries, spans);
      try (TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
        Batch batch = new Batch(rows);
        Activations want = model.forward(batch, null, Keep.RESULT, request, step, Observer.NONE);
        TokenStates got = model.states(batch, null, request, step, 8, 30);
        float[][] all = rows(want.hidden());
        assertThat(rows(got.hidden())).isDeepEqualTo(new float[][] {all[8], all[30]});
        assertThat(got.readouts()).hasSize(config.layerCount());
        for (int l = 0; l < config.layerCount(); l++) {
          var seen = got.readouts().get(l);
          var wanted = want.readouts().get(l);
          assertThat(seen.topPosition().toInts()).isEqualTo(wanted.topPosition().toInts());
          assertThat(seen.topWeight().toFloats()).isEqualTo(wanted.topWeight().toFloats());
          assertThat(seen.spanMass().toFloats()).isEqualTo(wanted.spanMass().toFloats());
          assertThat(seen.logSumExp().toFloats()).isEqualTo(wanted.logSumExp().toFloats());
        }
      }
    }
  }

  @Test
  void samplesOfOnePromptReadItOnce() {
    ModelConfig config = RandomModel.plain();
    Transformer model = RandomModel.transformer(config, ops, memory, 9);
    int[] prompt = RandomModel.ids(config, 17, 10);
    HeadMask off = model.noMask().withGate(List.of(new HeadId(1, 2)), 0);
    long one = matmulRows(model, Collections.nCopies(1, off), prompt);
    assertThat(matmulRows(model, Collections.nCopies(8, off), prompt)).isEqualTo(one);
    assertThat(one)
        .isEqualTo(17 * (7 + 7 + 2) + 5); // three layers of 7, k and v of the last, 5 more
  }

  @Test
  void twinsShareWhatLiesBeforeTheGate() {
    ModelConfig config = RandomModel.plain();
    Transformer model = RandomModel.transformer(config, ops, memory, 9);
    int[] prompt = RandomModel.ids(config, 17, 10);
    HeadMask off = model.noMask().withGate(List.of(new HeadId(1, 2)), 0);
    long one = matmulRows(model, List.of(off), prompt);
    // of layer 1 o_proj and the feed-forward block, of layer 2 all that one row takes
    assertThat(matmulRows(model, List.of(model.noMask(), off), prompt))
        .isEqualTo(one + 17 * (4 + 2) + 5);
  }

  private long matmulRows(Transformer model, List<HeadMask> masks, int... prompt) {
    try (KvCache cache = new KvCache(model, masks.size(), prompt.length)) {
      counted.reset();
      step(model, cache, masks, prompt, 0, prompt.length, Batch.Phase.PREFILL);
      return counted.rows();
    }
  }

  @Test
  void sweepsEqualSeparateForwards() {
    for (ModelConfig config : configs()) {
      Transformer model = RandomModel.transformer(config, ops, memory, 11);
      List<HeadMask> masks = new ArrayList<>(masks(model));
      masks.addAll(gates(model));
      List<AblationSweep.Sequence> sequences =
          List.of(
              new AblationSweep.Sequence(RandomModel.ids(config, 19, 12), 0, 18),
              new AblationSweep.Sequence(RandomModel.ids(config, 7, 13), 5, 0, 3, 4, 6),
              new AblationSweep.Sequence(RandomModel.ids(config, 1, 14), 1, 0));
      List<float[][][]> wanted = new ArrayList<>(); // per mask [sequence][token][C]
      for (HeadMask mask : masks) {
        wanted.add(
            sequences.stream()
                .map(sequence -> aloneOfPrompt(model, mask, sequence))
                .toArray(float[][][]::new));
      }
      for (int tokens : new int[] {1, 19, 27, 90, 100_000}) {
        List<float[][][]> seen = new ArrayList<>(); // per mask [sequence][chosen][C]
        for (int m = 0; m < masks.size(); m++) {
          seen.add(new float[3][4][]);
        }
        counted.reset();
        new AblationSweep(model, tokens)
            .run(
                sequences,
                masks,
                (places, hidden, _) -> {
                  float[][] states = rows(hidden);
                  for (AblationSweep.Place p : places) {
                    float[][] ofSequence = seen.get(p.mask())[p.sequence()];
                    assertThat(ofSequence[p.chosen()]).as("taken once").isNull();
                    ofSequence[p.chosen()] = states[p.row()];
                  }
                });
        assertThat(counted.mostRows()).isLessThanOrEqualTo(Math.max(tokens, 19));
        for (int m = 0; m < masks.size(); m++) {
          for (int s = 0; s < sequences.size(); s++) {
            AblationSweep.Sequence sequence = sequences.get(s);
            float[][] want = wanted.get(m)[s];
            for (int t = 0; t < sequence.chosen().length; t++) {
              assertThat(seen.get(m)[s][t])
                  .as("%d tokens, sequence %d under %s", tokens, s, masks.get(m))
                  .isEqualTo(want[sequence.chosen()[t]]);
            }
          }
        }
      }
    }
  }

  private float[][] aloneOfPrompt(
      Transformer model, HeadMask mask, AblationSweep.Sequence sequence) {
    try (TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
      Batch.Row row = Batch.Row.whole(sequence.ids(), mask).ofPrompt(sequence.promptLength());
      return rows(model.forward(Batch.of(row), step).hidden());
    }
  }

  @Test
  void sweptLogitsAndLogProbabilitiesAreThoseOfTheModel() {
    ModelConfig config = RandomModel.plain();
    Transformer model = RandomModel.transformer(config, ops, memory, 15);
    List<HeadMask> masks = gates(model);
    int[] prompt = RandomModel.ids(config, 11, 16);
    int[] answer = {5, 0, 49};
    AblationSweep sweep = new AblationSweep(model, 40);
    float[][] logits = sweep.lastLogits(prompt, masks);
    float[][] logProbs = sweep.logProbs(prompt, answer, masks);
    int[] ids = Arrays.copyOf(prompt, 13);
    System.arraycopy(answer, 0, ids, 11, 2);
    for (int m = 0; m < masks.size(); m++) {
      try (TensorArena step = ops.arena(TensorArena.Lifetime.STEP)) {
        Activations a = model.forward(Batch.of(Batch.Row.whole(ids, masks.get(m))), step);
        assertThat(logits[m]).isEqualTo(model.logits(a, step, 10).toFloats());
        Tensor logps = step.floats("logps", 3);
        Tensor hidden = a.hidden().slice(10, 13);
        Tensor lmHead = model.weights().lmHead();
        ops.tokenLogProbs(logps, step.floats("lse", 3), hidden, lmHead, step.ints("t", answer));
        assertThat(logProbs[m]).isEqualTo(logps.toFloats());
      }
    }
  }

  @Test
  void aSweepOverHeadsTakesLessThanSixTenthsOfSeparateRuns() {
    LayerSpec layer = RandomModel.plain().layers().getFirst();
    ModelConfig config = withLayers(RandomModel.plain(), Collections.nCopies(8, layer));
    Transformer model = RandomModel.transformer(config, ops, memory, 17);
    int[] prompt = RandomModel.ids(config, 29, 18);
    counted.reset();
    AblationSweep sweep = new AblationSweep(model, 64);
    var _ = sweep.lastLogits(prompt, gates(model));
    long together = counted.rows();
    counted.reset();
    for (HeadMask mask : gates(model)) {
      var _ = sweep.lastLogits(prompt, List.of(mask));
    }
    assertThat(together).isLessThan(counted.rows() * 6 / 10);
  }

  @Test
  void wrongSweepsAreRefused() {
    Transformer model = RandomModel.transformer(RandomModel.plain(), ops, memory, 19);
    AblationSweep sweep = new AblationSweep(model);
    assertThat(sweep.lastLogits(new int[] {1}, List.of())).isEmpty();
    assertThatThrownBy(() -> sweep.lastLogits(new int[] {1, 50}, List.of(model.noMask())))
        .hasMessage("row 0: token id 50 at 1, want 0 to 49");
    assertThatThrownBy(() -> sweep.lastLogits(new int[] {1}, List.of(HeadMask.none(2, 6))))
        .hasMessage("row 0: mask of 2 layers x 6 heads, model has 3 x 6");
    assertThatThrownBy(() -> new AblationSweep.Sequence(new int[] {1, 2}, 0, 1, 1))
        .hasMessageContaining("chosen token 1, want ascending ones below 2");
    assertThatThrownBy(() -> new AblationSweep(model, 0)).hasMessageContaining("0 tokens");
  }
}
