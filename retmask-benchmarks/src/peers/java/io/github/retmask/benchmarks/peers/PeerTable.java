package io.github.retmask.benchmarks.peers;

import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.ToDoubleFunction;

/// Figures of engines on the same work: prints them beside retmask's, and writes them in JMH's JSON
/// form for [io.github.retmask.benchmarks.CompareResults].
final class PeerTable {
  static final String RETMASK = "retmask";

  /// What a figure is in, and which way is better.
  enum Unit {
    GFLOPS("GFLOP/s", true),
    TOKENS("tok/s", true),
    SECONDS("s", false),
    SECONDS_PER_MASK("s/mask", false),
    MIB("MiB", false);

    final String text;
    final boolean isRate;

    Unit(String text, boolean isRate) {
      this.text = text;
      this.isRate = isRate;
    }
  }

  private final List<Map<String, Object>> rows = new ArrayList<>();
  private final PrintStream out;
  private final String title;

  /// @param title what the figures are of; all figures of the table are in one file
  PeerTable(String title, PrintStream out) {
    this.title = title;
    this.out = out;
  }

  /// Adds and prints one kind of work.
  ///
  /// @param params of the work, by name
  /// @param figures by engine, one per round; the rounds of all engines are paired
  void add(String work, Map<String, String> params, Unit unit, Map<String, double[]> figures) {
    out.printf("%n%s %s, %s%n", work, params, unit.text);
    out.printf(
        "  %-20s %9s %9s %9s   %s%n",
        "", "minimum", "median", "maximum", "retmask is better by: minimum median maximum");
    double[] ours = figures.get(RETMASK);
    figures.forEach(
        (engine, values) -> {
          double[] sorted = sorted(values);
          String ratio = "";
          if (ours != null && ours != values) {
            double[] ratios = new double[Math.min(ours.length, values.length)];
            Arrays.setAll(ratios, i -> unit.isRate ? ours[i] / values[i] : values[i] / ours[i]);
            double[] r = sorted(ratios);
            ratio = "%6.2fx %6.2fx %6.2fx".formatted(r[0], median(ratios), r[r.length - 1]);
          }
          out.printf(
              "  %-20s %9.3f %9.3f %9.3f   %s%n",
              engine, sorted[0], median(values), sorted[sorted.length - 1], ratio);
          rows.add(row(work, params, unit, engine, values));
        });
  }

  /// Says why an engine has no figures.
  void refuse(String work, Map<String, String> why) {
    why.forEach((engine, reason) -> out.printf("  %s: %s refused: %s%n", work, engine, reason));
  }

  private Map<String, Object> row(
      String work, Map<String, String> params, Unit unit, String engine, double[] values) {
    Map<String, String> all = new TreeMap<>(params);
    all.put("engine", engine);
    Map<String, Object> metric = new LinkedHashMap<>();
    metric.put("score", median(values));
    metric.put("scoreUnit", unit.text);
    metric.put("rawData", List.of(values));
    Map<String, Object> row = new LinkedHashMap<>();
    row.put("benchmark", title + "." + work);
    row.put("mode", unit.isRate ? "thrpt" : "avgt");
    row.put("params", all);
    row.put("primaryMetric", metric);
    return row;
  }

  /// Writes all rows, unless the name is empty.
  void write(String file) throws IOException {
    if (!file.isEmpty()) {
      new JsonMapper().writerWithDefaultPrettyPrinter().writeValue(Path.of(file).toFile(), rows);
    }
  }

  /// One figure per answer of every engine.
  static Map<String, double[]> figures(
      Map<String, List<String[]>> answers, ToDoubleFunction<String[]> figure) {
    Map<String, double[]> figures = new LinkedHashMap<>();
    answers.forEach(
        (engine, said) -> figures.put(engine, said.stream().mapToDouble(figure).toArray()));
    return figures;
  }

  private static double[] sorted(double[] values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    return sorted;
  }

  static double median(double[] values) {
    double[] sorted = sorted(values);
    int middle = sorted.length / 2;
    return sorted.length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }
}
