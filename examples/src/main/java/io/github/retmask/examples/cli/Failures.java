package io.github.retmask.examples.cli;

import io.github.retmask.io.AtomicFiles;
import java.io.IOException;
import java.io.UncheckedIOException;
import picocli.CommandLine.ExitCode;

/// What a failed command says and how it exits.
final class Failures {
  private Failures() {}

  /// 2 when the command line is to blame, else 1.
  static int exitCode(Throwable failure) {
    return failure instanceof UsageException ? ExitCode.USAGE : ExitCode.SOFTWARE;
  }

  /// The failure in one line.
  static String message(Throwable failure) {
    String text =
        switch (failure) {
          case IOException e -> AtomicFiles.reason(e);
          case UncheckedIOException e -> AtomicFiles.reason(e.getCause());
          case OutOfMemoryError e ->
              "out of memory: %s; give Java more with RETMASK_JAVA_OPTS=-Xmx8g, or ask for less at a time"
                  .formatted(e.getMessage());
          case StackOverflowError _ -> "stack overflow: the input is nested too deeply";
          default -> failure.getMessage();
        };
    return oneLine(text == null || text.isBlank() ? failure.getClass().getSimpleName() : text);
  }

  /// Messages of libraries may have line breaks, and those of ours may quote a file that has some.
  static String oneLine(String text) {
    StringBuilder line = new StringBuilder(text.length());
    for (String part : text.strip().split("\\R\\s*")) {
      line.append(line.isEmpty() ? "" : " ").append(part);
    }
    return line.toString();
  }
}
