package io.github.retmask.examples.quickstart;

import io.github.retmask.stats.Interval;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.LongSummaryStatistics;
import org.jspecify.annotations.Nullable;

/// [Results] as plain ASCII tables of at most [#WIDTH] columns.
public final class TextTable {
  /// Longest line.
  public static final int WIDTH = 110;

  private static final String GAP = "  ";
  private static final int LONGEST_LABEL = 40;

  private TextTable() {}

  /// Accuracy of every arm, then the paired differences and what they allow to say.
  ///
  /// @return lines, each ended by a line feed
  public static String of(Results results) {
    return accuracy(results) + "\n" + differences(results);
  }

  /// One row an arm, one column a length: `value +-half the width of the 95 % interval`, in points.
  static String accuracy(Results results) {
    List<Results.Column> columns = results.columns();
    if (columns.isEmpty()) {
      return "No accuracies were measured.\n";
    }
    List<List<String>> rows = new ArrayList<>();
    for (String arm : results.arms()) {
      List<String> row = new ArrayList<>(List.of(arm));
      for (Results.Column column : columns) {
        Results.Evaluation e = results.find(arm, column);
        row.add(e == null ? "-" : cell("%.1f", e.value(), e.ci95()));
      }
      rows.add(row);
    }
    return "Exact answers in % (+- half the 95 % interval) by prompt length; "
        + trials(results)
        + "\n"
        + legend(results, columns)
        + table(header(results, columns, "arm"), rows);
  }

  /// One row a comparison, then one sentence each.
  static String differences(Results results) {
    List<Results.Column> columns = results.differenceColumns();
    if (columns.isEmpty()) {
      return "No differences were measured.\n";
    }
    List<List<String>> rows = new ArrayList<>();
    StringBuilder sentences = new StringBuilder("\n");
    for (Results.Comparison comparison : results.comparisons()) {
      List<String> row = new ArrayList<>();
      row.add(comparison.arm() + " - " + comparison.against());
      for (Results.Column column : columns) {
        Results.Difference d = results.find(comparison, column);
        row.add(d == null ? "-" : cell("%+.1f", d.value(), d.ci95()));
      }
      rows.add(row);
      sentences.append(wrapped(Verdict.sentence(results, comparison)));
    }
    return "Paired differences in points (+- half the 95 % interval)\n"
        + table(header(results, columns, "difference"), rows)
        + sentences
        + wrapped(
            "\"higher\" and \"lower\" mean that the 95 % interval of that one difference lies on"
                + " one side of zero.");
  }

  /// `45.0 +-2.1`; `-` when the value is missing, and no half-width when the interval is.
  static String cell(String format, double value, @Nullable Interval ci95) {
    if (!Double.isFinite(value)) {
      return "-";
    }
    // Through a long: there "-0.0", which would read like a loss, is 0.
    double points = Math.round(value * 1000) / 10.0;
    String text = String.format(Locale.ROOT, format, points);
    return ci95 == null
        ? text
        : text + String.format(Locale.ROOT, " +-%.1f", ci95.width() / 2 * 100);
  }

  /// `600 trials each.`
  static String trials(Results results) {
    LongSummaryStatistics trials =
        results.evaluation().stream()
            .filter(e -> !Double.isNaN(e.value()))
            .mapToLong(Results.Evaluation::trials)
            .summaryStatistics();
    if (trials.getCount() == 0) {
      return "no trials.";
    }
    return trials.getMin() == trials.getMax()
        ? trials.getMin() + " trials each."
        : trials.getMin() + " to " + trials.getMax() + " trials.";
  }

  private static String legend(Results results, List<Results.Column> columns) {
    StringBuilder legend = new StringBuilder();
    Results.Lengths trained = results.trained();
    if (trained != null) {
      legend.append("Trained on lengths %d to %d.".formatted(trained.min(), trained.max()));
      if (columns.stream().anyMatch(c -> results.beyondTraining(c.length()))) {
        legend.append(" > marks longer ones.");
      }
    }
    if (columns.stream().anyMatch(c -> c.metric().equals(Results.MEMORY_EXACT))) {
      legend.append(" memory: no needle in the prompt, the default value is right.");
    }
    return legend.isEmpty() ? "" : wrapped(legend.toString().strip());
  }

  private static List<String> header(Results results, List<Results.Column> columns, String first) {
    List<String> header = new ArrayList<>(List.of(first));
    for (Results.Column column : columns) {
      String mark = results.beyondTraining(column.length()) ? ">" : "";
      header.add(mark + Verdict.label(column, columns));
    }
    return header;
  }

  /// Aligned columns: the first to the left, the others to the right. Columns that do not fit go to
  /// further blocks below, each with the first column again.
  static String table(List<String> header, List<List<String>> rows) {
    List<List<String>> all = new ArrayList<>(List.of(header));
    all.addAll(rows);
    List<List<String>> shown = all.stream().map(TextTable::ascii).toList();
    int[] widths = new int[header.size()];
    for (List<String> row : shown) {
      for (int i = 0; i < widths.length; i++) {
        widths[i] = Math.max(widths[i], row.get(i).length());
      }
    }
    StringBuilder out = new StringBuilder();
    int from = 1;
    do {
      int to = from;
      int width = widths[0];
      while (to < widths.length && (to == from || width + GAP.length() + widths[to] <= WIDTH)) {
        width += GAP.length() + widths[to++];
      }
      if (from > 1) {
        out.append('\n');
      }
      for (int r = 0; r < shown.size(); r++) {
        List<String> row = shown.get(r);
        StringBuilder line = new StringBuilder(row.getFirst());
        line.repeat(' ', widths[0] - line.length());
        for (int i = from; i < to; i++) {
          line.append(GAP).repeat(' ', widths[i] - row.get(i).length()).append(row.get(i));
        }
        out.append(line.toString().stripTrailing()).append('\n');
        if (r == 0) {
          out.repeat('-', width).append('\n');
        }
      }
      from = to;
    } while (from < widths.length);
    return out.toString();
  }

  /// Nothing but printable ASCII, and no cell that could fill a line on its own.
  private static List<String> ascii(List<String> row) {
    return row.stream().map(cell -> shortened(ascii(cell))).toList();
  }

  private static String ascii(String text) {
    return text.replaceAll("[^ -~]", "?");
  }

  private static String shortened(String text) {
    return text.length() <= LONGEST_LABEL ? text : text.substring(0, LONGEST_LABEL - 3) + "...";
  }

  /// The words of a sentence in lines of at most [#WIDTH], the later ones indented.
  private static String wrapped(String sentence) {
    StringBuilder out = new StringBuilder();
    StringBuilder line = new StringBuilder();
    for (String word : ascii(sentence).split(" ")) {
      String fitting = word.length() > WIDTH - 4 ? word.substring(0, WIDTH - 7) + "..." : word;
      if (!line.isEmpty() && line.length() + 1 + fitting.length() > WIDTH) {
        out.append(line).append('\n');
        line.setLength(0);
        line.append("   ");
      }
      line.append(line.isEmpty() ? "" : " ").append(fitting);
    }
    return out.append(line).append('\n').toString();
  }
}
