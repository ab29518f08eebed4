package io.github.retmask.train;

import java.util.List;
import java.util.Map;

/// The data of a training, cut into optimiser steps. What a step consists of depends on its number
/// alone, so a training can continue at any step without a memory of the ones before.
public interface StepSource {

  /// All steps of the training.
  long steps();

  /// Passes over the data after so many steps; a fraction in the middle of one. Endless data count
  /// as one pass.
  double epoch(long stepsDone);

  /// The micro-batches of a step, in order, at least one. Their gradients are summed.
  ///
  /// @param index from 0
  List<MicroBatch> step(long index);

  /// Everything that decides what the steps contain, by option name: a training is resumed only
  /// under equal options.
  Map<String, String> options();

  /// What goes through the model at once.
  ///
  /// @param batch the rows
  /// @param loss over their labelled tokens
  record MicroBatch(LabelledBatch batch, Loss loss) {}
}
