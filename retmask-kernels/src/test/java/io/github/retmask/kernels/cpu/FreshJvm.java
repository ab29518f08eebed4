package io.github.retmask.kernels.cpu;

import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/// A JVM like this one that has compiled nothing yet.
final class FreshJvm {
  private FreshJvm() {}

  /// @return a running program, its errors among its output
  static Process start(Class<?> program, String... options) throws IOException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    for (String given : ManagementFactory.getRuntimeMXBean().getInputArguments()) {
      if (given.startsWith("--")) {
        command.add(given); // modules and native access; not agents or heap sizes
      }
    }
    command.addAll(List.of(options));
    command.add("-cp");
    command.add(System.getProperty("java.class.path"));
    command.add(program.getName());
    return new ProcessBuilder(command).redirectErrorStream(true).start();
  }
}
