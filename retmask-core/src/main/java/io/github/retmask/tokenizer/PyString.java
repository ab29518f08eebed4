package io.github.retmask.tokenizer;

import java.math.BigDecimal;
import java.math.MathContext;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.IntPredicate;

/// Python's view of strings and numbers as text: whitespace, code points, case and literal forms.
final class PyString {
  private PyString() {}

  /// Python's `str.isspace` for one character; all of them are in the basic plane.
  static boolean isSpace(int c) {
    return (c >= 9 && c <= 13)
        || (c >= 0x1c && c <= 0x20)
        || c == 0x85
        || (c >= 0xa0 && Character.isSpaceChar(c));
  }

  static boolean allSpace(String s, int from, int to) {
    for (int i = from; i < to; i++) {
      if (!isSpace(s.charAt(i))) {
        return false;
      }
    }
    return true;
  }

  static String strip(String s, IntPredicate drop, boolean left, boolean right) {
    int from = 0;
    int to = s.length();
    while (left && from < to && drop.test(s.codePointAt(from))) {
      from += Character.charCount(s.codePointAt(from));
    }
    while (right && from < to && drop.test(s.codePointBefore(to))) {
      to -= Character.charCount(s.codePointBefore(to));
    }
    return s.substring(from, to);
  }

  static int length(String s) {
    return s.codePointCount(0, s.length());
  }

  /// Characters `from` to `to`, counted in code points.
  static String slice(String s, int from, int to) {
    int start = s.offsetByCodePoints(0, from);
    return s.substring(start, s.offsetByCodePoints(start, to - from));
  }

  static List<Object> characters(String s) {
    var out = new ArrayList<Object>(s.length());
    s.codePoints().forEach(c -> out.add(Character.toString(c)));
    return out;
  }

  /// By code point, where `String.compareTo` goes by UTF-16 unit.
  static int compare(String a, String b) {
    int n = Math.min(a.length(), b.length());
    for (int i = 0; i < n; i++) {
      char x = a.charAt(i);
      char y = b.charAt(i);
      if (x != y) {
        boolean bothBasic = !Character.isSurrogate(x) && !Character.isSurrogate(y);
        return bothBasic
            ? Character.compare(x, y)
            : Integer.compare(a.codePointAt(i), b.codePointAt(i));
      }
    }
    return Integer.compare(a.length(), b.length());
  }

  static String lower(String s) {
    return s.toLowerCase(Locale.ROOT);
  }

  static String upper(String s) {
    return s.toUpperCase(Locale.ROOT);
  }

  static String capitalize(String s) {
    if (s.isEmpty()) {
      return s;
    }
    int first = Character.charCount(s.codePointAt(0));
    return titleCase(s.codePointAt(0)) + lower(s.substring(first));
  }

  private static String titleCase(int c) {
    int title = Character.toTitleCase(c);
    if (title != c || Character.isTitleCase(c)) {
      return Character.toString(title);
    }
    String upper = upper(Character.toString(c)); // one letter may become several, as in ß
    return upper.substring(0, 1) + lower(upper.substring(1));
  }

  /// `str.title`: a cased letter is lowered after another cased letter, else put in title case.
  static String title(String s) {
    var out = new StringBuilder(s.length());
    boolean afterLetter = false;
    for (int i = 0; i < s.length(); ) {
      int c = s.codePointAt(i);
      out.append(afterLetter ? lower(Character.toString(c)) : titleCase(c));
      afterLetter = isCased(c);
      i += Character.charCount(c);
    }
    return out.toString();
  }

  static String swapCase(String s) {
    var out = new StringBuilder(s.length());
    s.codePoints()
        .forEach(
            c ->
                out.append(
                    Character.isUpperCase(c)
                        ? lower(Character.toString(c))
                        : upper(Character.toString(c))));
    return out.toString();
  }

  static boolean isCased(int c) {
    return Character.isUpperCase(c) || Character.isLowerCase(c) || Character.isTitleCase(c);
  }

  /// `str.isupper` or `str.islower`: at least one cased letter, and none of the other case.
  static boolean isAllCase(String s, boolean wantUpper) {
    boolean any = false;
    for (int c : s.codePoints().toArray()) {
      if (Character.isTitleCase(c)
          || (wantUpper ? Character.isLowerCase(c) : Character.isUpperCase(c))) {
        return false;
      }
      any |= isCased(c);
    }
    return any;
  }

  static boolean isTitle(String s) {
    boolean any = false;
    boolean afterLetter = false;
    for (int c : s.codePoints().toArray()) {
      boolean startsWord = Character.isUpperCase(c) || Character.isTitleCase(c);
      if (startsWord ? afterLetter : Character.isLowerCase(c) && !afterLetter) {
        return false;
      }
      afterLetter = isCased(c);
      any |= afterLetter;
    }
    return any;
  }

  static List<Object> splitLines(String s, boolean keepEnds) {
    var out = new ArrayList<Object>();
    int from = 0;
    for (int i = 0; i < s.length(); i++) {
      char c = s.charAt(i);
      if ((c >= 10 && c <= 13)
          || (c >= 0x1c && c <= 0x1e)
          || c == 0x85
          || c == 0x2028
          || c == 0x2029) {
        int end = c == '\r' && i + 1 < s.length() && s.charAt(i + 1) == '\n' ? i + 2 : i + 1;
        out.add(s.substring(from, keepEnds ? end : i));
        from = end;
        i = end - 1;
      }
    }
    if (from < s.length()) {
      out.add(s.substring(from));
    }
    return out;
  }

  /// `str.split(sep, max)`; `max` < 0 means no limit.
  static List<Object> split(String s, String separator, long max) {
    if (separator.isEmpty()) {
      throw new EvalError("split: empty separator");
    }
    var out = new ArrayList<Object>();
    int from = 0;
    for (int hit;
        (max < 0 || out.size() < max) && (hit = s.indexOf(separator, from)) >= 0;
        from = hit + separator.length()) {
      out.add(s.substring(from, hit));
    }
    out.add(s.substring(from));
    return out;
  }

  static List<Object> splitRight(String s, String separator, long max) {
    if (separator.isEmpty()) {
      throw new EvalError("rsplit: empty separator");
    }
    var out = new ArrayList<Object>();
    int to = s.length();
    for (int hit;
        (max < 0 || out.size() < max)
            && (hit = s.lastIndexOf(separator, to - separator.length())) >= 0;
        to = hit) {
      out.addFirst(s.substring(hit + separator.length(), to));
    }
    out.addFirst(s.substring(0, to));
    return out;
  }

  /// `str.split()`: at runs of whitespace, none at the ends.
  static List<Object> splitSpace(String s, long max) {
    var out = new ArrayList<Object>();
    int i = 0;
    while (true) {
      while (i < s.length() && isSpace(s.charAt(i))) {
        i++;
      }
      if (i == s.length()) {
        return out;
      }
      if (max >= 0 && out.size() == max) {
        out.add(s.substring(i));
        return out;
      }
      int from = i;
      while (i < s.length() && !isSpace(s.charAt(i))) {
        i++;
      }
      out.add(s.substring(from, i));
    }
  }

  static List<Object> splitSpaceRight(String s, long max) {
    var out = new ArrayList<Object>();
    int i = s.length();
    while (true) {
      while (i > 0 && isSpace(s.charAt(i - 1))) {
        i--;
      }
      if (i == 0) {
        return out;
      }
      if (max >= 0 && out.size() == max) {
        out.addFirst(s.substring(0, i));
        return out;
      }
      int to = i;
      while (i > 0 && !isSpace(s.charAt(i - 1))) {
        i--;
      }
      out.addFirst(s.substring(i, to));
    }
  }

  /// `repr` of a string, as it shows inside a printed list or dict.
  static void repr(String s, StringBuilder out) {
    char quote = s.indexOf('\'') >= 0 && s.indexOf('"') < 0 ? '"' : '\'';
    out.append(quote);
    for (int i = 0; i < s.length(); ) {
      int c = s.codePointAt(i);
      i += Character.charCount(c);
      switch (c) {
        case '\\' -> out.append("\\\\");
        case '\n' -> out.append("\\n");
        case '\r' -> out.append("\\r");
        case '\t' -> out.append("\\t");
        default -> {
          if (c == quote) {
            out.append('\\').append(quote);
          } else if (isPrintable(c)) {
            out.appendCodePoint(c);
          } else {
            out.append(
                String.format(
                    Locale.ROOT, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c));
          }
        }
      }
    }
    out.append(quote);
  }

  static boolean isPrintable(int c) {
    if (c == ' ') {
      return true;
    }
    return switch (Character.getType(c)) {
      case Character.CONTROL,
          Character.FORMAT,
          Character.SURROGATE,
          Character.PRIVATE_USE,
          Character.UNASSIGNED,
          Character.LINE_SEPARATOR,
          Character.PARAGRAPH_SEPARATOR,
          Character.SPACE_SEPARATOR ->
          false;
      default -> true;
    };
  }

  /// `repr` of a float: the shortest digits that read back as the same number, with an exponent
  /// below 1e-4 and from 1e16 on.
  static String floatRepr(double d) {
    if (Double.isNaN(d)) {
      return "nan";
    }
    if (Double.isInfinite(d)) {
      return d > 0 ? "inf" : "-inf";
    }
    if (d == 0) {
      return Double.toString(d);
    }
    BigDecimal shortest = new BigDecimal(Double.toString(d)).stripTrailingZeros();
    BigDecimal oneDigit = shortest.round(new MathContext(1));
    if (oneDigit.doubleValue() == d) {
      shortest = oneDigit.stripTrailingZeros(); // Double.toString never goes below two digits
    }
    int exponent = shortest.precision() - shortest.scale() - 1;
    if (exponent >= -4 && exponent < 16) {
      String plain = shortest.toPlainString();
      return plain.indexOf('.') < 0 ? plain + ".0" : plain;
    }
    String digits = shortest.unscaledValue().abs().toString();
    return (d < 0 ? "-" : "")
        + digits.charAt(0)
        + (digits.length() > 1 ? "." + digits.substring(1) : "")
        + (exponent < 0 ? "e-" : "e+")
        + (Math.abs(exponent) < 10 ? "0" : "")
        + Math.abs(exponent);
  }
}
