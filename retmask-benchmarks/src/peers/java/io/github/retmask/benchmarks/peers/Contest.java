package io.github.retmask.benchmarks.peers;

import java.io.IOException;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// Engines that do the same work in turn, one round after the other, so that all see the same
/// machine. While one works the others wait for input.
final class Contest implements AutoCloseable {
  /// Thread pools keep spinning for a while after their work, and compilers go on.
  private static final long PAUSE_MILLIS = 200;

  private static final long IDLE_MILLIS = 20; // of processor time in a pause
  private static final int PAUSES = 50;

  private final List<EngineProcess> engines = new ArrayList<>();
  private final Map<String, String> broken = new LinkedHashMap<>();

  /// Starts the engines one by one. An engine that fails is left out.
  Contest(String work, List<String> names, List<String> args) throws IOException {
    for (String name : names) {
      EngineProcess engine = EngineProcess.start(work, name, args);
      try {
        engine.answer();
        engines.add(engine);
      } catch (IllegalStateException e) {
        engine.close();
        broken.put(name, e.getMessage());
      }
    }
  }

  /// Engines that could not do their work, and what they said.
  Map<String, String> broken() {
    return broken;
  }

  /// The answers of every engine, round by round.
  Map<String, List<String[]>> rounds(String request, int rounds) throws InterruptedException {
    Map<String, List<String[]>> answers = new LinkedHashMap<>();
    for (int round = 0; round < rounds; round++) {
      for (EngineProcess engine : List.copyOf(engines)) {
        awaitIdle();
        try {
          answers.computeIfAbsent(engine.engine(), _ -> new ArrayList<>()).add(engine.ask(request));
        } catch (IllegalStateException e) {
          answers.remove(engine.engine());
          remove(engine.engine(), e.getMessage());
        }
      }
    }
    return answers;
  }

  /// Waits until all engines are idle, or for the longest.
  private void awaitIdle() throws InterruptedException {
    for (int pause = 0; pause < PAUSES; pause++) {
      long before = processorMillis();
      Thread.sleep(PAUSE_MILLIS);
      if (processorMillis() - before <= IDLE_MILLIS) {
        return;
      }
    }
  }

  private long processorMillis() {
    return engines.stream().mapToLong(EngineProcess::processorMillis).sum();
  }

  /// Retmask's answers, which the others' are compared with.
  ///
  /// @throws IllegalStateException when it has none
  List<String[]> retmask(Map<String, List<String[]>> answers) {
    List<String[]> ours = answers.get(PeerTable.RETMASK);
    if (ours == null) {
      throw new IllegalStateException("retmask has no result to compare with: " + broken);
    }
    return ours;
  }

  /// Leaves an engine out of what follows.
  void remove(String name, String why) {
    broken.put(name, why);
    for (EngineProcess engine : List.copyOf(engines)) {
      if (engine.engine().equals(name)) {
        engine.close();
        engines.remove(engine);
      }
    }
  }

  @Override
  public void close() {
    engines.forEach(EngineProcess::close);
  }
}
