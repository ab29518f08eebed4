package io.github.retmask.tokenizer;

import java.util.Arrays;

/// Decodes ids that arrive one by one. The pieces it gives out, put together, are the text that
/// [Tokenizer#decode] makes of all ids at once, so a piece ends before anything that later ids can
/// still change: half a character, or a space that clean-up may drop. For one thread.
///
/// Text is found by decoding a short window: the tokens given out last, which later ones may lean
/// on (a SentencePiece decoder drops the space at the start of what it gets), and those not given
/// out yet.
public final class Detokenizer {
  private static final char REPLACEMENT = '\ufffd';

  /// Every character that occurs in a spelling clean-up looks for. What it does to a text never
  /// crosses any other character.
  private static final String CLEAN_UP_CHARACTERS = " .?!,'ntmsver";

  private final HuggingFaceTokenizer tokenizer;
  private final boolean skipSpecialTokens;
  private final StringBuilder notCleaned = new StringBuilder();
  private int[] window = new int[16];
  private int windowLength;
  private int contextLength; // tokens of the window whose text has been given out
  private int given; // characters of the window's text that have been given out

  Detokenizer(HuggingFaceTokenizer tokenizer, boolean skipSpecialTokens) {
    this.tokenizer = tokenizer;
    this.skipSpecialTokens = skipSpecialTokens;
  }

  /// Takes the next id and returns the text that is certain by now, often empty. An id without a
  /// token adds nothing: models may pad their vocabulary beyond the tokenizer's.
  public String add(int id) {
    if (!tokenizer.hasToken(id) || (skipSpecialTokens && tokenizer.isSpecial(id))) {
      return "";
    }
    if (windowLength == window.length) {
      window = Arrays.copyOf(window, 2 * windowLength);
    }
    window[windowLength++] = id;
    if (tokenizer.isFallbackByte(id)) {
      return ""; // a run of such bytes is judged as a whole, once it has ended
    }
    String text = windowText();
    boolean openEnd = !text.isEmpty() && text.charAt(text.length() - 1) == REPLACEMENT;
    int certain = text.length() - (openEnd ? 1 : 0);
    String piece = text.substring(given, Math.max(given, certain));
    if (openEnd) {
      given = Math.max(given, certain);
    } else {
      windowLength -= contextLength;
      System.arraycopy(window, contextLength, window, 0, windowLength);
      contextLength = windowLength;
      given = windowText().length();
    }
    return cleanUp(piece, false);
  }

  /// Ends the stream and returns what was held back. The detokenizer can then take a new sequence.
  public String finish() {
    String rest = windowText().substring(given);
    windowLength = 0;
    contextLength = 0;
    given = 0;
    return cleanUp(rest, true);
  }

  private String windowText() {
    return tokenizer.decodeWithoutCleanUp(Arrays.copyOf(window, windowLength), false);
  }

  private String cleanUp(String piece, boolean end) {
    if (!tokenizer.cleansUpSpaces()) {
      return piece;
    }
    notCleaned.append(piece);
    int certain = notCleaned.length();
    while (!end
        && certain > 0
        && CLEAN_UP_CHARACTERS.indexOf(notCleaned.charAt(certain - 1)) >= 0) {
      certain--;
    }
    String cleaned = HuggingFaceTokenizer.cleanUpSpaces(notCleaned.substring(0, certain));
    notCleaned.delete(0, certain);
    return cleaned;
  }
}
