package io.github.retmask.examples.quickstart;

import io.github.retmask.backend.Ops;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;

/// The machine and software of a run.
final class Environment {
  private Environment() {}

  static Map<String, String> describe(Ops ops) {
    Map<String, String> all = new LinkedHashMap<>();
    all.put("backend", ops.backend() + ", " + ops.threads() + " threads");
    all.put("java", System.getProperty("java.vm.name") + " " + Runtime.version());
    all.put("system", System.getProperty("os.name") + " " + System.getProperty("os.arch"));
    all.put("processor", processor());
    all.put("cores", Integer.toString(Runtime.getRuntime().availableProcessors()));
    return all;
  }

  /// The processor's name where the system tells it.
  private static String processor() {
    try {
      for (String line : Files.readAllLines(Path.of("/proc/cpuinfo"))) {
        if (line.startsWith("model name")) {
          return line.substring(line.indexOf(':') + 1).strip();
        }
      }
    } catch (IOException e) {
      return "unknown";
    }
    return "unknown";
  }
}
