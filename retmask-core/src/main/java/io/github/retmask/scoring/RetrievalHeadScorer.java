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
/// A trial's outcome depends on the trial alone, not on what runs beside it or on interruptions.
public final class RetrievalHeadScorer {
  private static final String LINE_BREAK_TOKEN = "<0x0A>";
  private static final int LINE_BREAK_ID = 144;

  private final Transformer model;
  private final AnswerRecall answers;
  private final WuMethod method;
  private final StopRule stop;

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
    this.model = model;
    this.answers = new AnswerRecall(tokenizer);
    this.method = method;
    this.stop =
        switch (method) {
          case STRICT -> StopRule.at(eosIds);
          case COMPAT -> StopRule.at(LINE_BREAK_ID, lineBreak(tokenizer));
        };
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
    if ((long) trial.prompt().length + newTokens(trial) > model.config().maxPositions()) {
      return Failure.TOO_LONG;
    }
    return method == WuMethod.STRICT && !trial.hasNeedle() ? Failure.NEEDLE_NOT_FOUND : null;
  }

  private int newTokens(Trial trial) {
    return method == WuMethod.COMPAT ? WuMethod.SCRIPT_TOKENS : trial.maxNewTokens();
  }

  private GenerationRequest request(Trial trial) {
    HeadMask none = model.noMask();
    return GenerationRequest.greedy(trial.prompt(), none, newTokens(trial))
        .withStop(stop)
        .withAttention();
  }

  private Outcome outcome(Trial trial, Completion completion) {
    double recall = answers.of(trial, completion.ids());
    if (!(recall > AnswerRecall.REQUIRED)) {
      return new Outcome(completion.ids(), recall, Failure.LOW_RECALL, new double[0]);
    }
    RetrievalTrace trace =
        new RetrievalTrace(
            trial.prompt(),
            trial.needleStart(),
            trial.needleEnd(),
            completion.ids(),
            topPositions(Objects.requireNonNull(completion.attention())));
    RetrievalScore reading =
        method == WuMethod.STRICT ? RetrievalScore.SET_POSITIONS : RetrievalScore.SCRIPT;
    double[] scores = reading.scores(trace, model.config().totalHeads());
    return new Outcome(completion.ids(), recall, null, scores);
  }

  /// Positions by step and head, `[steps][L*H]`.
  private int[][] topPositions(DecodeAttention seen) {
    ModelConfig config = model.config();
    int[][] top = new int[seen.steps()][config.totalHeads()];
    for (int s = 0; s < top.length; s++) {
      for (int l = 0; l < config.layerCount(); l++) {
        for (int h = 0; h < config.heads(); h++) {
          top[s][l * config.heads() + h] = seen.position(s, l, h);
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
