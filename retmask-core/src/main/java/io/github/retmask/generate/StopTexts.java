package io.github.retmask.generate;

import io.github.retmask.tokenizer.Tokenizer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;

/// Ends a continuation once its text, special tokens left out, contains one of some texts.
///
/// @param tokenizer the model's
/// @param texts none of them empty
record StopTexts(Tokenizer tokenizer, List<String> texts) implements StopRule {
  /// Tokens decoded before those that can hold the text: decoders treat the start of what they get
  /// in their own way, such as dropping a space.
  private static final int CONTEXT = 4;

  StopTexts {
    texts = List.copyOf(texts);
    if (texts.isEmpty() || texts.contains("")) {
      throw new IllegalArgumentException("stop texts " + texts + ": want at least one, none empty");
    }
  }

  @Override
  public boolean stops(int[] ids, int count) {
    // Every token that is not special adds a byte at least, so this many hold any of the texts.
    int needed = CONTEXT;
    for (String text : texts) {
      needed = Math.max(needed, CONTEXT + text.getBytes(StandardCharsets.UTF_8).length);
    }
    int from = count;
    while (from > 0 && needed > 0) {
      from--;
      needed -= tokenizer.isSpecial(ids[from]) ? 0 : 1;
    }
    String end = AnswerText.of(tokenizer, Arrays.copyOfRange(ids, from, count));
    return texts.stream().anyMatch(end::contains);
  }
}
