package io.github.retmask.examples.cli;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.heads.HeadId;
import io.github.retmask.io.AtomicFiles;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.stats.Interval;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/// What `eval` found out, in the layout of results.json.
///
/// @param model as named on the command line
/// @param suite name of the suite
/// @param seeds of the prompts; empty where they come from files
/// @param wallSeconds time of the last run
/// @param heads masked heads
/// @param cells numbers
/// @param options everything that determines the numbers, by name
record Evaluation(
    String model,
    String suite,
    List<Long> seeds,
    double wallSeconds,
    List<HeadId> heads,
    List<Cell> cells,
    SortedMap<String, String> options) {

  /// One number.
  ///
  /// @param arm what was evaluated: `base`, or the name of the masked arm
  /// @param length prompt length in tokens
  /// @param depth where the needle lies, percent as text; null over all depths
  /// @param metric what was measured
  /// @param trials prompts behind it
  record Cell(
      String arm,
      int length,
      @Nullable String depth,
      String metric,
      double value,
      Interval ci95,
      int trials) {}

  /// Writes the file, whole or not at all.
  void write(Path file) throws IOException {
    ObjectNode root = JsonNodeFactory.instance.objectNode();
    root.put("model", model);
    root.put("suite", suite);
    ArrayNode seedList = root.putArray("seeds");
    seeds.forEach(seedList::add);
    root.put("wall_seconds", wallSeconds);
    root.putNull("threshold");
    ArrayNode headList = root.putArray("heads");
    for (HeadId id : heads) {
      headList
          .addObject()
          .put("layer", id.layer())
          .put("head", id.head())
          .putNull("score")
          .putNull("ci95");
    }
    ArrayNode evaluation = root.putArray("evaluation");
    for (Cell cell : cells) {
      ObjectNode node = evaluation.addObject();
      node.put("arm", cell.arm());
      node.put("length", cell.length());
      if (cell.depth() != null) {
        node.put("depth", cell.depth());
      }
      node.put("metric", cell.metric());
      node.put("value", cell.value());
      node.putArray("ci95").add(cell.ci95().low()).add(cell.ci95().high());
      node.put("trials", cell.trials());
    }
    ObjectNode given = root.putObject("options");
    options.forEach(given::put);
    AtomicFiles.write(
        file, new ObjectMapper().writerWithDefaultPrettyPrinter().writeValueAsString(root) + "\n");
  }

  /// Reads a file that [#write] wrote.
  ///
  /// @throws io.github.retmask.io.FormatException naming file and key
  static Evaluation read(Path file) throws IOException {
    ConfigReader json = new ConfigReader(JsonFiles.read(file), file.toString());
    SortedMap<String, String> options = new TreeMap<>();
    for (Map.Entry<String, JsonNode> option : json.object("options").json().properties()) {
      options.put(option.getKey(), option.getValue().asText());
    }
    List<HeadId> heads = new ArrayList<>();
    for (ConfigReader head : json.objects("heads")) {
      heads.add(new HeadId(head.integer("layer", 0), head.integer("head", 0)));
    }
    List<Cell> cells = new ArrayList<>();
    for (ConfigReader cell : json.objects("evaluation")) {
      JsonNode ci = cell.json().path("ci95");
      cells.add(
          new Cell(
              cell.text("arm"),
              cell.integer("length", 0),
              cell.has("depth") ? cell.text("depth") : null,
              cell.text("metric"),
              cell.number("value"),
              new Interval(ci.path(0).asDouble(), ci.path(1).asDouble()),
              cell.integer("trials", 0)));
    }
    List<Long> seeds = new ArrayList<>();
    json.json().path("seeds").forEach(seed -> seeds.add(seed.asLong()));
    return new Evaluation(
        json.text("model"),
        json.text("suite"),
        seeds,
        json.number("wall_seconds"),
        heads,
        cells,
        options);
  }
}
