package io.github.retmask.io;

/// What to do when the folder to write already holds files.
public enum IfPresent {
  /// Leave everything as it is and fail.
  REFUSE,
  /// Replace the checkpoint in it, and leave its other files alone.
  REPLACE
}
