package io.github.retmask.benchmarks;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/// Compares two result files in JMH's JSON form (`-rf json`), which the peer programs write too.
///
/// `CompareResults BEFORE AFTER [TOLERANCE]` prints the speed of every row after over before. It
/// exits with 1 when a row became slower by more than the tolerance, a part of 1, or is gone, and
/// with 2 on a wrong command line or file.
public final class CompareResults {
  private static final double TOLERANCE = 0.05;

  private CompareResults() {}

  /// How fast a row was.
  ///
  /// @param score in `unit`
  /// @param lowerIsFaster whether the score is a time
  private record Row(double score, String unit, boolean lowerIsFaster) {
    double speedOver(Row before) {
      return lowerIsFaster ? before.score / score : score / before.score;
    }
  }

  static void main(String[] args) {
    try {
      if (args.length < 2 || args.length > 3) {
        throw new IllegalArgumentException("usage: CompareResults BEFORE AFTER [TOLERANCE]");
      }
      double tolerance = args.length == 3 ? Double.parseDouble(args[2]) : TOLERANCE;
      boolean kept = compare(Path.of(args[0]), Path.of(args[1]), tolerance, System.out);
      System.exit(kept ? 0 : 1);
    } catch (IllegalArgumentException | IOException e) {
      System.err.println(e.getMessage());
      System.exit(2);
    }
  }

  /// Whether no row of `before` became slower by more than `tolerance` or is missing.
  ///
  /// @throws IllegalArgumentException when the tolerance is not from 0 to below 1, a file is not of
  ///   that form, or the same row has another unit
  static boolean compare(Path before, Path after, double tolerance, PrintStream out)
      throws IOException {
    if (!(tolerance >= 0 && tolerance < 1)) {
      throw new IllegalArgumentException("tolerance " + tolerance + ": want from 0 to below 1");
    }
    Map<String, Row> old = read(before);
    Map<String, Row> fresh = read(after);
    boolean kept = true;
    for (Map.Entry<String, Row> entry : old.entrySet()) {
      String name = entry.getKey();
      Row was = entry.getValue();
      Row is = fresh.remove(name);
      if (is == null) {
        kept = false;
        out.printf("%-70s GONE%n", name);
        continue;
      }
      if (!is.unit.equals(was.unit) || is.lowerIsFaster != was.lowerIsFaster) {
        throw new IllegalArgumentException(
            "%s: in %s before, in %s after".formatted(name, was.unit, is.unit));
      }
      double speed = is.speedOver(was);
      boolean fine = speed >= 1 - tolerance; // not where it is NaN
      kept &= fine;
      out.printf(
          Locale.ROOT,
          "%-70s %10.3f %10.3f %s  %.3fx%s%n",
          name,
          was.score,
          is.score,
          was.unit,
          speed,
          fine ? "" : " SLOWER");
    }
    fresh.keySet().forEach(name -> out.printf("%-70s new%n", name));
    return kept;
  }

  /// Rows by benchmark, mode and parameters.
  private static Map<String, Row> read(Path file) throws IOException {
    JsonNode tree = new JsonMapper().readTree(file.toFile());
    Map<String, Row> rows = new LinkedHashMap<>();
    for (JsonNode one : tree) {
      String mode = one.path("mode").asText();
      JsonNode metric = one.path("primaryMetric");
      if (!one.has("benchmark") || mode.isEmpty() || !metric.path("score").isNumber()) {
        throw new IllegalArgumentException(file + ": not a result file of JMH (-rf json)");
      }
      Map<String, String> params = new TreeMap<>();
      one.path("params").properties().forEach(p -> params.put(p.getKey(), p.getValue().asText()));
      String name = one.path("benchmark").asText().replaceFirst(".*\\.(?=[^.]+\\.[^.]+$)", "");
      Row row =
          new Row(
              metric.path("score").doubleValue(),
              metric.path("scoreUnit").asText(),
              !mode.equals("thrpt"));
      if (rows.put(name + " " + mode + " " + params, row) != null) {
        throw new IllegalArgumentException(file + ": two rows of " + name + " " + params);
      }
    }
    if (rows.isEmpty()) {
      throw new IllegalArgumentException(file + ": no results");
    }
    return rows;
  }
}
