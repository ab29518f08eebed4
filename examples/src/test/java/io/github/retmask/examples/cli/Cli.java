package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;

/// Runs commands for tests, within this process or in one of their own.
///
/// @param code exit code
/// @param out standard output
/// @param err standard error
record Cli(int code, String out, String err) {

  /// Runs a command in this process.
  static Cli run(Object... args) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    ByteArrayOutputStream err = new ByteArrayOutputStream();
    Console console = new Console(out, new PrintStream(err, true, StandardCharsets.UTF_8), false);
    int code = Retmask.run(console, strings(args).toArray(String[]::new));
    return new Cli(
        code, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
  }

  /// Runs a command in this process that must succeed.
  static Cli ok(Object... args) {
    Cli cli = run(args);
    assertThat(cli.code).as(cli.err).isZero();
    return cli;
  }

  /// A command in a process of its own, ready to start.
  static ProcessBuilder process(Object... args) {
    List<String> command =
        new ArrayList<>(
            List.of(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
                "-Xmx512m",
                "--add-modules",
                "jdk.incubator.vector",
                "--enable-native-access=ALL-UNNAMED",
                "-cp",
                System.getProperty("java.class.path"),
                Retmask.class.getName()));
    command.addAll(strings(args));
    ProcessBuilder builder = new ProcessBuilder(command);
    builder.environment().put("OPT_OUT_TRACKING", "true");
    return builder;
  }

  private static List<String> strings(Object... args) {
    return Arrays.stream(args).map(Object::toString).toList();
  }

  /// The one line on standard error.
  String error() {
    assertThat(err.lines().toList()).as("one line of error").hasSize(1);
    return err.strip();
  }

  /// A folder of reference data, which the tests of the core module have.
  static Path golden(String family) {
    Path folder = Path.of("../retmask-core/src/test/resources/goldens").resolve(family);
    assertThat(folder).as("run from the folder of this module").isDirectory();
    return folder;
  }

  /// A copy of a folder's files.
  static Path copy(Path from, Path to) throws IOException {
    Files.createDirectories(to);
    for (String name : names(from)) {
      Files.copy(from.resolve(name), to.resolve(name));
    }
    return to;
  }

  /// Names in a folder, sorted; hidden ones too.
  static List<String> names(Path folder) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.map(file -> file.getFileName().toString()).sorted().toList();
    }
  }
}
