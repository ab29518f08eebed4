package io.github.retmask.benchmarks.peers;

/// One engine on one kind of work, in a JVM of its own; see [EngineMain].
interface Engine {
  /// Does what is asked for and says how it went, in one line of words. What each kind of work asks
  /// and answers stands at its interface.
  String answer(String[] request);
}
