package io.github.retmask.generate;

import io.github.retmask.tokenizer.Detokenizer;
import io.github.retmask.tokenizer.Tokenizer;
import java.util.List;

/// The text of a continuation, given out while its tokens arrive: special tokens left out, up to the
/// stop text that is complete first and without it. A piece ends before anything that later tokens can still change: a
/// part of a character, or what may become a stop text. Pieces put together are [#of] of all tokens.
///
/// For one continuation and one thread.
public final class ContinuationText {
  private final Detokenizer detokenizer;
  private final List<String> stopTexts;
  private final StringBuilder held = new StringBuilder(); // certain, but may begin a stop text
  private boolean ended;

  /// @param stopTexts none of them empty; those of [StopRule#atTexts]
  public ContinuationText(Tokenizer tokenizer, List<String> stopTexts) {
    this.detokenizer = tokenizer.detokenizer(true);
    this.stopTexts = List.copyOf(stopTexts);
  }

  /// The text of all tokens of a continuation. An id without a token, which a model with a padded
  /// vocabulary can draw, adds nothing.
  public static String of(Tokenizer tokenizer, int[] ids, List<String> stopTexts) {
    ContinuationText stream = new ContinuationText(tokenizer, stopTexts);
    StringBuilder text = new StringBuilder();
    for (int id : ids) {
      text.append(stream.add(id));
    }
    return text.append(stream.finish()).toString();
  }

  /// Takes the next token and returns the text that is certain by now, often empty; empty after a
  /// stop text.
  public String add(int id) {
    return given(detokenizer.add(id), false);
  }

  /// Ends the continuation and returns what was held back.
  public String finish() {
    return given(detokenizer.finish(), true);
  }

  private String given(String piece, boolean last) {
    if (ended) {
      return "";
    }
    held.append(piece);
    int stop = firstStop();
    ended = last || stop >= 0;
    int certain = stop >= 0 ? stop : last ? held.length() : held.length() - openEnd();
    String text = held.substring(0, certain);
    held.delete(0, certain);
    return text;
  }

  private int firstStop() {
    int first = -1;
    for (String stop : stopTexts) {
      int at = held.indexOf(stop);
      first = at >= 0 && (first < 0 || at < first) ? at : first;
    }
    return first;
  }

  /// Length of the longest end of the held text that begins a stop text.
  private int openEnd() {
    int open = 0;
    for (String stop : stopTexts) {
      for (int n = Math.min(stop.length() - 1, held.length()); n > open; n--) {
        if (stop.startsWith(held.substring(held.length() - n))) {
          open = n;
        }
      }
    }
    return open;
  }
}
