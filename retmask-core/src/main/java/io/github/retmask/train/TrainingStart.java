package io.github.retmask.train;

/// What to do with a folder in which a training was begun before.
public enum TrainingStart {
  /// Continue it; begin where there is nothing to continue.
  RESUME,
  /// Remove it and begin anew.
  RESTART
}
