package io.github.retmask.scoring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.generate.Generator;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadScores;
import io.github.retmask.heads.ScoreReport;
import io.github.retmask.io.WorkJournal;
import io.github.retmask.pretrained.PretrainedModel;
import io.github.retmask.scoring.ScoredTrials.Failure;
import io.github.retmask.scoring.ScoredTrials.Outcome;
import io.github.retmask.tokenizer.ThinkTags;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.net.URI;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.stream.StreamSupport;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/// A model built by hand in which head 1-2, and no other, copies the needle.
class RetrievalHeadScorerTest {
  private static final HeadId PLANTED = new HeadId(1, 2);
  private static final Generator.Options LIMITS = new Generator.Options(3, 64, 1L << 30);

  @TempDir private Path dir;
  private Kernels kernels;
  private PretrainedModel model;
  private JsonNode golden;
  private List<Trial> trials; // the last one has no needle

  @BeforeEach
  void open() throws IOException {
    kernels = new ReferenceBackend().open(1);
    URI uri =
        URI.create(Objects.requireNonNull(getClass().getResource("/goldens/planted")).toString());
    model = PretrainedModel.open(Path.of(uri), new Ops(kernels));
    golden = new ObjectMapper().readTree(Path.of(uri).resolve("planted.json").toFile());
    trials = new ArrayList<>();
    for (JsonNode trial : golden.get("trials")) {
      trials.add(
          new Trial(
              "trial " + trials.size(),
              ints(trial.get("prompt_ids")),
              trial.at("/needle_span/0").intValue(),
              trial.at("/needle_span/1").intValue(),
              trial.get("needle_text").textValue(),
              golden.get("decode_steps").intValue(),
              new TreeMap<>(Map.of("depth", trial.path("depth_percent").asText()))));
    }
  }

  @AfterEach
  void close() {
    model.close();
    kernels.close();
  }

  private static int[] ints(JsonNode array) {
    return StreamSupport.stream(array.spliterator(), false).mapToInt(JsonNode::intValue).toArray();
  }

  private RetrievalHeadScorer scorer(WuMethod method, @Nullable Tokenizer tokenizer) {
    return new RetrievalHeadScorer(
        model.transformer(), tokenizer, method, model.generation().eosIds());
  }

  private static List<Trial> withoutAnswers(List<Trial> trials) {
    return trials.stream()
        .map(t -> Trial.of(t.id(), t.prompt(), t.needleStart(), t.needleEnd(), t.maxNewTokens()))
        .toList();
  }

  /// Bit for bit the same outcomes.
  private static void assertSame(ScoredTrials actual, ScoredTrials expected) {
    assertThat(actual.outcomes()).hasSameSizeAs(expected.outcomes());
    for (int t = 0; t < expected.outcomes().size(); t++) {
      Outcome a = actual.outcomes().get(t);
      Outcome e = expected.outcomes().get(t);
      assertThat(a.response()).isEqualTo(e.response());
      assertThat(a.recall()).isEqualTo(e.recall());
      assertThat(a.failure()).isEqualTo(e.failure());
      assertThat(a.scores()).isEqualTo(e.scores());
    }
  }

  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void strictScoresAreThoseOfTheReferenceWithAndWithoutTexts(boolean texts) throws IOException {
    ScoredTrials scored =
        texts
            ? scorer(WuMethod.STRICT, model.tokenizer()).score(trials, LIMITS)
            : scorer(WuMethod.STRICT, null).score(withoutAnswers(trials), LIMITS);
    assertThat(scored.failed()).containsExactly(Map.entry("needle_not_found", 1));
    HeadScores scores = scored.scores();
    assertThat(scores.trials()).isEqualTo(3);
    for (HeadId id : scores.ids()) {
      double wanted =
          golden.at("/expected/set_positions/%d/%d".formatted(id.layer(), id.head())).doubleValue();
      assertThat(scores.mean(id)).as(id.toString()).isCloseTo(wanted, within(1e-9));
    }
    assertThat(scores.scores(PLANTED)).containsExactly(1.0, 1.0, 1.0);
    assertThat(scores.atLeast(0.1)).containsExactly(PLANTED);
    for (int t = 0; t < 3; t++) {
      assertThat(scored.outcomes().get(t).response())
          .isEqualTo(ints(golden.at("/trials/%d/generated".formatted(t))));
    }
  }

  @Test
  void compatibleScoresGoOnPastTheAnswerAndKeepOnlySuccesses() throws IOException {
    ScoredTrials scored = scorer(WuMethod.COMPAT, model.tokenizer()).score(trials, LIMITS);
    assertThat(scored.outcomes().getFirst().response()).hasSize(WuMethod.SCRIPT_TOKENS);
    assertThat(scored.failed()).containsExactly(Map.entry("low_recall", 1));
    for (double score : scored.scores().scores(PLANTED)) {
      assertThat(score).isGreaterThanOrEqualTo(1);
    }
  }

  @Test
  void aNeedleThatWasNotFoundScoresZeroInTheCompatibleMethodOnly() throws IOException {
    Trial found = trials.getFirst();
    Trial lost =
        new Trial("lost", found.prompt(), -1, -1, found.answer(), 8, new TreeMap<>(Map.of()));
    ScoredTrials compat =
        scorer(WuMethod.COMPAT, model.tokenizer()).score(List.of(found, lost), LIMITS);
    assertThat(compat.failed()).isEmpty();
    assertThat(compat.scores().score(PLANTED, 0)).isGreaterThanOrEqualTo(1);
    assertThat(compat.scores().score(PLANTED, 1)).isZero();
    ScoredTrials strict =
        scorer(WuMethod.STRICT, model.tokenizer()).score(List.of(found, lost), LIMITS);
    assertThat(strict.outcomes().get(1).failure()).isEqualTo(Failure.NEEDLE_NOT_FOUND);
  }

  @Test
  void aStrictResponseEndsAtTheEndOfTheSequence() {
    int[] generated = ints(golden.at("/trials/0/generated"));
    RetrievalHeadScorer scorer =
        new RetrievalHeadScorer(model.transformer(), null, WuMethod.STRICT, generated[5]);
    Outcome outcome = scorer.score(withoutAnswers(trials), LIMITS).outcomes().getFirst();
    assertThat(outcome.response()).isEqualTo(Arrays.copyOf(generated, 6));
    assertThat(outcome.scores()[PLANTED.layer() * 4 + PLANTED.head()]).isEqualTo(6 / 8.0);
  }

  @Test
  void halfOfTheNeedleIsNotEnough() {
    int[] generated = ints(golden.at("/trials/0/generated"));
    RetrievalHeadScorer scorer =
        new RetrievalHeadScorer(model.transformer(), null, WuMethod.STRICT, generated[3]);
    Outcome outcome = scorer.score(withoutAnswers(trials), LIMITS).outcomes().getFirst();
    assertThat(outcome.recall()).isEqualTo(0.5);
    assertThat(outcome.failure()).isEqualTo(Failure.LOW_RECALL);
  }

  @Test
  void aTrialBeyondTheContextIsCountedNotRun() {
    Trial first = trials.getFirst();
    Trial endless = Trial.of("endless", first.prompt(), 14, 22, 2048);
    ScoredTrials scored = scorer(WuMethod.STRICT, null).score(List.of(first, endless), LIMITS);
    assertThat(scored.outcomes().get(1).failure()).isEqualTo(Failure.TOO_LONG);
    assertThat(scored.scores().trials()).isEqualTo(1);
  }

  @Test
  void noSuccessfulTrialIsAnErrorThatSaysWhy() {
    ScoredTrials scored =
        scorer(WuMethod.STRICT, null).score(withoutAnswers(trials.subList(3, 4)), LIMITS);
    assertThatThrownBy(scored::scores)
        .isInstanceOf(IllegalStateException.class)
        .hasMessageContaining("none of 1 trials succeeded")
        .hasMessageContaining("needle_not_found=1");
  }

  @ParameterizedTest
  @EnumSource(WuMethod.class)
  void whatRunsAtATimeChangesNoBit(WuMethod method) throws IOException {
    RetrievalHeadScorer scorer = scorer(method, model.tokenizer());
    ScoredTrials wide = scorer.score(trials, LIMITS);
    assertSame(scorer.score(trials, new Generator.Options(1, 7, 1L << 30)), wide);
  }

  @ParameterizedTest
  @ValueSource(ints = {0, 1, 2, 3})
  void anInterruptedRunGoesOnToTheSameScores(int stopAfter) throws IOException {
    RetrievalHeadScorer scorer = scorer(WuMethod.COMPAT, model.tokenizer());
    Path out = dir.resolve("scores.json");
    try (WorkJournal journal =
        WorkJournal.open(out, Map.of("a", "b"), WorkJournal.Existing.RESUME)) {
      assertThatThrownBy(
              () ->
                  scorer.score(
                      trials,
                      journal,
                      LIMITS,
                      (done, _) -> {
                        if (done == stopAfter) {
                          throw new IllegalStateException("stopped");
                        }
                      }))
          .hasMessage("stopped");
    }
    List<Integer> heard = new ArrayList<>();
    try (WorkJournal journal =
        WorkJournal.open(out, Map.of("a", "b"), WorkJournal.Existing.RESUME)) {
      ScoredTrials resumed = scorer.score(trials, journal, LIMITS, (done, _) -> heard.add(done));
      assertSame(resumed, scorer.score(trials, LIMITS));
    }
    assertThat(heard.getLast()).isEqualTo(4);
  }

  // ---- thinking ----

  private static final ThinkTags TAGS = new ThinkTags("anchor", "bridge");

  private int id(String word) throws IOException {
    return model.tokenizer().idOf("\u0120" + word);
  }

  /// The first trial as the planted head continues it when it thinks first: it copies what follows
  /// the cue, which is the block, then the word before the needle and the needle.
  private Trial thoughtful(String... block) throws IOException {
    Trial plain = trials.getFirst();
    int[] prompt = new int[plain.prompt().length + block.length + 1];
    int at = plain.needleStart() - 1;
    System.arraycopy(plain.prompt(), 0, prompt, 0, at);
    prompt[at] = id("acorn");
    for (int i = 0; i < block.length; i++) {
      prompt[at + 1 + i] = id(block[i]);
    }
    System.arraycopy(plain.prompt(), at, prompt, at + 1 + block.length, plain.prompt().length - at);
    for (int i = 0; i < prompt.length; i++) { // words of the block and the cue stand there only
      int word = prompt[i];
      boolean own = at <= i && i <= at + block.length;
      boolean clash = word == id("acorn") || Arrays.asList(block).contains(word(word));
      prompt[i] = own || !clash ? word : id("kernel");
    }
    prompt[prompt.length - 1] = id("acorn");
    int shift = block.length + 1;
    return new Trial(
        "thoughtful",
        prompt,
        plain.needleStart() + shift,
        plain.needleEnd() + shift,
        plain.answer(),
        plain.maxNewTokens() + 1, // and the word before the needle
        new TreeMap<>(Map.of()));
  }

  private String word(int id) throws IOException {
    return model.tokenizer().tokenOf(id).replace("\u0120", "");
  }

  @Test
  void aModelThatThinksFirstScoresAsWithoutThinking() throws IOException {
    Trial trial = thoughtful("anchor", "jungle", "lantern", "insect", "bridge");
    RetrievalHeadScorer plain = scorer(WuMethod.STRICT, model.tokenizer());
    RetrievalHeadScorer skipping = plain.skipping(new Thinking(model.tokenizer(), TAGS, 5));
    Outcome thought = skipping.score(List.of(trial), LIMITS).outcomes().getFirst();
    Outcome direct = plain.score(trials.subList(0, 1), LIMITS).outcomes().getFirst();
    assertThat(thought.failure()).isNull();
    assertThat(model.tokenizer().decode(thought.response(), true))
        .startsWith(" anchor jungle lantern insect bridge")
        .endsWith(trial.answer());
    assertThat(thought.recall()).isEqualTo(direct.recall());
    assertThat(thought.scores()).isEqualTo(direct.scores());
    assertThat(thought.scores()[PLANTED.layer() * 4 + PLANTED.head()]).isEqualTo(1);
    assertThat(plain.score(List.of(trial), LIMITS).outcomes().getFirst().failure())
        .as("the answer's own limit is spent on the block")
        .isEqualTo(Failure.LOW_RECALL);
  }

  @Test
  void whatIsCopiedWhileThinkingIsNeitherAHitNorAnAnswer() throws IOException {
    Trial plain = thoughtful("anchor", "bridge");
    Trial trial = // the opening word alone: the needle is copied inside the block
        new Trial(
            "inside",
            thoughtful("anchor").prompt(),
            plain.needleStart() - 1,
            plain.needleEnd() - 1,
            plain.answer(),
            plain.maxNewTokens(),
            new TreeMap<>(Map.of()));
    RetrievalHeadScorer scorer =
        scorer(WuMethod.STRICT, model.tokenizer())
            .skipping(new Thinking(model.tokenizer(), TAGS, 12));
    ScoredTrials scored = scorer.score(List.of(trial, plain), LIMITS);
    assertThat(scored.outcomes().getFirst().failure()).isEqualTo(Failure.THINKING_UNFINISHED);
    assertThat(scored.outcomes().getFirst().response()).hasSize(12);
    assertThat(scored.outcomes().getFirst().scores()).isEmpty();
    assertThat(scored.outcomes().get(1).failure()).isNull();
    assertThat(scored.failed()).containsExactly(Map.entry("thinking_unfinished", 1));
    assertSame(scorer.score(List.of(trial, plain), new Generator.Options(1, 7, 1L << 30)), scored);
  }

  @Test
  void aPromptThatOpensTheBlockItselfIsContinuedInside() throws IOException {
    Trial closed = thoughtful("jungle", "bridge");
    int[] prompt = Arrays.copyOf(closed.prompt(), closed.prompt().length);
    for (int i = 0; i < prompt.length; i++) { // the cue becomes the opening tag
      prompt[i] = prompt[i] == id("acorn") ? id("anchor") : prompt[i];
    }
    Trial open =
        new Trial(
            "open",
            prompt,
            closed.needleStart(),
            closed.needleEnd(),
            closed.answer(),
            closed.maxNewTokens(),
            new TreeMap<>(Map.of()));
    Outcome outcome =
        scorer(WuMethod.STRICT, model.tokenizer())
            .skipping(new Thinking(model.tokenizer(), TAGS, 2))
            .score(List.of(open), LIMITS)
            .outcomes()
            .getFirst();
    assertThat(outcome.failure()).isNull();
    assertThat(model.tokenizer().decode(outcome.response(), true)).startsWith(" jungle bridge");
    assertThat(outcome.scores()[PLANTED.layer() * 4 + PLANTED.head()]).isEqualTo(1);
  }

  @Test
  void theCompatibleMethodSkipsNothing() throws IOException {
    Thinking thinking = new Thinking(model.tokenizer(), TAGS, 5);
    assertThatThrownBy(() -> scorer(WuMethod.COMPAT, null).skipping(thinking))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("wu-compat");
    assertThatThrownBy(() -> new Thinking(model.tokenizer(), TAGS, 0))
        .hasMessageContaining("0 tokens");
  }

  @Test
  void repeatedTrialsAddNothingToTheReport() throws IOException {
    List<Trial> twice = new ArrayList<>(trials);
    twice.addAll(trials);
    ScoreReport report =
        scorer(WuMethod.STRICT, model.tokenizer())
            .score(twice, LIMITS)
            .report("sampled:x", WuMethod.STRICT, new TreeMap<>(Map.of("seed", "1")));
    assertThat(report.tried()).isEqualTo(8);
    assertThat(report.kept()).isEqualTo(6);
    assertThat(report.distinct()).isEqualTo(3);
    assertThat(report.method()).isEqualTo("wu");
    assertThat(report.heads().getFirst().id()).isEqualTo(PLANTED);
  }
}
