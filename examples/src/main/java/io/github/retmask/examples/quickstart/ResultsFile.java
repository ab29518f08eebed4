package io.github.retmask.examples.quickstart;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectWriter;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.JsonNodeType;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.heads.HeadEstimate;
import io.github.retmask.heads.HeadId;
import io.github.retmask.io.AtomicFiles;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.stats.Interval;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/// [Results] as JSON, in this order of keys:
///
/// ```
/// {"model", "seeds": [...], "wall_seconds", "threshold",
///  "trained_lengths": [min, max], "layers", "heads_per_layer",
///  "heads": [{"layer", "head", "score", "ci95": [low, high]}, ...], "selected": ["L-H", ...],
///  "evaluation": [{"arm", "length", "metric", "value", "ci95", "trials"}, ...],
///  "differences": [{"arm", "against", "length", "metric", "value", "ci95"}, ...],
///  "pairs": [{"arm", "seed", "prompts", "kept", "identical"}, ...],
///  "curves": [{"arm", "seed", "step", "loss", "accuracy", "margin"}, ...],
///  "stages": [{"name", "seconds"}, ...], "options": {...}, "environment": {...}}
/// ```
///
/// Numbers and intervals that were not measured are null. Keys that are not named here are ignored.
public final class ResultsFile {
  private static final ObjectWriter WRITER =
      JsonMapper.builder().build().writerWithDefaultPrettyPrinter();

  private ResultsFile() {}

  /// Writes results, whole or not at all. The same results give the same bytes.
  ///
  /// @throws IOException one line that names the file and says why it was not written
  public static void write(Path file, Results results) throws IOException {
    AtomicFiles.write(file, WRITER.writeValueAsString(tree(results)) + "\n");
  }

  /// Reads results.
  ///
  /// @throws FormatException naming file and key
  /// @throws IOException when the file cannot be read
  public static Results read(Path file) throws IOException {
    JsonNode root = JsonFiles.read(file);
    try {
      return new Reader(file, "").results(root);
    } catch (IllegalArgumentException e) {
      throw new FormatException(file + ": " + e.getMessage(), e);
    }
  }

  private static ObjectNode tree(Results results) {
    ObjectNode root = JsonNodeFactory.instance.objectNode();
    root.put("model", results.model());
    ArrayNode seeds = root.putArray("seeds");
    results.seeds().forEach(seeds::add);
    number(root, "wall_seconds", results.wallSeconds());
    number(root, "threshold", results.threshold());
    Results.Lengths trained = results.trained();
    if (trained == null) {
      root.putNull("trained_lengths");
    } else {
      root.putArray("trained_lengths").add(trained.min()).add(trained.max());
    }
    root.put("layers", results.layers()).put("heads_per_layer", results.headsPerLayer());
    ArrayNode heads = root.putArray("heads");
    for (HeadEstimate head : results.heads()) {
      ObjectNode node = heads.addObject();
      node.put("layer", head.id().layer()).put("head", head.id().head());
      number(node, "score", head.mean());
      interval(node, head.ci95());
    }
    ArrayNode selected = root.putArray("selected");
    results.selected().forEach(id -> selected.add(id.toString()));
    ArrayNode evaluation = root.putArray("evaluation");
    for (Results.Evaluation e : results.evaluation()) {
      ObjectNode node = evaluation.addObject();
      node.put("arm", e.arm()).put("length", e.length()).put("metric", e.metric());
      number(node, "value", e.value());
      interval(node, e.ci95());
      node.put("trials", e.trials());
    }
    ArrayNode differences = root.putArray("differences");
    for (Results.Difference d : results.differences()) {
      ObjectNode node = differences.addObject();
      node.put("arm", d.arm()).put("against", d.against());
      node.put("length", d.length()).put("metric", d.metric());
      number(node, "value", d.value());
      interval(node, d.ci95());
    }
    ArrayNode pairs = root.putArray("pairs");
    for (Results.Pairs p : results.pairs()) {
      ObjectNode node = pairs.addObject().put("arm", p.arm()).put("seed", p.seed());
      node.put("prompts", p.prompts()).put("kept", p.kept()).put("identical", p.identical());
    }
    ArrayNode curves = root.putArray("curves");
    for (Results.CurvePoint c : results.curves()) {
      ObjectNode node = curves.addObject();
      node.put("arm", c.arm()).put("seed", c.seed()).put("step", c.step());
      number(node, "loss", c.loss());
      number(node, "accuracy", c.accuracy());
      number(node, "margin", c.margin());
    }
    ArrayNode stages = root.putArray("stages");
    for (Results.Stage stage : results.stages()) {
      number(stages.addObject().put("name", stage.name()), "seconds", stage.seconds());
    }
    ObjectNode options = root.putObject("options");
    results.options().forEach(options::put);
    ObjectNode environment = root.putObject("environment");
    results.environment().forEach(environment::put);
    return root;
  }

  /// JSON has no NaN and no infinity.
  private static void number(ObjectNode node, String key, double value) {
    if (Double.isFinite(value)) {
      node.put(key, value);
    } else {
      node.putNull(key);
    }
  }

  private static void interval(ObjectNode node, @Nullable Interval ci95) {
    if (ci95 == null || !Double.isFinite(ci95.low()) || !Double.isFinite(ci95.high())) {
      node.putNull("ci95");
    } else {
      node.putArray("ci95").add(ci95.low()).add(ci95.high());
    }
  }

  /// Reads one object of the file; `where` names it in messages, such as `heads[3].`.
  private record Reader(Path file, String where) {

    Results results(JsonNode root) {
      requireType(root, "the file", JsonNodeType.OBJECT);
      List<Long> seeds = new ArrayList<>();
      for (JsonNode seed : get(root, "seeds", JsonNodeType.ARRAY)) {
        seeds.add(integer(seed, "seeds"));
      }
      List<HeadId> selected = new ArrayList<>();
      for (JsonNode head : get(root, "selected", JsonNodeType.ARRAY)) {
        requireType(head, "selected", JsonNodeType.STRING);
        selected.add(HeadId.parse(head.textValue()));
      }
      return new Results(
          text(root, "model"),
          seeds,
          number(root, "wall_seconds"),
          lengths(root),
          intValue(root, "layers"),
          intValue(root, "heads_per_layer"),
          number(root, "threshold"),
          list(root, "heads", at -> at.reader.head(at.node)),
          selected,
          list(root, "evaluation", at -> at.reader.evaluation(at.node)),
          list(root, "differences", at -> at.reader.difference(at.node)),
          list(root, "pairs", at -> at.reader.pairs(at.node)),
          list(root, "curves", at -> at.reader.curvePoint(at.node)),
          list(
              root,
              "stages",
              at ->
                  new Results.Stage(
                      at.reader.text(at.node, "name"), at.reader.number(at.node, "seconds"))),
          strings(root, "options"),
          strings(root, "environment"));
    }

    private HeadEstimate head(JsonNode node) {
      Interval ci95 = interval(node);
      double score = number(node, "score");
      if (ci95 == null || !Double.isFinite(score)) {
        throw new FormatException(
            "%s: %sscore and %sci95 are null, want numbers".formatted(file, where, where));
      }
      return new HeadEstimate(
          new HeadId(intValue(node, "layer"), intValue(node, "head")), score, ci95);
    }

    private Results.Evaluation evaluation(JsonNode node) {
      return new Results.Evaluation(
          text(node, "arm"),
          intValue(node, "length"),
          text(node, "metric"),
          number(node, "value"),
          interval(node),
          longValue(node, "trials"));
    }

    private Results.Difference difference(JsonNode node) {
      return new Results.Difference(
          text(node, "arm"),
          text(node, "against"),
          intValue(node, "length"),
          text(node, "metric"),
          number(node, "value"),
          interval(node));
    }

    private Results.Pairs pairs(JsonNode node) {
      return new Results.Pairs(
          text(node, "arm"),
          longValue(node, "seed"),
          longValue(node, "prompts"),
          longValue(node, "kept"),
          longValue(node, "identical"));
    }

    private Results.CurvePoint curvePoint(JsonNode node) {
      return new Results.CurvePoint(
          text(node, "arm"),
          longValue(node, "seed"),
          intValue(node, "step"),
          number(node, "loss"),
          number(node, "accuracy"),
          number(node, "margin"));
    }

    private record Entry(Reader reader, JsonNode node) {}

    private <T> List<T> list(JsonNode parent, String key, Function<Entry, T> entry) {
      List<T> values = new ArrayList<>();
      for (JsonNode node : get(parent, key, JsonNodeType.ARRAY)) {
        String name = key + "[" + values.size() + "]";
        requireType(node, name, JsonNodeType.OBJECT);
        values.add(entry.apply(new Entry(new Reader(file, name + "."), node)));
      }
      return values;
    }

    private Map<String, String> strings(JsonNode parent, String key) {
      Map<String, String> values = new LinkedHashMap<>();
      for (var property : get(parent, key, JsonNodeType.OBJECT).properties()) {
        requireType(property.getValue(), key + "." + property.getKey(), JsonNodeType.STRING);
        values.put(property.getKey(), property.getValue().textValue());
      }
      return values;
    }

    private Results.@Nullable Lengths lengths(JsonNode root) {
      double[] pair = pair(root, "trained_lengths");
      return pair == null ? null : new Results.Lengths((int) pair[0], (int) pair[1]);
    }

    private @Nullable Interval interval(JsonNode node) {
      double[] pair = pair(node, "ci95");
      return pair == null ? null : new Interval(pair[0], pair[1]);
    }

    private double @Nullable [] pair(JsonNode parent, String key) {
      JsonNode node = parent.path(key);
      if (node.isNull()) {
        return null;
      }
      if (!node.isArray()
          || node.size() != 2
          || !node.get(0).isNumber()
          || !node.get(1).isNumber()) {
        throw new FormatException(
            "%s: %s%s is %s, want [low, high] or null".formatted(file, where, key, shown(node)));
      }
      return new double[] {node.get(0).doubleValue(), node.get(1).doubleValue()};
    }

    private double number(JsonNode parent, String key) {
      JsonNode node = parent.path(key);
      return node.isNull() ? Double.NaN : get(parent, key, JsonNodeType.NUMBER).doubleValue();
    }

    private String text(JsonNode parent, String key) {
      return get(parent, key, JsonNodeType.STRING).textValue();
    }

    private int intValue(JsonNode parent, String key) {
      long value = longValue(parent, key);
      if (value != (int) value) {
        throw new FormatException("%s: %s%s is %d, too large".formatted(file, where, key, value));
      }
      return (int) value;
    }

    private long longValue(JsonNode parent, String key) {
      return integer(parent.path(key), key);
    }

    private long integer(JsonNode node, String key) {
      if (!node.isIntegralNumber() || !node.canConvertToLong()) {
        throw new FormatException(
            "%s: %s%s is %s, want a whole number".formatted(file, where, key, shown(node)));
      }
      return node.longValue();
    }

    private JsonNode get(JsonNode parent, String key, JsonNodeType type) {
      JsonNode node = parent.path(key);
      requireType(node, key, type);
      return node;
    }

    private void requireType(JsonNode node, String key, JsonNodeType type) {
      if (node.getNodeType() != type) {
        throw new FormatException(
            "%s: %s%s is %s, want a JSON %s"
                .formatted(file, where, key, shown(node), type.name().toLowerCase()));
      }
    }

    private static String shown(JsonNode node) {
      return node.isMissingNode() ? "missing" : node.getNodeType().name().toLowerCase();
    }
  }
}
