package io.github.retmask.backend;

/// What an op does with the former content of its output.
public enum Accumulate {
  /// Overwrite.
  SET,
  /// Add to it.
  ADD
}
