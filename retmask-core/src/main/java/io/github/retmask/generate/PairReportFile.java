package io.github.retmask.generate;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.AtomicFiles;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.JsonFiles;
import java.io.IOException;
import java.nio.file.Path;
import java.util.EnumMap;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;

/// What lies beside a pair file: how it was made and what became of the records, as JSON
/// `{"options": {name: value}, "records", "pairs", "dropped": {reason: count}, "chosen_tokens",
/// "rejected_tokens"}`.
final class PairReportFile {
  private PairReportFile() {}

  /// A finished run.
  ///
  /// @param options everything that determines the pairs, by name
  record Finished(Map<String, String> options, PairReport report) {}

  /// The report's place: `pairs.jsonl` and `pairs.jsonl.gz` have `pairs.meta.json`.
  static Path beside(Path pairs) {
    String stem = pairs.getFileName().toString();
    for (String suffix : new String[] {".gz", ".jsonl", ".json"}) {
      if (stem.endsWith(suffix) && stem.length() > suffix.length()) {
        stem = stem.substring(0, stem.length() - suffix.length());
      }
    }
    return pairs.resolveSibling(stem + ".meta.json");
  }

  /// Writes a report, whole or not at all.
  static void write(Path file, Finished finished) throws IOException {
    PairReport report = finished.report();
    ObjectNode root = JsonNodeFactory.instance.objectNode();
    ObjectNode options = root.putObject("options");
    new TreeMap<>(finished.options()).forEach(options::put);
    root.put("records", report.records()).put("pairs", report.pairs());
    ObjectNode dropped = root.putObject("dropped");
    report.dropped().forEach((reason, count) -> dropped.put(reason.text(), count));
    root.put("chosen_tokens", report.chosenTokens());
    root.put("rejected_tokens", report.rejectedTokens());
    AtomicFiles.write(file, root.toPrettyString() + "\n");
  }

  /// Reads a report.
  ///
  /// @throws io.github.retmask.io.FormatException naming file and key
  /// @throws IOException when the file cannot be read
  static Finished read(Path file) throws IOException {
    ConfigReader json = new ConfigReader(JsonFiles.read(file), file.toString());
    SortedMap<String, String> options = new TreeMap<>();
    for (Map.Entry<String, JsonNode> option : json.object("options").json().properties()) {
      options.put(option.getKey(), option.getValue().asText());
    }
    Map<DropReason, Long> dropped = new EnumMap<>(DropReason.class);
    ConfigReader counts = json.object("dropped");
    for (DropReason reason : DropReason.values()) {
      if (counts.has(reason.text())) {
        dropped.put(reason, (long) counts.number(reason.text()));
      }
    }
    PairReport report =
        new PairReport(
            (long) json.number("records"),
            (long) json.number("pairs"),
            dropped,
            (long) json.number("chosen_tokens"),
            (long) json.number("rejected_tokens"));
    return new Finished(options, report);
  }
}
