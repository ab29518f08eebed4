package io.github.retmask.io;

import java.io.Serial;

/// A file does not hold what it should: broken, incomplete, of another kind, or contradicting its
/// neighbours. The message is one line that names the file (and the tensor or key), what came and
/// what was wanted. A refusal by the operating system (no such file, no permission, disk full) is a
/// [java.io.IOException] instead.
public final class FormatException extends RuntimeException {
  @Serial private static final long serialVersionUID = 1L;

  private static final int LONGEST_NAME = 160;

  /// @param message one line; control characters, which a broken file may bring along, are escaped
  public FormatException(String message) {
    super(oneLine(message));
  }

  /// @param message one line; control characters, which a broken file may bring along, are escaped
  /// @param cause what the parser said
  public FormatException(String message, Throwable cause) {
    super(oneLine(message), cause);
  }

  /// A name from a file, quoted for a message and cut where a broken file makes it endless.
  public static String quote(String name) {
    return name.length() <= LONGEST_NAME
        ? '"' + name + '"'
        : '"' + name.substring(0, LONGEST_NAME) + "...\"";
  }

  private static String oneLine(String message) {
    StringBuilder line = new StringBuilder(message.length());
    message
        .codePoints()
        .forEach(
            c -> {
              switch (Character.getType(c)) {
                case Character.CONTROL,
                    Character.FORMAT,
                    Character.SURROGATE,
                    Character.LINE_SEPARATOR,
                    Character.PARAGRAPH_SEPARATOR ->
                    line.append("\\u%04x".formatted(c));
                default -> line.appendCodePoint(c);
              }
            });
    return line.toString();
  }
}
