package io.github.retmask.examples.cli;

import io.github.retmask.backend.Backend;
import io.github.retmask.backend.Backends;
import io.github.retmask.backend.Kernels;
import java.util.List;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Option;

/// What computes. Threads never change a result; backends agree up to rounding.
final class BackendOptions {
  private static final List<String> KNOWN = List.of("cuda", "vector", "reference");

  @Option(
      names = "--backend",
      paramLabel = "NAME",
      defaultValue = Backends.AUTO,
      description = "auto (the fastest that runs here, the default), cuda, vector or reference.")
  private String backend = Backends.AUTO;

  @Option(
      names = "--threads",
      paramLabel = "N",
      description = "Threads that compute (default: one per core).")
  private @Nullable Integer threads;

  /// Starts the backend.
  ///
  /// @throws UsageException on a name that no backend has, or fewer than 1 thread
  /// @throws IllegalStateException when the backend that was named cannot run here
  Kernels open(Console console) {
    int count = threads == null ? Runtime.getRuntime().availableProcessors() : threads;
    if (count < 1) {
      throw new UsageException("--threads " + count + ": want at least 1");
    }
    List<Backend> present = Backends.all();
    boolean found = present.stream().anyMatch(b -> b.name().equals(backend));
    if (!backend.equals(Backends.AUTO) && !found) {
      if (KNOWN.contains(backend)) {
        throw new IllegalStateException(
            "backend \"%s\" is not part of this build; present: %s"
                .formatted(backend, present.stream().map(Backend::name).toList()));
      }
      throw new UsageException(
          "--backend \"%s\": want auto, cuda, vector or reference".formatted(backend));
    }
    Kernels kernels = Backends.open(backend, count);
    if (backend.equals(Backends.AUTO) && kernels.name().equals("reference")) {
      for (Backend other : present) {
        String why = other.whyUnavailable();
        if (why != null) {
          console.note(
              "retmask: backend %s unavailable: %s; the reference backend runs, which is slow"
                  .formatted(other.name(), why));
        }
      }
    }
    return kernels;
  }
}
