package io.github.retmask.examples.cli;

import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;

/// Where a command writes: results to standard output, everything else to standard error, both in
/// UTF-8. A failed write to standard output ends the command.
final class Console {
  private final OutputStream out;
  private final PrintStream err;
  private final boolean terminal;

  /// @param out buffered by the caller
  /// @param err takes notes, progress and errors
  /// @param terminal whether `err` is a terminal, where a line may be drawn over
  Console(OutputStream out, PrintStream err, boolean terminal) {
    this.out = out;
    this.err = err;
    this.terminal = terminal;
  }

  /// Standard output does not take any more.
  static final class OutputClosed extends RuntimeException {
    private static final long serialVersionUID = 1L;

    OutputClosed(IOException cause) {
      super("standard output: " + cause.getMessage(), cause);
    }

    /// Whether the reader went away, as `head` does: nothing that anybody must be told.
    boolean isBrokenPipe() {
      String reason = getCause().getMessage();
      return reason != null && (reason.contains("Broken pipe") || reason.contains("pipe is being"));
    }
  }

  /// A line of the result.
  void line(String text) {
    write(text + "\n");
  }

  /// A piece of the result that shall be seen at once.
  void stream(String text) {
    write(text);
    flush();
  }

  private void write(String text) {
    try {
      out.write(text.getBytes(StandardCharsets.UTF_8));
    } catch (IOException e) {
      throw new OutputClosed(e);
    }
  }

  /// Hands over what is still buffered.
  void flush() {
    try {
      out.flush();
    } catch (IOException e) {
      throw new OutputClosed(e);
    }
  }

  /// A line beside the result.
  void note(String text) {
    err.println(text);
  }

  PrintStream err() {
    return err;
  }

  boolean isTerminal() {
    return terminal;
  }
}
