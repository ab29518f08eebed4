package io.github.retmask.examples.cli;

import io.github.retmask.io.FormatException;
import io.github.retmask.pretrained.PretrainedModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Parameters;

/// The model that a command works on, and what computes.
class ModelOptions {
  /// System property with the folder that holds `models/`; the launcher sets it.
  static final String HOME_PROPERTY = "retmask.home";

  private static final String BUNDLED = "bundled:";

  @Parameters(
      index = "0",
      paramLabel = "MODEL",
      description = "Folder of a Hugging Face checkpoint, a .gguf file, or bundled:tiny.")
  private String model = "";

  @Mixin private BackendOptions backend = new BackendOptions();

  /// What the model was called.
  String name() {
    return model;
  }

  /// Opens the model.
  ///
  /// @throws FormatException when there is none
  Session open(Console console) throws IOException {
    return open(console, PretrainedModel::open);
  }

  /// Opens the model in a way of one's own.
  final Session open(Console console, Session.Opening opening) throws IOException {
    return new Session(existing(model), backend.open(console), opening);
  }

  /// The folder or file of a model.
  ///
  /// @throws FormatException when there is none
  static Path existing(String model) {
    Path path = path(model);
    if (!Files.isDirectory(path) && !Files.isRegularFile(path)) {
      throw new FormatException(
          "%s: %s; MODEL is a checkpoint folder, a .gguf file or bundled:tiny"
              .formatted(
                  path, Files.exists(path) ? "neither folder nor file" : "no such folder or file"));
    }
    return path;
  }

  /// Where a model of this name lies.
  private static Path path(String model) {
    if (!model.startsWith(BUNDLED)) {
      return Path.of(model);
    }
    String home = System.getProperty(HOME_PROPERTY);
    String name = model.substring(BUNDLED.length());
    if (!name.matches("[A-Za-z0-9_-]+")) {
      throw new UsageException("MODEL \"" + model + "\": want bundled:tiny, a folder or a file");
    }
    if (home == null) {
      throw new FormatException(
          "%s: where the bundled models lie is not known; start with examples/retmask, or set -D%s to the folder that holds models/%s"
              .formatted(model, HOME_PROPERTY, name));
    }
    return Path.of(home, "models", name);
  }
}
