package io.github.retmask.scoring;

import java.util.List;

/// Needle trials built over a grid.
///
/// @param trials the trials to run, by needle, then length, then depth
/// @param repeats grid points whose prompt equals that of an earlier one
public record NeedleTrials(List<Trial> trials, List<Repeat> repeats) {
  public NeedleTrials {
    trials = List.copyOf(trials);
    repeats = List.copyOf(repeats);
  }

  /// A grid point that adds nothing.
  ///
  /// @param id its trial
  /// @param sameAs the earlier trial with the same prompt
  public record Repeat(String id, String sameAs) {}
}
