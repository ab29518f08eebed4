package io.github.retmask.scoring;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import java.util.Arrays;

/// A text to hide needles in, with the places between its sentences.
///
/// A sentence begins at the first visible character, after `.`, `?` or `!` (closing quotes and
/// brackets may follow) and white space, and after a blank line. Abbreviations count as sentence
/// ends.
final class Haystack {
  private static final String VIEWER_DUMP = "{\"features\":";
  private static final String CLOSERS = "\"')]}\u201d\u2019";

  private final String text;
  private final int[] sentences; // where sentences begin, ascending

  private Haystack(String text) {
    this.text = text;
    this.sentences = sentences(text);
  }

  /// The haystack of a file's content. A dump of the Hugging Face dataset viewer, which is what the
  /// published `part*/p1.txt` are, stands for the prose in its rows: the field `prompt`, or `text`
  /// where there is none. Such a dump may be cut in the middle, as the published ones are.
  static Haystack of(String content) {
    return new Haystack(content.startsWith(VIEWER_DUMP) ? prose(content) : content);
  }

  String text() {
    return text;
  }

  /// This text as often as it takes to reach `length` characters, a blank line between.
  Haystack repeatedTo(int length) {
    StringBuilder repeated = new StringBuilder(text);
    while (repeated.length() < length) {
      repeated.append("\n\n").append(text);
    }
    return repeated.length() == text.length() ? this : new Haystack(repeated.toString());
  }

  /// The end of the last whole word within the first `length` characters.
  int wordEnd(int length) {
    int end = Math.min(length, text.length());
    if (end < text.length() && !Character.isWhitespace(text.charAt(end))) {
      while (end > 0 && !Character.isWhitespace(text.charAt(end - 1))) {
        end--;
      }
    }
    while (end > 0 && Character.isWhitespace(text.charAt(end - 1))) {
      end--;
    }
    return end;
  }

  /// The place nearest to `target` where a sentence of the first `end` characters begins, or `end`;
  /// the earlier one of two equally near.
  int nearestBreak(int target, int end) {
    int at = Arrays.binarySearch(sentences, target);
    int next = at >= 0 ? at : -at - 1;
    int after = next < sentences.length && sentences[next] < end ? sentences[next] : end;
    int before = next > 0 && sentences[next - 1] < end ? sentences[next - 1] : 0;
    return Math.abs(target - before) <= Math.abs(after - target) ? before : after;
  }

  private static int[] sentences(String text) {
    int[] starts = new int[text.length() + 1];
    int count = 0;
    boolean open = true; // a sentence begins at the next visible character
    boolean ended = false; // the last visible characters end a sentence
    int lineBreaks = 0;
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (Character.isWhitespace(c)) {
        lineBreaks += c == '\n' ? 1 : 0;
        open |= ended || lineBreaks > 1;
      } else {
        if (open) {
          starts[count++] = i;
        }
        ended = c == '.' || c == '?' || c == '!' || ended && CLOSERS.indexOf(c) >= 0;
        open = false;
        lineBreaks = 0;
      }
    }
    return Arrays.copyOf(starts, count);
  }

  private static String prose(String dump) {
    ObjectReader reader = new ObjectMapper().reader();
    StringBuilder prose = new StringBuilder();
    String mark = "{\"row_idx\":";
    int row = dump.indexOf(mark);
    while (row >= 0) {
      int next = dump.indexOf(mark, row + 1);
      prose.append(prose.isEmpty() ? "" : "\n\n").append(proseOfRow(reader, dump.substring(row)));
      row = next;
    }
    return prose.toString();
  }

  private static String proseOfRow(ObjectReader reader, String rowAndMore) {
    try {
      JsonNode row = reader.readTree(rowAndMore).path("row");
      return (row.hasNonNull("prompt") ? row.get("prompt") : row.path("text")).asText();
    } catch (JsonProcessingException e) {
      return cutText(reader, rowAndMore);
    }
  }

  /// What is left of the `text` of a row that the end of the file cuts.
  private static String cutText(ObjectReader reader, String row) {
    String key = "\"text\":";
    int start = row.indexOf(key);
    // The cut may fall into an escape: at most six characters have to go.
    for (int end = row.length(); start >= 0 && end > row.length() - 7; end--) {
      try {
        return reader.readTree(row.substring(start + key.length(), end) + "\"").asText();
      } catch (JsonProcessingException e) {
        // the next shorter one
      }
    }
    return "";
  }
}
