package io.github.retmask.train;

import java.net.URISyntaxException;
import java.nio.file.Path;
import java.util.Objects;

/// Golden data among the test resources of this module.
final class GoldenFiles {
  private GoldenFiles() {}

  static Path path(String name) {
    try {
      return Path.of(Objects.requireNonNull(GoldenFiles.class.getResource(name), name).toURI());
    } catch (URISyntaxException e) {
      throw new IllegalArgumentException(name, e);
    }
  }
}
