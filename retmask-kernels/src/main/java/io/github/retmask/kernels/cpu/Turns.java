package io.github.retmask.kernels.cpu;

import java.util.concurrent.atomic.AtomicIntegerArray;

/// Lets tasks that run at the same time add to the same memory in a fixed order: each does its steps
/// in ascending order, and before a step waits until an earlier task has done it.
///
/// Tasks must be started in ascending order, so that the earliest unfinished one never waits.
final class Turns {
  private static final int SPINS = 1000;

  private final AtomicIntegerArray done; // steps
  private volatile boolean failed;

  Turns(int tasks) {
    done = new AtomicIntegerArray(tasks);
  }

  /// Waits until `task` has done its steps below `steps`, or some task failed.
  void await(int task, int steps) {
    int spins = 0;
    while (done.get(task) < steps && !failed) {
      if (++spins < SPINS) {
        Thread.onSpinWait();
      } else {
        Thread.yield();
      }
    }
  }

  /// Says that `task` has done its steps below `steps`.
  void done(int task, int steps) {
    done.set(task, steps);
  }

  /// Says that a task failed: nobody waits any more.
  void fail() {
    failed = true;
  }
}
