package io.github.retmask.tokenizer;

/// Token ids of a text and the characters they cover: token i covers `[starts[i], ends[i])`, in
/// UTF-16 units of the text as it was given.
///
/// Tokens that are pieces of one character all cover that character. A token that stands for no
/// text, such as an added BOS, has `starts[i] == ends[i]`. Some tokenizers leave the space before a
/// word out of the word's span (`trim_offsets`).
///
/// @param ids `[T]`
/// @param starts `[T]`, first character
/// @param ends `[T]`, one past the last character
public record Encoding(int[] ids, int[] starts, int[] ends) {
  /// Tokens `[start, end)`.
  public record Span(int start, int end) {}

  public Encoding {
    if (starts.length != ids.length || ends.length != ids.length) {
      throw new IllegalArgumentException(
          "encoding: %d ids, %d starts, %d ends, want the same number of each"
              .formatted(ids.length, starts.length, ends.length));
    }
  }

  /// The tokens that cover at least one of the characters `[charStart, charEnd)`.
  ///
  /// @throws IllegalArgumentException if there is none
  public Span tokensCovering(int charStart, int charEnd) {
    int first = -1;
    int last = -1;
    for (int i = 0; i < ids.length; i++) {
      if (Math.max(starts[i], charStart) < Math.min(ends[i], charEnd)) {
        first = first < 0 ? i : first;
        last = i;
      }
    }
    if (first < 0) {
      throw new IllegalArgumentException(
          "no token covers the characters [%d, %d)".formatted(charStart, charEnd));
    }
    return new Span(first, last + 1);
  }
}
