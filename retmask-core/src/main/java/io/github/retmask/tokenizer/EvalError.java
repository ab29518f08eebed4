package io.github.retmask.tokenizer;

/// A problem met while a template is evaluated, before the interpreter has put the template's name
/// and line to it.
final class EvalError extends RuntimeException {
  private static final long serialVersionUID = 1;

  EvalError(String problem) {
    super(problem, null, false, false);
  }
}
