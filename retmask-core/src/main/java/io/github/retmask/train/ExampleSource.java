package io.github.retmask.train;

/// An endless stream of training sequences in which every one has a number. What comes at a number
/// depends on that number (and on what the source was built with, such as a seed) alone, never on
/// what was asked before: that is what makes an interrupted training resume exactly.
@FunctionalInterface
public interface ExampleSource {

  /// The example at `index`.
  ///
  /// @param index from 0
  Example example(long index);
}
