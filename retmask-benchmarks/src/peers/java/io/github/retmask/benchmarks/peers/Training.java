package io.github.retmask.benchmarks.peers;

/// Optimiser steps on one sequence: next-token cross-entropy, AdamW over all weights, no clipping.
interface Training {
  String WORK = "training";
  double LEARNING_RATE = 1e-4;
  double WEIGHT_DECAY = 0.01;

  /// One step on [Prompts#ids] of `tokens` + 1, each token but the last predicting the next.
  ///
  /// @return the mean loss before the update
  double step(int tokens);
}
