package io.github.retmask.backend;

import org.jspecify.annotations.Nullable;

/// A provider of [Kernels], found by [java.util.ServiceLoader]. Constructing one and asking it
/// whether it is usable must be cheap, silent and safe on every machine.
public interface Backend {

  /// Name for options and messages: `reference`, `vector`, `cuda`.
  String name();

  /// Order of automatic choice: the usable backend with the highest rank runs.
  int rank();

  /// Null when this machine can run it, else why not and what would change that, in one line.
  @Nullable String whyUnavailable();

  /// Starts the backend.
  ///
  /// @param threads threads that compute, at least 1
  Kernels open(int threads);
}
