package io.github.retmask.examples.quickstart;

import io.github.retmask.stats.Interval;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// What the intervals of paired differences allow to say.
enum Verdict {
  HIGHER("higher"),
  LOWER("lower"),
  UNCLEAR("no clear difference"),
  MISSING("not measured");

  private final String words;

  Verdict(String words) {
    this.words = words;
  }

  /// Higher or lower when the interval lies on one side of zero.
  static Verdict of(Results.@Nullable Difference difference) {
    if (difference == null || Double.isNaN(difference.value()) || difference.ci95() == null) {
      return MISSING;
    }
    Interval ci95 = difference.ci95();
    if (ci95.low() > 0) {
      return HIGHER;
    }
    return ci95.high() < 0 ? LOWER : UNCLEAR;
  }

  /// One sentence about one comparison: `retmask against base: higher at 96 and 128; no clear
  /// difference at 48 and memory.`
  static String sentence(Results results, Results.Comparison comparison) {
    List<Results.Column> columns = results.differenceColumns();
    Map<Verdict, List<String>> places = new EnumMap<>(Verdict.class);
    for (Results.Column column : columns) {
      Verdict verdict = of(results.find(comparison, column));
      places.computeIfAbsent(verdict, v -> new ArrayList<>()).add(label(column, columns));
    }
    List<String> clauses = new ArrayList<>();
    places.forEach((verdict, at) -> clauses.add(verdict.words + " at " + joined(at)));
    return comparison.arm()
        + " against "
        + comparison.against()
        + ": "
        + String.join("; ", clauses)
        + ".";
  }

  /// A column's name: the length for context answers, `memory` for answers from memory, with the
  /// length when there are several.
  static String label(Results.Column column, List<Results.Column> columns) {
    long ofMetric = columns.stream().filter(c -> c.metric().equals(column.metric())).count();
    return switch (column.metric()) {
      case Results.CONTEXT_EXACT -> Integer.toString(column.length());
      case Results.MEMORY_EXACT -> ofMetric == 1 ? "memory" : "memory " + column.length();
      default -> column.metric() + " " + column.length();
    };
  }

  private static String joined(List<String> words) {
    int last = words.size() - 1;
    return last == 0
        ? words.getFirst()
        : String.join(", ", words.subList(0, last)) + " and " + words.get(last);
  }
}
