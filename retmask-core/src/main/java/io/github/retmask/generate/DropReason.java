package io.github.retmask.generate;

/// Why a record yields no preference pair. The first three follow the flags of the published prompt
/// data.
public enum DropReason {
  /// `redacted` is true.
  REDACTED("redacted"),
  /// `empty_user_instruction_ja` is true.
  EMPTY_INSTRUCTION("empty_user_instruction_ja"),
  /// `duplicate_user_instruction_ja` is not null.
  DUPLICATE_INSTRUCTION("duplicate_user_instruction_ja"),
  /// The conversation has no user turn with text.
  NO_USER_TURN("no_user_turn"),
  /// An earlier record has the same id.
  DUPLICATE_ID("duplicate_id"),
  /// The prompt has no tokens.
  EMPTY_PROMPT("empty_prompt"),
  /// Prompt and continuation exceed the model's context, or the prompt its own limit.
  LONG_PROMPT("prompt_too_long"),
  /// One of two files has no record of that id.
  UNMATCHED("unmatched"),
  /// One side has no response.
  NULL_RESPONSE("null_response"),
  /// Both responses have the same text.
  IDENTICAL("identical_pair"),
  /// A response ended at the length limit ([PairFilter#finishedOnly]).
  UNFINISHED("unfinished"),
  /// A response is longer than [PairFilter#maxTokens].
  LONG_RESPONSE("repetition_flag"),
  /// The lengths differ by more than [PairFilter#maxLengthRatio].
  LENGTH_RATIO("length_ratio"),
  /// A response ends in a loop ([PairFilter#noLoops]).
  LOOP("loop");

  private final String text;

  DropReason(String text) {
    this.text = text;
  }

  /// The name in reports.
  public String text() {
    return text;
  }
}
