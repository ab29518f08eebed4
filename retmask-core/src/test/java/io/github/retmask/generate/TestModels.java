package io.github.retmask.generate;

import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.pretrained.PretrainedModel;
import java.io.IOException;
import java.net.URI;
import java.nio.file.Path;
import java.util.Objects;

/// Small checkpoints from the test resources.
final class TestModels {
  private TestModels() {}

  static PretrainedModel golden(String family) throws IOException {
    return PretrainedModel.open(folder(family), new Ops(new ReferenceBackend().open(1)));
  }

  static Path folder(String family) {
    String name = "/goldens/" + family;
    return Path.of(
        URI.create(Objects.requireNonNull(TestModels.class.getResource(name), name).toString()));
  }
}
