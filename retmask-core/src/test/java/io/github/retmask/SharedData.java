package io.github.retmask;

import static org.junit.jupiter.api.Assumptions.abort;

import java.nio.file.Files;
import java.nio.file.Path;

/// Reference data that stand beside the repository in `../shared`; tests that need them are skipped
/// with a reason where they are absent.
public final class SharedData {
  private SharedData() {}

  /// A file or folder under `shared`: from the system property `retmask.shared`, else beside or above
  /// the working directory.
  public static Path path(String name) {
    String given = System.getProperty("retmask.shared");
    if (given != null) {
      return existing(Path.of(given).resolve(name), name);
    }
    for (Path dir = Path.of("").toAbsolutePath(); dir != null; dir = dir.getParent()) {
      Path found = dir.resolve("shared").resolve(name);
      if (Files.exists(found)) {
        return found;
      }
    }
    return existing(Path.of("shared").resolve(name), name);
  }

  private static Path existing(Path path, String name) {
    return Files.exists(path) ? path : abort("no shared/" + name + " beside the repository");
  }
}
