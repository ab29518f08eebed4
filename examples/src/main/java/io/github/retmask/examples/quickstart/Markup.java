package io.github.retmask.examples.quickstart;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Locale;

/// HTML and SVG whose tags are balanced and whose text is escaped.
final class Markup {
  private final StringBuilder out = new StringBuilder();
  private final Deque<String> open = new ArrayDeque<>();

  /// Opens an element.
  ///
  /// @param attributes names and values in turn
  Markup open(String tag, Object... attributes) {
    start(tag, attributes).append('>');
    open.push(tag);
    return this;
  }

  /// Closes the element opened last.
  Markup close() {
    out.append("</").append(open.pop()).append('>');
    return this;
  }

  /// An element with nothing but text in it.
  Markup element(String tag, String text, Object... attributes) {
    return open(tag, attributes).text(text).close();
  }

  /// An element that closes itself, as SVG shapes do.
  Markup shape(String tag, Object... attributes) {
    start(tag, attributes).append("/>");
    return this;
  }

  /// An SVG shape that shows `title` under the pointer.
  Markup titled(String tag, String title, Object... attributes) {
    return open(tag, attributes).element("title", title).close();
  }

  /// Escaped text.
  Markup text(String text) {
    out.append(escaped(text));
    return this;
  }

  /// Everything, when every element is closed.
  String finish() {
    if (!open.isEmpty()) {
      throw new IllegalStateException("still open: " + open);
    }
    return out.toString();
  }

  private StringBuilder start(String tag, Object... attributes) {
    out.append('<').append(tag);
    for (int i = 0; i < attributes.length; i += 2) {
      Object value = attributes[i + 1];
      String text =
          value instanceof Double number
              ? String.format(Locale.ROOT, "%.2f", number)
              : value.toString();
      out.append(' ').append(attributes[i]).append("=\"").append(escaped(text)).append('"');
    }
    return out;
  }

  /// What HTML allows as text; control characters become a replacement character.
  static String escaped(String text) {
    StringBuilder safe = new StringBuilder(text.length());
    text.codePoints()
        .forEach(
            c -> {
              switch (c) {
                case '&' -> safe.append("&amp;");
                case '<' -> safe.append("&lt;");
                case '>' -> safe.append("&gt;");
                case '"' -> safe.append("&quot;");
                case '\'' -> safe.append("&#39;");
                default -> {
                  boolean valid = c >= ' ' && c != 0x7f && (c < 0xd800 || c > 0xdfff);
                  safe.appendCodePoint(valid || c == '\n' || c == '\t' ? c : 0xfffd);
                }
              }
            });
    return safe.toString();
  }
}
