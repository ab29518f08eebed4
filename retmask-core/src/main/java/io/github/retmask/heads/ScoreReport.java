package io.github.retmask.heads;

import java.util.Collections;
import java.util.List;
import java.util.SortedMap;
import java.util.TreeMap;

/// Where scores come from and what they are worth; stands beside the scores in `scores.meta.json`.
///
/// @param model fingerprint of the scored model
/// @param method scoring method, such as `wu` or `wu-compat`
/// @param options everything else that determines the scores, by name
/// @param tried trials run
/// @param kept successful ones: those the scores hold
/// @param failed the others, counted by reason
/// @param distinct kept trials that repeat no other
/// @param effective [HeadStatistics#effectiveTrials]
/// @param gini [HeadStatistics#gini]
/// @param top5Share [HeadStatistics#topShare] of the best 5 % of the heads
/// @param heads all heads, highest mean first
public record ScoreReport(
    String model,
    String method,
    SortedMap<String, String> options,
    int tried,
    int kept,
    SortedMap<String, Integer> failed,
    int distinct,
    double effective,
    double gini,
    double top5Share,
    List<HeadEstimate> heads) {

  public ScoreReport {
    options = Collections.unmodifiableSortedMap(new TreeMap<>(options));
    failed = Collections.unmodifiableSortedMap(new TreeMap<>(failed));
    heads = List.copyOf(heads);
    int failures = failed.values().stream().mapToInt(Integer::intValue).sum();
    if (kept + failures != tried) {
      throw new IllegalArgumentException(
          "%d trials tried, but %d kept and %d failed".formatted(tried, kept, failures));
    }
  }

  /// The report on the trials behind `statistics`.
  public static ScoreReport of(
      String model,
      String method,
      SortedMap<String, String> options,
      SortedMap<String, Integer> failed,
      HeadStatistics statistics) {
    int failures = failed.values().stream().mapToInt(Integer::intValue).sum();
    return new ScoreReport(
        model,
        method,
        options,
        statistics.nominalTrials() + failures,
        statistics.nominalTrials(),
        failed,
        statistics.distinctTrials(),
        statistics.effectiveTrials(),
        statistics.gini(),
        statistics.topShare(0.05),
        statistics.estimates());
  }
}
