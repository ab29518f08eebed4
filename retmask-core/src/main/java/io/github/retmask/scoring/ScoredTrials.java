package io.github.retmask.scoring;

import io.github.retmask.heads.HeadScores;
import io.github.retmask.heads.HeadStatistics;
import io.github.retmask.heads.ScoreReport;
import java.nio.IntBuffer;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/// What trials say about the heads of a model.
public final class ScoredTrials {
  private final int layers;
  private final int heads;
  private final List<Trial> trials;
  private final List<Outcome> outcomes;

  /// What became of one trial.
  ///
  /// @param response generated token ids; empty when the trial was not run
  /// @param recall share of the answer that the response repeats
  /// @param failure why the trial does not count, or null
  /// @param scores of every head, at `layer * heads + head`
  public record Outcome(
      int[] response, double recall, @Nullable Failure failure, double[] scores) {}

  /// Why a trial does not count.
  public enum Failure {
    /// Prompt and response exceed the model's context.
    TOO_LONG("too_long"),
    /// It is not known where the needle lies.
    NEEDLE_NOT_FOUND("needle_not_found"),
    /// The response was still thinking when its limit was reached, or ended there.
    THINKING_UNFINISHED("thinking_unfinished"),
    /// The response repeats half of the answer or less.
    LOW_RECALL("low_recall");

    private final String label;

    Failure(String label) {
      this.label = label;
    }

    /// The name in files.
    public String label() {
      return label;
    }
  }

  ScoredTrials(int layers, int heads, List<Trial> trials, List<Outcome> outcomes) {
    this.layers = layers;
    this.heads = heads;
    this.trials = List.copyOf(trials);
    this.outcomes = List.copyOf(outcomes);
  }

  /// Every trial's outcome, in the order of the trials.
  public List<Outcome> outcomes() {
    return outcomes;
  }

  /// The trials that count, in their order.
  public List<Trial> kept() {
    List<Trial> kept = new ArrayList<>();
    for (int t = 0; t < trials.size(); t++) {
      if (outcomes.get(t).failure() == null) {
        kept.add(trials.get(t));
      }
    }
    return kept;
  }

  /// The trials that do not count, by the label of the reason.
  public SortedMap<String, Integer> failed() {
    SortedMap<String, Integer> failed = new TreeMap<>();
    for (Outcome outcome : outcomes) {
      if (outcome.failure() != null) {
        failed.merge(outcome.failure().label(), 1, Integer::sum);
      }
    }
    return Collections.unmodifiableSortedMap(failed);
  }

  /// The scores in the trials that count.
  ///
  /// @throws IllegalStateException when there is none, saying why
  public HeadScores scores() {
    List<double[]> byTrial = new ArrayList<>();
    for (Outcome outcome : outcomes) {
      if (outcome.failure() == null) {
        byTrial.add(outcome.scores());
      }
    }
    if (byTrial.isEmpty()) {
      throw new IllegalStateException(
          "none of %d trials succeeded %s: nothing to score heads by"
              .formatted(outcomes.size(), failed()));
    }
    return HeadScores.ofTrials(layers, heads, byTrial);
  }

  /// What the scores are worth; trials with the same prompt and needle count as repeats.
  ///
  /// @throws IllegalStateException when no trial counts
  public HeadStatistics statistics() {
    List<Trial> kept = kept();
    Map<List<Object>, Integer> first = new HashMap<>();
    int[] sameAs = new int[kept.size()];
    for (int t = 0; t < sameAs.length; t++) {
      Trial trial = kept.get(t);
      List<Object> content =
          List.of(IntBuffer.wrap(trial.prompt()), trial.needleStart(), trial.needleEnd());
      Integer earlier = first.putIfAbsent(content, t);
      sameAs[t] = earlier == null ? t : earlier;
    }
    return HeadStatistics.of(scores(), sameAs);
  }

  /// The report that stands beside the scores.
  ///
  /// @param model fingerprint of the model
  /// @param options everything else that determines the scores, by name
  /// @throws IllegalStateException when no trial counts
  public ScoreReport report(String model, WuMethod method, SortedMap<String, String> options) {
    return ScoreReport.of(model, method.label(), options, failed(), statistics());
  }
}
