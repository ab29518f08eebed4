package io.github.retmask.train;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.SequencedMap;

/// Where a training stands, apart from its tensors.
final class TrainingState {
  private long step;
  private long numTokens;
  private long count;
  private final SequencedMap<String, Double> sums;

  /// @param step optimiser steps done
  /// @param numTokens tokens of these steps
  /// @param count steps since the last line of the log
  /// @param sums of their loss and metrics
  TrainingState(long step, long numTokens, long count, Map<String, Double> sums) {
    this.step = step;
    this.numTokens = numTokens;
    this.count = count;
    this.sums = new LinkedHashMap<>(sums);
  }

  long step() {
    return step;
  }

  long numTokens() {
    return numTokens;
  }

  long count() {
    return count;
  }

  SequencedMap<String, Double> sums() {
    return sums;
  }

  void add(Trainer.Progress done) {
    step = done.step();
    numTokens = done.numTokens();
    count++;
    sums.merge("loss", done.loss(), Double::sum);
    done.metrics().forEach((name, value) -> sums.merge(name, value, Double::sum));
  }

  /// Means over the steps since this was last asked.
  SequencedMap<String, Double> takeMeans() {
    SequencedMap<String, Double> means = new LinkedHashMap<>();
    sums.forEach((name, sum) -> means.put(name, sum / count));
    sums.clear();
    count = 0;
    return means;
  }
}
