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
final class TrainingDirectory implements AutoCloseable {
  private static final JsonMapper JSON = new JsonMapper();
  private static final String FORMAT = "retmask-training-state-1";

  private final Path path;
  private final Map<String, String> options;
  private final List<Path> temporary;
  private final MetricsLog log;
  private boolean finished;

  private TrainingDirectory(Path path, Map<String, String> options, List<String> more)
      throws IOException {
    this.path = path;
    this.options = new LinkedHashMap<>(options);
    this.temporary = new ArrayList<>(more.stream().map(path::resolve).toList());
    this.temporary.add(checkpoint());
    this.log = new MetricsLog(path.resolve("metrics.jsonl"));
  }

  /// Opens a folder for a training with these options, or makes it. It is locked until [#close].
  ///
  /// @param more names of further files that go when the training is finished
  /// @throws IllegalArgumentException naming the options that differ from those it was begun with
  static TrainingDirectory open(
      Path path, Map<String, String> options, List<String> more, TrainingStart start)
      throws IOException {
    Files.createDirectories(path);
    TrainingDirectory directory = new TrainingDirectory(path, options, more);
    try {
      if (start == TrainingStart.RESTART) {
        directory.clear();
      }
      directory.begin();
      return directory;
    } catch (Throwable failure) {
      directory.close();
      throw failure;
    }
  }

  private void begin() throws IOException {
    if (Files.exists(about())) {
      compareOptions();
      if (finished) {
        deleteTemporary(); // a kill may have come between the mark and this
      }
    } else if (log.isEmpty()) {
      clear();
      writeAbout();
    } else {
      throw new IOException(
          "%s: holds a metrics.jsonl but no training.json, so it is not from here. Use another folder, or --restart"
              .formatted(path));
    }
  }

  /// Removes what an earlier training left. Its description goes last: until then the folder is
  /// seen as what it is.
  private void clear() throws IOException {
    log.cut(0);
    deleteTemporary();
    Files.deleteIfExists(about());
  }

  private void deleteTemporary() throws IOException {
    for (Path file : temporary) {
      Files.deleteIfExists(file);
    }
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

  /// Marks the training as done and drops what only its continuation needs.
  void finish() throws IOException {
    finished = true;
    writeAbout();
    deleteTemporary();
  }

  MetricsLog log() {
    return log;
  }

  /// Reads the checkpoint into `parameters` and the moments of `optimizer`, and cuts the log to
  /// what it was then. Without a checkpoint the training stands at its beginning.
  TrainingState load(Weights parameters, AdamW optimizer, Ops ops) throws IOException {
    if (!Files.exists(checkpoint())) {
      log.cut(0);
      return new TrainingState(0, 0, 0, Map.of());
    }
    try (SafeTensors file = SafeTensors.open(checkpoint())) {
      JsonNode about = JSON.readTree(file.metadata().getOrDefault("state", "{}"));
      ConfigReader json = new ConfigReader(about, checkpoint().toString());
      json.requireText("format", FORMAT, "");
      for (Tensor tensor : tensors(parameters, optimizer)) {
        Tensor stored = file.tensor(tensor.name());
        if (stored.dtype() != DType.F32 || !stored.shape().equals(tensor.shape())) {
          throw new FormatException(
              "%s: tensor is %s, want %s".formatted(checkpoint(), stored, tensor));
        }
        ops.cast(tensor, stored);
      }
      Map<String, Double> sums = new LinkedHashMap<>();
      for (Map.Entry<String, JsonNode> sum : json.object("sums").json().properties()) {
        sums.put(sum.getKey(), sum.getValue().doubleValue());
      }
      log.cut(about.path("metrics_bytes").longValue());
      return new TrainingState(
          about.path("step").longValue(),
          about.path("num_tokens").longValue(),
          about.path("count").longValue(),
          sums);
    }
  }

  /// Replaces the checkpoint, also when the thread is interrupted meanwhile.
  void save(TrainingState state, Weights parameters, AdamW optimizer) throws IOException {
    ObjectNode json = JSON.createObjectNode();
    json.put("format", FORMAT);
    json.put("step", state.step());
    json.put("num_tokens", state.numTokens());
    json.put("metrics_bytes", log.bytesOnDisk());
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

  private Path checkpoint() {
    return path.resolve("training-state.safetensors");
  }

  /// Unlocks the folder.
  @Override
  public void close() throws IOException {
    log.close();
  }
}
