package io.github.retmask.io;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.JsonNodeType;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.heads.HeadEstimate;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.ScoreReport;
import io.github.retmask.stats.Interval;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;

/// A [ScoreReport] as JSON: `{"model", "method", "options": {…}, "trials": {"tried", "kept",
/// "failed": {reason: count}, "distinct", "effective"}, "gini", "top5_share", "heads": [{"layer",
/// "head", "score", "ci95": [low, high]}, …]}`.
public final class ScoreReportFile {
  private ScoreReportFile() {}

  /// The report's place beside a score file: `scores.json` and `scores.json.gz` have
  /// `scores.meta.json`.
  public static Path beside(Path scores) {
    String name = scores.getFileName().toString();
    String stem = name.endsWith(".gz") ? name.substring(0, name.length() - 3) : name;
    stem = stem.endsWith(".json") ? stem.substring(0, stem.length() - 5) : stem;
    return scores.resolveSibling(stem + ".meta.json");
  }

  /// Writes a report, whole or not at all.
  ///
  /// @throws IOException one line that names the file and says why it was not written
  public static void write(Path file, ScoreReport report) throws IOException {
    ObjectNode root = JsonNodeFactory.instance.objectNode();
    root.put("model", report.model()).put("method", report.method());
    ObjectNode options = root.putObject("options");
    report.options().forEach(options::put);
    ObjectNode trials = root.putObject("trials");
    trials.put("tried", report.tried()).put("kept", report.kept());
    ObjectNode failed = trials.putObject("failed");
    report.failed().forEach(failed::put);
    trials.put("distinct", report.distinct()).put("effective", report.effective());
    root.put("gini", report.gini()).put("top5_share", report.top5Share());
    var heads = root.putArray("heads");
    for (HeadEstimate estimate : report.heads()) {
      heads
          .addObject()
          .put("layer", estimate.id().layer())
          .put("head", estimate.id().head())
          .put("score", estimate.mean())
          .putArray("ci95")
          .add(estimate.ci95().low())
          .add(estimate.ci95().high());
    }
    AtomicFiles.write(file, Json.PRETTY.writeValueAsString(root) + "\n");
  }

  /// Reads a report.
  ///
  /// @throws FormatException naming file and key
  /// @throws IOException when the file cannot be read
  public static ScoreReport read(Path file) throws IOException {
    JsonNode root = JsonFiles.read(file);
    try {
      return report(file, root);
    } catch (IllegalArgumentException e) {
      throw new FormatException(file + ": " + e.getMessage(), e);
    }
  }

  private static ScoreReport report(Path file, JsonNode root) {
    TreeMap<String, String> options = new TreeMap<>();
    JsonNode optionsNode = get(file, root, "options", JsonNodeType.OBJECT);
    for (var entry : optionsNode.properties()) {
      options.put(
          entry.getKey(), get(file, optionsNode, entry.getKey(), JsonNodeType.STRING).asText());
    }
    JsonNode trials = get(file, root, "trials", JsonNodeType.OBJECT);
    TreeMap<String, Integer> failed = new TreeMap<>();
    JsonNode failedNode = get(file, trials, "failed", JsonNodeType.OBJECT);
    for (var entry : failedNode.properties()) {
      failed.put(entry.getKey(), number(file, failedNode, entry.getKey()).intValue());
    }
    List<HeadEstimate> heads = new ArrayList<>();
    for (JsonNode head : get(file, root, "heads", JsonNodeType.ARRAY)) {
      JsonNode ci = get(file, head, "ci95", JsonNodeType.ARRAY);
      heads.add(
          new HeadEstimate(
              new HeadId(
                  number(file, head, "layer").intValue(), number(file, head, "head").intValue()),
              number(file, head, "score").doubleValue(),
              new Interval(ci.path(0).asDouble(), ci.path(1).asDouble())));
    }
    return new ScoreReport(
        get(file, root, "model", JsonNodeType.STRING).asText(),
        get(file, root, "method", JsonNodeType.STRING).asText(),
        options,
        number(file, trials, "tried").intValue(),
        number(file, trials, "kept").intValue(),
        failed,
        number(file, trials, "distinct").intValue(),
        number(file, trials, "effective").doubleValue(),
        number(file, root, "gini").doubleValue(),
        number(file, root, "top5_share").doubleValue(),
        heads);
  }

  private static JsonNode number(Path file, JsonNode parent, String key) {
    JsonNode value = get(file, parent, key, JsonNodeType.NUMBER);
    if (!Double.isFinite(value.doubleValue())) {
      throw new FormatException(
          "%s: \"%s\" is %s, want a finite number".formatted(file, key, value.asText()));
    }
    return value;
  }

  private static JsonNode get(Path file, JsonNode parent, String key, JsonNodeType type) {
    JsonNode value = parent.path(key);
    if (value.getNodeType() != type) {
      throw new FormatException(
          "%s: \"%s\" is %s, want a JSON %s"
              .formatted(
                  file, key, value.getNodeType().name().toLowerCase(), type.name().toLowerCase()));
    }
    return value;
  }
}
