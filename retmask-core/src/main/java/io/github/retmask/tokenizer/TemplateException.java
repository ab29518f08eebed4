package io.github.retmask.tokenizer;

/// A chat template that cannot be read or rendered. The message is one line: template, line number,
/// problem.
public final class TemplateException extends RuntimeException {
  private static final long serialVersionUID = 1;

  private final int line;

  TemplateException(String template, int line, String problem) {
    super((template + ":" + line + ": " + problem).replaceAll("\\R", " "));
    this.line = line;
  }

  /// Line of the template source the problem was met on, counted from 1.
  public int line() {
    return line;
  }
}
