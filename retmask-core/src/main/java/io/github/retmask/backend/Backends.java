package io.github.retmask.backend;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.ServiceLoader;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/// Chooses a [Backend]. The choice is a value that the caller passes on; nothing global remembers it.
public final class Backends {
  /// The choice that takes the best usable backend.
  public static final String AUTO = "auto";

  /// System property that turns a silent fallback into a failure: `-Dretmask.require=vector`.
  public static final String REQUIRE_PROPERTY = "retmask.require";

  private static final Logger LOG = LoggerFactory.getLogger(Backends.class);

  private Backends() {}

  /// All providers on the class or module path, best first; the reference backend is always last.
  public static List<Backend> all() {
    List<Backend> found = new ArrayList<>();
    ServiceLoader.load(Backend.class).forEach(found::add);
    found.add(new ReferenceBackend());
    found.sort(Comparator.comparingInt(Backend::rank).reversed());
    return found;
  }

  /// Opens the best usable backend with a thread per core.
  public static Kernels open() {
    return open(AUTO, Runtime.getRuntime().availableProcessors());
  }

  /// Opens a backend. With `auto`, backends that cannot run here are passed over and one line each
  /// is logged that says why.
  ///
  /// @param choice `auto` or a backend's name
  /// @param threads threads that compute, at least 1
  /// @throws IllegalArgumentException on an unknown name or fewer than 1 thread
  /// @throws IllegalStateException when the backend asked for, by `choice` or by
  ///     `-Dretmask.require`, cannot run here
  public static Kernels open(String choice, int threads) {
    if (threads < 1) {
      throw new IllegalArgumentException("threads " + threads + ": want at least 1");
    }
    String required = System.getProperty(REQUIRE_PROPERTY);
    String wanted = choice.equals(AUTO) && required != null ? required : choice;
    List<Backend> all = all();
    if (!wanted.equals(AUTO)) {
      for (Backend backend : all) {
        if (backend.name().equals(wanted)) {
          String why = backend.whyUnavailable();
          if (why != null) {
            throw new IllegalStateException(
                "backend \"%s\" unavailable: %s".formatted(wanted, why));
          }
          return backend.open(threads);
        }
      }
      throw new IllegalArgumentException(
          "backend \"%s\" is not on the class path; present: %s"
              .formatted(wanted, all.stream().map(Backend::name).toList()));
    }
    for (Backend backend : all) {
      String why = backend.whyUnavailable();
      if (why == null) {
        return backend.open(threads);
      }
      LOG.warn(
          "backend \"{}\" unavailable: {}; require it with -D{}={}",
          backend.name(),
          why,
          REQUIRE_PROPERTY,
          backend.name());
    }
    throw new AssertionError("the reference backend runs everywhere");
  }
}
