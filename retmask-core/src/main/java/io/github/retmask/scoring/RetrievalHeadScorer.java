package io.github.retmask.scoring;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.eval.RetrievalScore;
import io.github.retmask.eval.RetrievalTrace;
import io.github.retmask.generate.Completion;
import io.github.retmask.generate.DecodeAttention;
import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Generator;
import io.github.retmask.generate.StopRule;
import io.github.retmask.generate.ThinkBlocks;
import io.github.retmask.generate.TokenListener;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.WorkJournal;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Transformer;
import io.github.retmask.scoring.ScoredTrials.Failure;
import io.github.retmask.scoring.ScoredTrials.Outcome;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;

/// Scores heads by what they copy while the model answers needle prompts (Wu et al. 2024).
///
/// In every decoding step each head's largest attention weight is read from the attention kernel. A
/// head **hits** when that weight lies on a needle token and the model generates this very token. A
/// trial counts when the response repeats more than half of the answer:
///
/// - with an answer text and a tokenizer, by ROUGE-1 recall of the response's text;
/// - otherwise by token ids: the share of the needle's tokens that the response holds, each counted
///   as often as both have it.
///
/// A model that thinks before it answers is scored on its answer alone, see [Thinking].
///
/// A trial's outcome depends on the trial alone, not on what runs beside it or on interruptions.
public final class RetrievalHeadScorer {
  private static final String LINE_BREAK_TOKEN = "<0x0A>";
  private static final int LINE_BREAK_ID = 144;

  private final Transformer model;
  private final AnswerRecall answers;
  private final WuMethod method;
  private final StopRule stop;
  private final @Nullable Thinking thinking;

  /// Hears how far the work is.
  @FunctionalInterface
  public interface Progress {
    /// Hears nothing.
    Progress NONE = (_, _) -> {};

    /// Called after each trial, and once at the start.
    void done(int trials, int of);
  }

  /// A scorer of a model that outlives it.
  ///
  /// @param tokenizer for answer texts; null where trials have none
  /// @param eosIds tokens that end a response of the strict method
  public RetrievalHeadScorer(
      Transformer model, @Nullable Tokenizer tokenizer, WuMethod method, int... eosIds) {
    this(
        model,
        new AnswerRecall(tokenizer),
        method,
        switch (method) {
          case STRICT -> StopRule.at(eosIds);
          case COMPAT -> StopRule.at(LINE_BREAK_ID, lineBreak(tokenizer));
        },
        null);
  }

  private RetrievalHeadScorer(
      Transformer model,
      AnswerRecall answers,
      WuMethod method,
      StopRule stop,
      @Nullable Thinking thinking) {
    this.model = model;
    this.answers = answers;
    this.method = method;
    this.stop = stop;
    this.thinking = thinking;
  }

  /// The same scorer for a model that thinks before it answers.
  ///
  /// @throws IllegalArgumentException for the compatible method, which counts every token alike
  public RetrievalHeadScorer skipping(Thinking blocks) {
    if (method == WuMethod.COMPAT) {
      throw new IllegalArgumentException(
          "method %s scores whatever the model generates, thinking included"
              .formatted(method.label()));
    }
    return new RetrievalHeadScorer(model, answers, method, stop, blocks);
  }

  /// The id of the line break of SentencePiece vocabularies, or -1.
  private static int lineBreak(@Nullable Tokenizer tokenizer) {
    return tokenizer == null ? -1 : tokenizer.idOf(LINE_BREAK_TOKEN);
  }

  /// Runs all trials.
  ///
  /// @throws IllegalArgumentException when memory does not hold one of them
  public ScoredTrials score(List<Trial> trials, Generator.Options limits) {
    return run(trials, new @Nullable Outcome[trials.size()], limits, (_, _) -> {}, Progress.NONE);
  }

  /// Runs the trials whose outcome `journal` does not hold yet, and adds them to it.
  ///
  /// @param journal begun with options that determine the model and `trials`
  /// @param limits what may run at a time; changes no score
  /// @throws IOException when the journal cannot be written
  /// @throws IllegalArgumentException when memory does not hold one of the trials
  public ScoredTrials score(
      List<Trial> trials, WorkJournal journal, Generator.Options limits, Progress progress)
      throws IOException {
    @Nullable Outcome[] outcomes = new Outcome[trials.size()];
    for (int i = 0; i < journal.size(); i++) {
      ObjectNode item = journal.item(i);
      outcomes[item.path("trial").intValue()] = outcome(item);
    }
    try {
      return run(trials, outcomes, limits, (t, o) -> journal.append(item(t, o)), progress);
    } catch (UncheckedIOException e) {
      throw e.getCause();
    }
  }

  @FunctionalInterface
  private interface Keeper {
    void keep(int trial, Outcome outcome) throws IOException;
  }

  private ScoredTrials run(
      List<Trial> trials,
      @Nullable Outcome[] outcomes,
      Generator.Options limits,
      Keeper keeper,
      Progress progress) {
    int[] done = {(int) Arrays.stream(outcomes).filter(Objects::nonNull).count()};
    progress.done(done[0], trials.size());
    List<Integer> toRun = new ArrayList<>();
    List<GenerationRequest> requests = new ArrayList<>();
    for (int t = 0; t < outcomes.length; t++) {
      if (outcomes[t] == null) {
        Failure failure = failureWithoutRun(trials.get(t));
        if (failure == null) {
          toRun.add(t);
          requests.add(request(trials.get(t)));
        } else {
          outcomes[t] = new Outcome(new int[0], 0, failure, new double[0]);
          done[0]++;
        }
      }
    }
    try (Generator generator = new Generator(model, limits)) {
      generator.generate(
          requests,
          Generator.Order.READY,
          TokenListener.NONE,
          completion -> {
            int t = toRun.get(completion.index());
            Outcome outcome = outcome(trials.get(t), completion);
            outcomes[t] = outcome;
            keep(keeper, t, outcome);
            progress.done(++done[0], trials.size());
          });
    }
    List<Outcome> all = Arrays.stream(outcomes).map(Objects::requireNonNull).toList();
    return new ScoredTrials(model.config().layerCount(), model.config().heads(), trials, all);
  }

  private static void keep(Keeper keeper, int trial, Outcome outcome) {
    try {
      keeper.keep(trial, outcome);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private @Nullable Failure failureWithoutRun(Trial trial) {
    if (trial.prompt().length + newTokens(trial) > model.config().maxPositions()) {
      return Failure.TOO_LONG;
    }
    return method == WuMethod.STRICT && !trial.hasNeedle() ? Failure.NEEDLE_NOT_FOUND : null;
  }

  private long newTokens(Trial trial) {
    long answer = method == WuMethod.COMPAT ? WuMethod.SCRIPT_TOKENS : trial.maxNewTokens();
    return thinking == null ? answer : answer + thinking.maxTokens();
  }

  private GenerationRequest request(Trial trial) {
    HeadMask none = model.noMask();
    return GenerationRequest.greedy(trial.prompt(), none, Math.toIntExact(newTokens(trial)))
        .withStop(thinking == null ? stop : stop.or(budget(trial, thinking)))
        .withAttention();
  }

  private static StopRule budget(Trial trial, Thinking thinking) {
    return StopRule.afterThinking(
        thinking.tokenizer(),
        thinking.tags(),
        thinking.tags().isLeftOpen(thinking.tokenizer(), trial.prompt()),
        thinking.maxTokens(),
        trial.maxNewTokens());
  }

  /// Decoding steps that answer, ascending; null when the response ends while it thinks.
  private static int @Nullable [] answering(
      Trial trial, int[] response, @Nullable Thinking skipped) {
    if (skipped == null) {
      return IntStream.range(0, response.length).toArray();
    }
    ThinkBlocks blocks =
        new ThinkBlocks(
            skipped.tokenizer(),
            skipped.tags(),
            skipped.tags().isLeftOpen(skipped.tokenizer(), trial.prompt()));
    for (int id : response) {
      blocks.add(id);
    }
    return blocks.isOpen()
        ? null
        : IntStream.range(0, response.length).filter(t -> !blocks.thinks(t)).toArray();
  }

  private Outcome outcome(Trial trial, Completion completion) {
    int[] steps = answering(trial, completion.ids(), thinking);
    if (steps == null) {
      return new Outcome(completion.ids(), 0, Failure.THINKING_UNFINISHED, new double[0]);
    }
    int[] answer = Arrays.stream(steps).map(step -> completion.ids()[step]).toArray();
    double recall = answers.of(trial, answer);
    if (!(recall > AnswerRecall.REQUIRED)) {
      return new Outcome(completion.ids(), recall, Failure.LOW_RECALL, new double[0]);
    }
    RetrievalTrace trace =
        new RetrievalTrace(
            trial.prompt(),
            trial.needleStart(),
            trial.needleEnd(),
            answer,
            topPositions(Objects.requireNonNull(completion.attention()), steps));
    RetrievalScore reading =
        method == WuMethod.STRICT ? RetrievalScore.SET_POSITIONS : RetrievalScore.SCRIPT;
    double[] scores = reading.scores(trace, model.config().totalHeads());
    return new Outcome(completion.ids(), recall, null, scores);
  }

  /// Positions by step and head, `[steps][L*H]`.
  private int[][] topPositions(DecodeAttention seen, int[] steps) {
    ModelConfig config = model.config();
    int[][] top = new int[steps.length][config.totalHeads()];
    for (int s = 0; s < top.length; s++) {
      for (int l = 0; l < config.layerCount(); l++) {
        for (int h = 0; h < config.heads(); h++) {
          top[s][l * config.heads() + h] = seen.position(steps[s], l, h);
        }
      }
    }
    return top;
  }

  private static ObjectNode item(int trial, Outcome outcome) {
    ObjectNode item = JsonNodeFactory.instance.objectNode();
    item.put("trial", trial);
    item.put("recall", outcome.recall());
    ArrayNode response = item.putArray("response");
    for (int id : outcome.response()) {
      response.add(id);
    }
    Failure failure = outcome.failure();
    if (failure != null) {
      item.put("failure", failure.name());
      return item;
    }
    item.put("heads", outcome.scores().length);
    ObjectNode scores = item.putObject("scores"); // nearly all heads score 0
    for (int h = 0; h < outcome.scores().length; h++) {
      if (outcome.scores()[h] != 0) {
        scores.put(Integer.toString(h), outcome.scores()[h]);
      }
    }
    return item;
  }

  private static Outcome outcome(ObjectNode item) {
    JsonNode response = item.path("response");
    int[] ids = new int[response.size()];
    Arrays.setAll(ids, i -> response.get(i).intValue());
    double[] scores = new double[item.path("heads").intValue()];
    item.path("scores")
        .properties()
        .forEach(e -> scores[Integer.parseInt(e.getKey())] = e.getValue().doubleValue());
    Failure failure = item.has("failure") ? Failure.valueOf(item.get("failure").asText()) : null;
    return new Outcome(ids, item.path("recall").doubleValue(), failure, scores);
  }
}
