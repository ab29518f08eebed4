package io.github.retmask.examples.cli;

/// The command line asks for something that no run could do: exit code 2. The message names the
/// option.
final class UsageException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  UsageException(String message) {
    super(message);
  }
}
