package io.github.retmask.benchmarks.peers;

/// Greedy generation from an empty cache.
interface Generation {
  String WORK = "generation";

  /// What came out and when.
  ///
  /// @param first seconds until the first token: the prompt's
  /// @param rest seconds from there to the last one
  /// @param ids the tokens
  record Result(double first, double rest, int[] ids) {}

  /// Continues [Prompts#text] of `prompt` tokens with `tokens` new ones.
  Result generate(int prompt, int tokens);
}
