package io.github.retmask.generate;

/// Why a continuation ended.
public enum FinishReason {
  /// Its [StopRule] said so, as after an end-of-sequence token.
  STOP("stop"),
  /// It reached the length that was asked for.
  LENGTH("length");

  private final String text;

  FinishReason(String text) {
    this.text = text;
  }

  /// As written to files: `stop` or `length`, the words of the OpenAI API and vLLM.
  public String text() {
    return text;
  }
}
