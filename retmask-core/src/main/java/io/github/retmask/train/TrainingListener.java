package io.github.retmask.train;

/// Hears how a training proceeds, on the thread that trains. An exception ends the training as a
/// kill would: the next run continues it.
@FunctionalInterface
public interface TrainingListener {

  /// A step is done.
  void step(Trainer.Progress progress);

  /// Reference log-probabilities of `done` of `all` pairs are known.
  default void references(int done, int all) {}
}
