package io.github.retmask.train;

import io.github.retmask.model.Transformer;
import java.io.IOException;
import java.nio.file.Path;
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

  /// Computes what the steps need from the model as it was before training. Called by every run,
  /// also one that continues.
  ///
  /// @param initial the model before its first step
  /// @param directory folder of the training
  default void prepare(Transformer initial, Path directory, TrainingListener listener)
      throws IOException, InterruptedException {}

  /// Names of the files that [#prepare] keeps in the folder while the training is not finished.
  default List<String> files() {
    return List.of();
  }

  /// What goes through the model at once.
  ///
  /// @param batch the rows
  /// @param loss over their labelled tokens
  record MicroBatch(LabelledBatch batch, Loss loss) {}
}
