package io.github.retmask.train;

/// Whether a backward computes every layer again instead of finding what its forward left (Chen et
/// al. 2016). No result depends on it, so a training may be continued under the other choice.
public enum GradientCheckpointing {
  /// The forward keeps what each layer's backward needs.
  OFF,
  /// It keeps the input of each layer: less memory, more time.
  ON;

  /// The choice of a switch.
  public static GradientCheckpointing of(boolean on) {
    return on ? ON : OFF;
  }
}
