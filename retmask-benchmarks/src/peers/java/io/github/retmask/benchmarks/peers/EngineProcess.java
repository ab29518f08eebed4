package io.github.retmask.benchmarks.peers;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/// A running [EngineMain], seen from the program that compares. It has the collector of
/// `examples/retmask`, unless this JVM was told which one to use; flags of this JVM that begin with
/// `-XX` hold for it too.
final class EngineProcess implements AutoCloseable {
  private final String engine;
  private final Process process;
  private final Path log;
  private final Writer in;
  private final BufferedReader out;

  private EngineProcess(String engine, Process process, Path log) {
    this.engine = engine;
    this.process = process;
    this.log = log;
    this.in = new OutputStreamWriter(process.getOutputStream(), StandardCharsets.UTF_8);
    this.out =
        new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8));
  }

  /// Starts an engine; the first answer is [EngineMain#READY].
  ///
  /// @param args of [EngineMain] after work and engine
  static EngineProcess start(String work, String engine, List<String> args) throws IOException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of("--add-modules", "jdk.incubator.vector"));
    command.addAll(List.of("--enable-native-access=ALL-UNNAMED", JlamaGeneration.BATCH));
    command.add("--sun-misc-unsafe-memory-access=allow");
    List<String> flags =
        ManagementFactory.getRuntimeMXBean().getInputArguments().stream()
            .filter(flag -> flag.startsWith("-XX"))
            .toList();
    if (flags.stream().noneMatch(flag -> flag.matches("-XX:\\+Use\\w+GC"))) {
      command.addAll(List.of("-XX:+UseSerialGC", "-XX:MaxNewSize=64m"));
    }
    command.addAll(flags);
    command.addAll(List.of("-cp", System.getProperty("java.class.path")));
    command.addAll(List.of(EngineMain.class.getName(), work, engine));
    command.addAll(args);
    Path log = Files.createTempFile("retmask-peer-", ".log");
    Process process = new ProcessBuilder(command).redirectError(log.toFile()).start();
    return new EngineProcess(engine, process, log);
  }

  String engine() {
    return engine;
  }

  /// Processor time of all its threads so far.
  long processorMillis() {
    return process.info().totalCpuDuration().orElse(Duration.ZERO).toMillis();
  }

  /// Sends a request and waits for the answer.
  ///
  /// @throws IllegalStateException with the end of what the engine said, when it ended instead
  String[] ask(String request) {
    try {
      in.write(request + "\n");
      in.flush();
    } catch (IOException e) {
      // it ended: what it said comes with the missing answer
    }
    return answer();
  }

  /// Waits for an answer that nobody asked for.
  String[] answer() {
    try {
      for (String line = out.readLine(); line != null; line = out.readLine()) {
        if (line.startsWith(EngineMain.ANSWER)) {
          return line.substring(EngineMain.ANSWER.length()).split(" ");
        }
      }
      List<String> said = Files.readAllLines(log, StandardCharsets.ISO_8859_1);
      throw new IllegalStateException(
          engine
              + " ended; it said:\n"
              + String.join("\n", said.subList(Math.max(0, said.size() - 12), said.size())));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  @Override
  public void close() {
    process.destroyForcibly().onExit().join();
    try {
      Files.deleteIfExists(log);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
