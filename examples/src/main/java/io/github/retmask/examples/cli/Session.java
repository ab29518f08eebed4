package io.github.retmask.examples.cli;

import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.pretrained.PretrainedModel;
import java.io.IOException;
import java.nio.file.Path;

/// An open model and the backend it runs on.
final class Session implements AutoCloseable {
  private final Kernels kernels;
  private final PretrainedModel model;

  /// How a model is opened.
  @FunctionalInterface
  interface Opening {
    PretrainedModel open(Path model, Ops ops) throws IOException;
  }

  /// Takes over `kernels`.
  Session(Path folder, Kernels kernels, Opening opening) throws IOException {
    this.kernels = kernels;
    try {
      this.model = opening.open(folder, new Ops(kernels));
    } catch (Throwable failure) {
      kernels.close();
      throw failure;
    }
  }

  PretrainedModel model() {
    return model;
  }

  @Override
  public void close() {
    try (kernels) {
      model.close();
    }
  }
}
