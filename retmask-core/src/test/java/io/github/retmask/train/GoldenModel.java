package io.github.retmask.train;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.JsonFiles;
import io.github.retmask.io.SafeTensors;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Weights;
import io.github.retmask.model.arch.Architecture;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.net.URISyntaxException;
import java.nio.file.Path;

/// A tiny random checkpoint with float64 results, from the test resources.
///
/// @param train content of train.json
record GoldenModel(ModelConfig config, Weights weights, JsonNode train, Path directory, Arena arena)
    implements AutoCloseable {

  static GoldenModel open(String family) {
    Path directory = resource("/goldens/" + family);
    Arena arena = Arena.ofShared();
    try {
      Path file = directory.resolve("config.json");
      ConfigReader json = new ConfigReader(JsonFiles.read(file), file.toString());
      Architecture architecture = Architecture.of(json);
      ModelConfig config = architecture.config(json);
      SafeTensors tensors = SafeTensors.open(directory.resolve("model.safetensors"), arena);
      Weights weights = architecture.weights(config, json, (name, _) -> tensors.tensor(name));
      JsonNode train = JsonFiles.read(directory.resolve("train.json"));
      return new GoldenModel(config, weights, train, directory, arena);
    } catch (IOException e) {
      throw new java.io.UncheckedIOException(e);
    }
  }

  static Path resource(String name) {
    try {
      return Path.of(GoldenModel.class.getResource(name).toURI());
    } catch (URISyntaxException e) {
      throw new IllegalArgumentException(name, e);
    }
  }

  @Override
  public void close() {
    arena.close();
  }
}
