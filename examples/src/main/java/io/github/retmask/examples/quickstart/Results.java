package io.github.retmask.examples.quickstart;

import io.github.retmask.heads.HeadEstimate;
import io.github.retmask.heads.HeadId;
import io.github.retmask.stats.Interval;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// What a run measured, and under which circumstances. [ResultsFile] is its JSON form, [TextTable]
/// its form for a terminal, and [Report] its form for a browser.
///
/// A number that was not measured is NaN, and its interval is null.
///
/// @param model what was run, such as `bundled:tiny`
/// @param seeds seeds of the repetitions
/// @param wallSeconds time of the whole run
/// @param trained lengths of the training documents, or null when they are not known
/// @param layers decoder layers
/// @param headsPerLayer query heads of a layer
/// @param threshold score from which a head is taken for a retrieval head
/// @param heads scores, any number of heads in any order
/// @param selected heads that were masked
/// @param evaluation answers of every arm
/// @param differences paired differences of arms
/// @param pairs what became of the sampled preference pairs
/// @param curves logged training steps
/// @param stages wall time of each part of the run, in order
/// @param options options of the run, in order
/// @param environment machine and software, in order
public record Results(
    String model,
    List<Long> seeds,
    double wallSeconds,
    @Nullable Lengths trained,
    int layers,
    int headsPerLayer,
    double threshold,
    List<HeadEstimate> heads,
    List<HeadId> selected,
    List<Evaluation> evaluation,
    List<Difference> differences,
    List<Pairs> pairs,
    List<CurvePoint> curves,
    List<Stage> stages,
    Map<String, String> options,
    Map<String, String> environment) {

  /// The untouched model.
  public static final String BASE = "base";

  /// The base with its retrieval heads masked.
  public static final String ABLATED_RETRIEVAL = "ablated-retrieval";

  /// The base with as many heads masked that are no retrieval heads.
  public static final String ABLATED_NON_RETRIEVAL = "ablated-non-retrieval";

  /// The base with as many heads masked, drawn from all.
  public static final String ABLATED_RANDOM = "ablated-random";

  /// The base with as many heads of the same layers masked that are no retrieval heads.
  public static final String ABLATED_LAYER_MATCHED = "ablated-layer-matched";

  /// Trained to prefer its own answers to those it gives without its retrieval heads.
  public static final String RETMASK = "retmask";

  /// Trained likewise, with heads masked that are no retrieval heads.
  public static final String DPO_NON_RETRIEVAL = "dpo-non-retrieval";

  /// Trained likewise, with heads masked that were drawn from all.
  public static final String DPO_RANDOM = "dpo-random";

  /// The known arms in the order in which tables show them.
  public static final List<String> ARMS =
      List.of(
          BASE,
          ABLATED_RETRIEVAL,
          ABLATED_NON_RETRIEVAL,
          ABLATED_RANDOM,
          ABLATED_LAYER_MATCHED,
          RETMASK,
          DPO_NON_RETRIEVAL,
          DPO_RANDOM);

  /// Share of questions answered exactly with the value that stands in the context.
  public static final String CONTEXT_EXACT = "context_exact";

  /// Share of questions without a needle answered exactly with the default value.
  public static final String MEMORY_EXACT = "memory_exact";

  public Results {
    seeds = List.copyOf(seeds);
    heads = List.copyOf(heads);
    selected = List.copyOf(selected);
    evaluation = List.copyOf(evaluation);
    differences = List.copyOf(differences);
    pairs = List.copyOf(pairs);
    curves = List.copyOf(curves);
    stages = List.copyOf(stages);
    options = Collections.unmodifiableMap(new LinkedHashMap<>(options));
    environment = Collections.unmodifiableMap(new LinkedHashMap<>(environment));
  }

  /// Lengths in tokens, both included.
  public record Lengths(int min, int max) {
    public Lengths {
      if (min < 0 || max < min) {
        throw new IllegalArgumentException("lengths [" + min + ", " + max + "]");
      }
    }
  }

  /// How often an arm answered right.
  ///
  /// @param length prompt length in tokens
  /// @param value share in 0..1, or NaN
  public record Evaluation(
      String arm, int length, String metric, double value, @Nullable Interval ci95, long trials) {}

  /// `arm` minus `against` on the same prompts.
  ///
  /// @param value difference of shares in -1..1, or NaN
  public record Difference(
      String arm,
      String against,
      int length,
      String metric,
      double value,
      @Nullable Interval ci95) {}

  /// Preference pairs that one arm was trained on.
  ///
  /// @param prompts prompts sampled
  /// @param kept pairs trained on
  /// @param identical pairs dropped because masking changed nothing
  public record Pairs(String arm, long seed, long prompts, long kept, long identical) {}

  /// One logged training step.
  ///
  /// @param accuracy share of pairs whose chosen answer has the higher reward, or NaN
  /// @param margin mean reward difference of chosen and rejected, or NaN
  public record CurvePoint(
      String arm, long seed, int step, double loss, double accuracy, double margin) {}

  /// Wall time of one part of the run.
  public record Stage(String name, double seconds) {}

  /// A column of the tables.
  record Column(String metric, int length) implements Comparable<Column> {
    /// Context answers first, then answers from memory, then other metrics; short before long.
    @Override
    public int compareTo(Column other) {
      int byRank = Integer.compare(rank(metric), rank(other.metric));
      int byMetric = byRank != 0 ? byRank : metric.compareTo(other.metric);
      return byMetric != 0 ? byMetric : Integer.compare(length, other.length);
    }

    private static int rank(String metric) {
      return switch (metric) {
        case CONTEXT_EXACT -> 0;
        case MEMORY_EXACT -> 1;
        default -> 2;
      };
    }
  }

  /// Two arms that are compared.
  record Comparison(String arm, String against) {}

  /// Arms of the evaluation: the known ones in the order of [#ARMS], then others as they come.
  List<String> arms() {
    Set<String> present = new LinkedHashSet<>();
    evaluation.forEach(e -> present.add(e.arm));
    Set<String> ordered = new LinkedHashSet<>(ARMS);
    ordered.retainAll(present);
    ordered.addAll(present);
    return new ArrayList<>(ordered);
  }

  /// Comparisons in the order of their first difference.
  List<Comparison> comparisons() {
    Set<Comparison> distinct = new LinkedHashSet<>();
    differences.forEach(d -> distinct.add(new Comparison(d.arm, d.against)));
    return new ArrayList<>(distinct);
  }

  /// Columns of the evaluation, in table order.
  List<Column> columns() {
    return evaluation.stream()
        .map(e -> new Column(e.metric, e.length))
        .distinct()
        .sorted()
        .toList();
  }

  /// Columns of the differences, in table order.
  List<Column> differenceColumns() {
    return differences.stream()
        .map(d -> new Column(d.metric, d.length))
        .distinct()
        .sorted()
        .toList();
  }

  /// The answers of an arm in a column, or null.
  @Nullable Evaluation find(String arm, Column column) {
    for (Evaluation e : evaluation) {
      if (e.arm.equals(arm) && e.length == column.length && e.metric.equals(column.metric)) {
        return e;
      }
    }
    return null;
  }

  /// The difference of two arms in a column, or null.
  @Nullable Difference find(Comparison comparison, Column column) {
    for (Difference d : differences) {
      if (d.arm.equals(comparison.arm)
          && d.against.equals(comparison.against)
          && d.length == column.length
          && d.metric.equals(column.metric)) {
        return d;
      }
    }
    return null;
  }

  /// True for a length beyond those trained on; false when these are not known.
  boolean beyondTraining(int length) {
    return trained != null && length > trained.max;
  }
}
