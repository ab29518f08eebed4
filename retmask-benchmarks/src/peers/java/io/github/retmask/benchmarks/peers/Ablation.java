package io.github.retmask.benchmarks.peers;

/// Which token follows a prompt when one head is off, for many heads.
interface Ablation {
  String WORK = "ablation";

  /// One token per head of `heads`.
  ///
  /// @param prompt tokens of [Prompts#ids]
  /// @param heads numbers l H + h
  int[] sweep(int prompt, int[] heads);
}
