package io.github.retmask.train;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.backend.Ops;
import io.github.retmask.io.AtomicFiles;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.io.SafeTensors;
import io.github.retmask.io.SafeTensorsWriter;
import io.github.retmask.model.Weights;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.io.IOException;
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;

/// The folder of one training: `training.json` (its options, and whether it is finished),
/// `metrics.jsonl`, and until it is finished `training-state.safetensors`, the newest checkpoint. A
/// checkpoint replaces the one before in a single move, so a complete one is always there.
final class TrainingDirectory {
  private static final JsonMapper JSON = new JsonMapper();
  private static final String FORMAT = "retmask-training-state-1";

  private final Path path;
  private final Map<String, String> options;
  private boolean finished;

  private TrainingDirectory(Path path, Map<String, String> options) {
    this.path = path;
    this.options = options;
  }

  /// Opens a folder for a training with these options, or makes it.
  ///
  /// @throws IllegalArgumentException naming the options that differ from those it was begun with
  static TrainingDirectory open(Path path, Map<String, String> options, TrainingStart start)
      throws IOException {
    Files.createDirectories(path);
    TrainingDirectory directory = new TrainingDirectory(path, new LinkedHashMap<>(options));
    if (start == TrainingStart.RESTART) {
      directory.clear();
    }
    if (Files.exists(directory.about())) {
      directory.compareOptions();
    } else {
      directory.clear();
      directory.writeAbout();
    }
    return directory;
  }

  /// Removes what an earlier training left; the description goes last, so that an interrupted
  /// removal is seen as what it is.
  private void clear() throws IOException {
    Files.deleteIfExists(checkpoint());
    Files.deleteIfExists(metrics());
    Files.deleteIfExists(about());
  }

  private void compareOptions() throws IOException {
    ConfigReader json = new ConfigReader(JsonFiles.read(about()), about().toString());
    Map<String, String> begun = new HashMap<>();
    for (Map.Entry<String, JsonNode> field : json.object("options").json().properties()) {
      begun.put(field.getKey(), field.getValue().asText());
    }
    TreeSet<String> names = new TreeSet<>(begun.keySet());
    names.addAll(options.keySet());
    List<String> differences = new ArrayList<>();
    for (String name : names) {
      String before = begun.getOrDefault(name, "nothing");
      String now = options.getOrDefault(name, "nothing");
      if (!before.equals(now)) {
        differences.add("%s was %s, now %s".formatted(name, before, now));
      }
    }
    if (!differences.isEmpty()) {
      throw new IllegalArgumentException(
          "%s: holds a training with other options: %s. Use those, another folder, or --restart"
              .formatted(path, String.join("; ", differences)));
    }
    finished = json.flag("finished", false);
  }

  private void writeAbout() throws IOException {
    ObjectNode json = JSON.createObjectNode();
    ObjectNode fields = json.putObject("options");
    options.forEach(fields::put);
    json.put("finished", finished);
    AtomicFiles.write(about(), json.toPrettyString() + "\n");
  }

  boolean isFinished() {
    return finished;
  }

  /// Marks the training as done and drops its checkpoint.
  void finish() throws IOException {
    finished = true;
    writeAbout();
    Files.deleteIfExists(checkpoint());
  }

  /// Reads the checkpoint into `parameters` and the moments of `optimizer`; without one, both stay
  /// as they are.
  ///
  /// @return what to continue from and the length that the log had
  Loaded load(Weights parameters, AdamW optimizer, Ops ops) throws IOException {
    if (!Files.exists(checkpoint())) {
      return new Loaded(new TrainingState(0, 0, 0, Map.of()), 0);
    }
    try (SafeTensors file = SafeTensors.open(checkpoint())) {
      JsonNode about = JSON.readTree(file.metadata().getOrDefault("state", "{}"));
      ConfigReader json = new ConfigReader(about, checkpoint().toString());
      json.requireText("format", FORMAT, FORMAT);
      for (Tensor tensor : tensors(parameters, optimizer)) {
        Tensor stored = file.tensor(tensor.name());
        if (stored.dtype() != DType.F32 || !stored.shape().equals(tensor.shape())) {
          throw new FormatException(
              "%s: tensor %s is %s%s, want F32%s"
                  .formatted(
                      checkpoint(), tensor.name(), stored.dtype(), stored.shape(), tensor.shape()));
        }
        ops.cast(tensor, stored);
      }
      Map<String, Double> sums = new LinkedHashMap<>();
      for (Map.Entry<String, JsonNode> sum : json.object("sums").json().properties()) {
        sums.put(sum.getKey(), sum.getValue().doubleValue());
      }
      TrainingState state =
          new TrainingState(
              json.integer("step", 0),
              about.path("num_tokens").longValue(),
              json.integer("count", 0),
              sums);
      return new Loaded(state, about.path("metrics_bytes").longValue());
    }
  }

  /// @param state to continue from
  /// @param metricsBytes length of the log at that point
  record Loaded(TrainingState state, long metricsBytes) {}

  /// Opens the log, cut to the length it had at the checkpoint.
  MetricsLog openLog(Loaded from) throws IOException {
    return new MetricsLog(metrics(), from.metricsBytes());
  }

  /// Replaces the checkpoint, also when the thread is interrupted meanwhile.
  void save(TrainingState state, long metricsBytes, Weights parameters, AdamW optimizer)
      throws IOException {
    ObjectNode json = JSON.createObjectNode();
    json.put("format", FORMAT);
    json.put("step", state.step());
    json.put("num_tokens", state.numTokens());
    json.put("metrics_bytes", metricsBytes);
    json.put("count", state.count());
    ObjectNode sums = json.putObject("sums");
    state.sums().forEach(sums::put);
    SafeTensorsWriter writer = new SafeTensorsWriter(Map.of("state", json.toString()));
    tensors(parameters, optimizer).forEach(writer::add);
    try {
      writer.writeTo(checkpoint());
    } catch (IOException e) {
      if (!(e.getCause() instanceof ClosedByInterruptException)) {
        throw e;
      }
      Thread.interrupted(); // it hit the file: write again, then be interrupted
      writer.writeTo(checkpoint());
      Thread.currentThread().interrupt();
    }
  }

  /// Parameters and moments under names of their own: parts of a fused checkpoint tensor share one.
  private static List<Tensor> tensors(Weights parameters, AdamW optimizer) {
    List<Tensor> all = new ArrayList<>(parameters.tensors());
    all.addAll(optimizer.firstMoments().tensors());
    all.addAll(optimizer.secondMoments().tensors());
    for (int i = 0; i < all.size(); i++) {
      all.set(i, all.get(i).named(i + "." + all.get(i).name()));
    }
    return all;
  }

  private Path about() {
    return path.resolve("training.json");
  }

  private Path metrics() {
    return path.resolve("metrics.jsonl");
  }

  private Path checkpoint() {
    return path.resolve("training-state.safetensors");
  }
}
