package io.github.retmask.generate;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.backend.Kernels;
import io.github.retmask.generate.Generator.Options;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadKind;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.heads.MaskPhase;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.model.CountedMatmuls;
import io.github.retmask.model.KvCache;
import io.github.retmask.model.Observer;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.random.SplitMix64;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// What the generator promises on every backend. Comparisons are bit for bit.
public abstract class GeneratorContract {
  private static final Options ROOMY = new Options(64, 512, 1L << 30);
  private TinyModel tiny;

  /// The backend under test.
  protected abstract Kernels open(int threads);

  @BeforeEach
  void openModel() {
    tiny = new TinyModel(open(1));
  }

  @AfterEach
  void closeModel() {
    tiny.close();
  }

  private static HeadMask off(String... heads) {
    return HeadMask.off(2, 6, Arrays.stream(heads).map(HeadId::parse).toList());
  }

  private List<HeadMask> masks() {
    List<HeadId> two = List.of(new HeadId(0, 1), new HeadId(1, 5));
    HeadMask none = tiny.model.noMask();
    return List.of(
        none,
        off("0-1", "1-2", "1-3"),
        off("0-1", "1-2").during(MaskPhase.DECODE_ONLY),
        none.withKind(two, HeadKind.UNIFORM).during(MaskPhase.DECODE_ONLY),
        none.withKind(two, new HeadKind.Local(1, 3)),
        none.withGate(two, 0.3f),
        none.withKind(two, new HeadKind.Mean(new float[] {1, -1, 0.5f, 2})));
  }

  /// Requests of every kind: lengths 1 to 13, all masks, greedy and sampled, with and without end.
  private List<GenerationRequest> mixed() {
    SplitMix64 random = new SplitMix64(8);
    List<GenerationRequest> requests = new ArrayList<>();
    for (int i = 0; i < 14; i++) {
      int[] prompt = new int[1 + (i * 5) % 13];
      for (int t = 0; t < prompt.length; t++) {
        prompt[t] = random.nextInt(41);
      }
      requests.add(
          new GenerationRequest(
              prompt,
              masks().get(i % 7),
              switch (i % 4) {
                case 0 -> Sampling.GREEDY;
                case 1 -> Sampling.of(0.6, 42);
                case 2 -> new Sampling(1.3, 7, 0.9, 0.01, 1.2, 42);
                default -> Sampling.of(1.3, 42);
              },
              1000 + i,
              1 + (i * 7) % 17,
              i % 3 == 0 ? StopRule.NEVER : StopRule.at(3, 17, 30, 40),
              i % 2 == 0));
    }
    return requests;
  }

  private static int[] ids(int count) {
    SplitMix64 random = new SplitMix64(count);
    int[] ids = new int[count];
    Arrays.setAll(ids, _ -> random.nextInt(41));
    return ids;
  }

  private static String text(Completion c) {
    DecodeAttention seen = c.attention();
    return "%d %s %s %s %s"
        .formatted(
            c.index(),
            Arrays.toString(c.ids()),
            c.finish(),
            seen == null ? "" : Arrays.toString(seen.positions()),
            seen == null ? "" : Arrays.toString(seen.weights()));
  }

  private List<String> texts(TinyModel model, Options options) {
    try (Generator generator = new Generator(model.model, options)) {
      return generator.generate(mixed()).stream().map(GeneratorContract::text).toList();
    }
  }

  private List<Completion> run(Options options, GenerationRequest... requests) {
    try (Generator generator = new Generator(tiny.model, options)) {
      return generator.generate(List.of(requests));
    }
  }

  /// Greedy tokens by a full pass over the whole sequence for every token.
  private int[] byFullPasses(int[] prompt, HeadMask mask, int tokens) {
    int[] sequence = prompt;
    try (TensorArena step = tiny.model.ops().arena(TensorArena.Lifetime.STEP)) {
      for (int i = 0; i < tokens; i++) {
        step.reset();
        Activations a = tiny.model.forward(Batch.of(Batch.Row.whole(sequence, mask)), step);
        float[] logits = tiny.model.logits(a, step, sequence.length - 1).toFloats();
        sequence = Arrays.copyOf(sequence, sequence.length + 1);
        sequence[sequence.length - 1] = Sampler.argmax(logits);
      }
    }
    return Arrays.copyOfRange(sequence, prompt.length, sequence.length);
  }

  @Test
  void greedyTokensAreThoseOfFullPassesUnderEveryMaskThatHoldsEverywhere() {
    int[] prompt = {4, 8, 15, 16, 23};
    for (HeadMask mask : masks()) {
      if (mask.phase() == MaskPhase.EVERYWHERE) {
        Completion c = run(ROOMY, GenerationRequest.greedy(prompt, mask, 12)).getFirst();
        assertThat(c.ids()).as(mask.toString()).isEqualTo(byFullPasses(prompt, mask, 12));
        assertThat(c.finish()).isEqualTo(FinishReason.LENGTH);
      }
    }
  }

  @Test
  void aRepetitionPenaltyCountsPromptAndContinuation() {
    int[] prompt = {4, 8, 15, 16, 23, 8};
    GenerationRequest free = GenerationRequest.greedy(prompt, off("0-1"), 20);
    int[] unpenalised = Arrays.copyOf(prompt, 26);
    System.arraycopy(byFullPasses(prompt, off("0-1"), 20), 0, unpenalised, 6, 20);
    for (float penalty : new float[] {0.5f, 1.1f, 3}) {
      int[] sequence = prompt;
      try (TensorArena step = tiny.model.ops().arena(TensorArena.Lifetime.STEP)) {
        for (int i = 0; i < 20; i++) {
          step.reset();
          Batch batch = Batch.of(Batch.Row.whole(sequence, off("0-1")));
          Activations a = tiny.model.forward(batch, step);
          float[] logits = tiny.model.logits(a, step, sequence.length - 1).toFloats();
          for (int id : Arrays.stream(sequence).distinct().toArray()) {
            logits[id] = logits[id] < 0 ? logits[id] * penalty : logits[id] / penalty;
          }
          sequence = Arrays.copyOf(sequence, sequence.length + 1);
          sequence[sequence.length - 1] = Sampler.argmax(logits);
        }
      }
      Sampling sampling = Sampling.GREEDY.withRepetitionPenalty(penalty);
      assertThat(run(ROOMY.withPrefillTokens(4), free.withSampling(sampling, 0)).getFirst().ids())
          .isEqualTo(Arrays.copyOfRange(sequence, prompt.length, sequence.length));
      assertThat(Arrays.equals(sequence, unpenalised)).isEqualTo(penalty == 1.1f);
    }
  }

  @ParameterizedTest
  @CsvSource({"1,1", "1,3", "2,3", "3,512", "4,1", "5,5", "6,3", "7,512", "64,2"})
  void resultsDependNeitherOnRowsNorOnChunks(int rows, int chunk) {
    assertThat(texts(tiny, ROOMY.withMaxRows(rows).withPrefillTokens(chunk)))
        .isEqualTo(texts(tiny, ROOMY));
  }

  @ParameterizedTest
  @ValueSource(ints = {2, 3})
  void resultsDoNotDependOnThreads(int threads) {
    try (TinyModel other = new TinyModel(open(threads))) {
      assertThat(texts(other, ROOMY.withMaxRows(5))).isEqualTo(texts(tiny, ROOMY));
    }
  }

  @Test
  void everyRowOfAMixedBatchEqualsItsSoloRun() {
    List<Completion> together = run(ROOMY, mixed().toArray(GenerationRequest[]::new));
    for (int i = 0; i < together.size(); i++) {
      Completion alone = run(ROOMY, mixed().get(i)).getFirst();
      assertThat(text(together.get(i)).substring(text(together.get(i)).indexOf(' ')))
          .isEqualTo(text(alone).substring(1));
    }
  }

  @ParameterizedTest
  @CsvSource({"1,512", "2,3", "3,7", "64,1", "64,20", "64,512"})
  void twinsOfAnyMaskSayWhatTheySayAlone(int rows, int chunk) {
    List<GenerationRequest> requests = new ArrayList<>();
    for (int length : new int[] {1, 2, 13, 30}) {
      int[] prompt = ids(length);
      for (HeadMask mask : masks()) {
        GenerationRequest one = GenerationRequest.greedy(prompt, mask, 1 + length % 5);
        requests.add(one.withSampling(Sampling.of(0.8, 3), length));
        requests.add(length == 13 ? one.withAttention() : one);
      }
    }
    List<String> alone = new ArrayList<>();
    for (GenerationRequest request : requests) {
      alone.add(Arrays.toString(run(ROOMY, request).getFirst().ids()));
    }
    Options options = new Options(rows, chunk, 1L << 30);
    List<Completion> together = run(options, requests.toArray(GenerationRequest[]::new));
    assertThat(together.stream().map(c -> Arrays.toString(c.ids())).toList()).isEqualTo(alone);
  }

  @ParameterizedTest
  @ValueSource(ints = {9, 512})
  void samplesOfOnePromptReadItOnce(int chunk) {
    Kernels own = open(1);
    CountedMatmuls counted = new CountedMatmuls(own);
    try (TinyModel model = new TinyModel(counted.kernels())) {
      GenerationRequest request = GenerationRequest.greedy(ids(40), off("0-1", "1-2"), 1);
      try (Generator generator = new Generator(model.model, new Options(64, chunk, 1L << 30))) {
        var _ = generator.generate(List.of(request));
        long one = counted.rows();
        counted.reset();
        var _ = generator.generate(Collections.nCopies(6, request));
        assertThat(counted.rows()).isEqualTo(one + 5); // logits of five more
        counted.reset();
        var _ = generator.generate(List.of(request.withMask(off()), request));
        assertThat(counted.rows()).isLessThan(2 * one);
      }
    }
  }

  @Test
  void readingAttentionChangesNoToken() {
    for (GenerationRequest request : mixed()) {
      GenerationRequest read = request.withAttention();
      assertThat(run(ROOMY, read).getFirst().ids()).isEqualTo(run(ROOMY, request).getFirst().ids());
    }
  }

  @Test
  void attentionIsThatOfTheQueryThatProducedTheToken() {
    int[] prompt = {7, 7, 30, 2, 19, 11};
    HeadMask mask = off("0-2", "1-4");
    Completion c =
        run(ROOMY.withPrefillTokens(4), GenerationRequest.greedy(prompt, mask, 9).withAttention())
            .getFirst();
    DecodeAttention seen = c.attention();
    assertThat(seen.steps()).isEqualTo(9);
    int[] sequence = Arrays.copyOf(prompt, prompt.length + 8);
    System.arraycopy(c.ids(), 0, sequence, prompt.length, 8);
    int[] queries = new int[9];
    Arrays.setAll(queries, i -> prompt.length - 1 + i);
    try (TensorArena step = tiny.model.ops().arena(TensorArena.Lifetime.STEP)) {
      Activations a =
          tiny.model.forward(
              Batch.of(Batch.Row.whole(sequence, mask)),
              null,
              Activations.Keep.RESULT,
              ReadoutRequest.of(queries),
              step,
              Observer.NONE);
      for (int s = 0; s < 9; s++) {
        for (int l = 0; l < 2; l++) {
          for (int h = 0; h < 6; h++) {
            assertThat(seen.position(s, l, h))
                .isEqualTo(a.readouts().get(l).topPosition().getInt(s * 6L + h));
            assertThat(seen.weight(s, l, h))
                .isEqualTo(a.readouts().get(l).topWeight().get(s * 6L + h));
          }
        }
      }
    }
  }

  @Test
  void decodeOnlyMaskHoldsFromTheLastPromptTokenOn() {
    int[] prompt = {4, 8, 15, 16, 23, 39};
    HeadMask mask = off("0-0", "0-1", "0-2", "1-0", "1-1").during(MaskPhase.DECODE_ONLY);
    int[] wanted = new int[8];
    try (KvCache cache = new KvCache(tiny.model, 1, 20);
        TensorArena step = tiny.model.ops().arena(TensorArena.Lifetime.STEP)) {
      forward(cache, step, mask, Batch.Phase.PREFILL, Arrays.copyOf(prompt, 5));
      int last = 39;
      for (int i = 0; i < wanted.length; i++) {
        wanted[i] = Sampler.argmax(forward(cache, step, mask, Batch.Phase.DECODE, last));
        last = wanted[i];
      }
    }
    GenerationRequest request = GenerationRequest.greedy(prompt, mask, 8);
    int[] everywhere =
        run(ROOMY, request.withMask(mask.during(MaskPhase.EVERYWHERE))).getFirst().ids();
    assertThat(run(ROOMY, request).getFirst().ids()).isEqualTo(wanted).isNotEqualTo(everywhere);
    assertThat(run(ROOMY.withPrefillTokens(2), request).getFirst().ids()).isEqualTo(wanted);
  }

  private float[] forward(
      KvCache cache, TensorArena step, HeadMask mask, Batch.Phase phase, int... ids) {
    step.reset();
    Activations a =
        tiny.model.forward(
            Batch.of(new Batch.Row(0, ids, mask, phase)),
            cache,
            Activations.Keep.RESULT,
            ReadoutRequest.NONE,
            step,
            Observer.NONE);
    return tiny.model.logits(a, step, ids.length - 1).toFloats();
  }

  @Test
  void twinsWithAnEmptyMaskSayTheSameAtAnyTemperature() {
    for (GenerationRequest request : mixed()) {
      GenerationRequest hot =
          request.withMask(tiny.model.noMask()).withSampling(Sampling.of(1.3, 5), 77);
      GenerationRequest twin = hot.withMask(off());
      List<Completion> pair = run(ROOMY, hot, twin);
      assertThat(pair.get(0).ids()).isEqualTo(pair.get(1).ids());
    }
  }

  @Test
  void stopTokenEndsAndStaysPartOfTheContinuation() {
    GenerationRequest endless = GenerationRequest.greedy(new int[] {1, 2, 3}, off(), 20);
    int[] all = run(ROOMY, endless).getFirst().ids();
    int stop = all[5];
    int first = 0;
    while (all[first] != stop) {
      first++;
    }
    Completion stopped =
        run(ROOMY, endless.withStop(StopRule.at(99, stop).or(StopRule.at(-1)))).getFirst();
    assertThat(stopped.ids()).isEqualTo(Arrays.copyOf(all, first + 1));
    assertThat(stopped.finish()).isEqualTo(FinishReason.STOP);
    assertThat(stopped.finish().text()).isEqualTo("stop");
  }

  @Test
  void tokensAreHeardInOrderAsTheyCome() {
    List<Integer> heard = new ArrayList<>();
    try (Generator generator = new Generator(tiny.model, ROOMY)) {
      Completion c =
          generator.generate(
              GenerationRequest.greedy(new int[] {5}, off(), 6),
              (request, position, id) -> {
                assertThat(request).isZero();
                assertThat(position).isEqualTo(heard.size());
                heard.add(id);
              });
      assertThat(heard).containsExactlyElementsOf(Arrays.stream(c.ids()).boxed().toList());
    }
  }

  @Test
  void completionsComeAsReadyOrAsRequested() {
    List<GenerationRequest> requests = new ArrayList<>();
    for (int length : new int[] {9, 1, 5, 2}) {
      requests.add(GenerationRequest.greedy(new int[] {length}, off(), length));
    }
    try (Generator generator = new Generator(tiny.model, ROOMY.withMaxRows(2))) {
      List<Integer> ready = new ArrayList<>();
      generator.generate(
          requests, Generator.Order.READY, TokenListener.NONE, c -> ready.add(c.index()));
      assertThat(ready).containsExactly(1, 2, 3, 0);
      List<Integer> requested = new ArrayList<>();
      generator.generate(
          requests, Generator.Order.REQUESTED, TokenListener.NONE, c -> requested.add(c.index()));
      assertThat(requested).containsExactly(0, 1, 2, 3);
      assertThat(generator.generate(List.of())).isEmpty();
    }
  }

  @Test
  void aStreamIsAskedForRequestsOnlyWhenRowsAreFree() {
    int[] asked = {0};
    int[] done = {0};
    var requests =
        new Iterator<GenerationRequest>() {
          @Override
          public boolean hasNext() {
            return asked[0] < 9;
          }

          @Override
          public GenerationRequest next() {
            asked[0]++;
            assertThat(asked[0] - done[0]).isLessThanOrEqualTo(3);
            return GenerationRequest.greedy(new int[] {asked[0]}, off(), 1 + asked[0] % 4);
          }
        };
    try (Generator generator = new Generator(tiny.model, ROOMY.withMaxRows(3))) {
      generator.generate(requests, 5, Generator.Order.READY, TokenListener.NONE, _ -> done[0]++);
    }
    assertThat(done[0]).isEqualTo(9);
  }

  @Test
  void aFailureInTheMiddleLeavesTheGeneratorUsable() {
    GenerationRequest request = GenerationRequest.greedy(new int[] {1, 2}, off("1-1"), 4);
    try (Generator generator = new Generator(tiny.model, ROOMY)) {
      assertThatThrownBy(
              () ->
                  generator.generate(
                      request,
                      (_, _, _) -> {
                        throw new IllegalStateException("listener");
                      }))
          .hasMessage("listener");
      assertThat(generator.generate(List.of(request.withMask(off()))).getFirst().ids())
          .isEqualTo(run(ROOMY, request.withMask(off())).getFirst().ids());
    }
  }

  @Test
  void whatDoesNotFitIsRefusedBeforeWorkStarts() {
    List<Integer> heard = new ArrayList<>();
    GenerationRequest fine = GenerationRequest.greedy(new int[] {1}, off(), 3);
    try (Generator generator = new Generator(tiny.model, ROOMY)) {
      GenerationRequest longContext = GenerationRequest.greedy(new int[90], off(), 7);
      assertThatThrownBy(
              () ->
                  generator.generate(
                      List.of(fine, longContext),
                      Generator.Order.READY,
                      (_, _, id) -> heard.add(id),
                      _ -> {}))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageContainingAll("request 1", "90", "7 new", "97", "96");
      assertThatThrownBy(
              () -> generator.generate(List.of(GenerationRequest.greedy(new int[] {41}, off(), 1))))
          .hasMessageContainingAll("token id 41", "0 to 40");
      assertThatThrownBy(
              () ->
                  generator.generate(
                      List.of(GenerationRequest.greedy(new int[] {1}, HeadMask.none(3, 6), 1))))
          .hasMessageContainingAll("3 layers x 6 heads", "2 x 6");
    }
    try (Generator small = new Generator(tiny.model, new Options(4, 8, 20_000))) {
      assertThatThrownBy(
              () -> small.generate(List.of(GenerationRequest.greedy(new int[60], off(), 30))))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageContainingAll("context of 90 tokens", "MiB", "may be used", "would fit");
    }
    assertThat(heard).isEmpty();
    assertThatThrownBy(() -> GenerationRequest.greedy(new int[0], off(), 1))
        .hasMessageContaining("no tokens");
    assertThatThrownBy(() -> GenerationRequest.greedy(new int[1], off(), 0))
        .hasMessageContaining("0 new tokens");
    assertThatThrownBy(() -> new Options(0, 1, 1)).hasMessageContaining("0 rows");
  }

  @Test
  void scarceMemoryMeansFewerRowsAndTheSameTokens() {
    long oneRow = 60_000;
    assertThat(texts(tiny, new Options(64, 4, oneRow))).isEqualTo(texts(tiny, ROOMY));
  }
}
