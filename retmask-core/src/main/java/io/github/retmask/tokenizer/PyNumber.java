package io.github.retmask.tokenizer;

import java.math.BigInteger;
import org.jspecify.annotations.Nullable;

/// Numbers as Python spells them, read by hand: what regular expressions do with a million digits
/// is no match for a hostile template.
final class PyNumber {
  /// No 64-bit integer has more digits, in whatever base.
  private static final int MAX_DIGITS = 64;

  private PyNumber() {}

  /// The end of the decimal digits that begin at `from`, single underscores between them included.
  static int digitsEnd(String s, int from) {
    int i = from;
    while (i < s.length()
        && (isDigit(s, i) || (i > from && s.charAt(i) == '_' && isDigit(s, i + 1)))) {
      i++;
    }
    return i;
  }

  private static boolean isDigit(String s, int i) {
    return i < s.length() && s.charAt(i) >= '0' && s.charAt(i) <= '9';
  }

  /// The end of the exponent that begins at `from`, or `from` if there is none.
  static int exponentEnd(String s, int from) {
    if (from >= s.length() || (s.charAt(from) | 0x20) != 'e') {
      return from;
    }
    int digits = from + 1;
    if (digits < s.length() && (s.charAt(digits) == '+' || s.charAt(digits) == '-')) {
      digits++;
    }
    int end = digitsEnd(s, digits);
    return end == digits ? from : end;
  }

  /// `float(text)` for decimal text, or null if it is none.
  static @Nullable Double parseFloat(String text) {
    int start = text.startsWith("+") || text.startsWith("-") ? 1 : 0;
    int end = digitsEnd(text, start);
    int digits = end - start;
    if (end < text.length() && text.charAt(end) == '.') {
      int fraction = end + 1;
      end = digitsEnd(text, fraction);
      digits += end - fraction;
    }
    return digits > 0 && exponentEnd(text, end) == text.length()
        ? Double.valueOf(text.replace("_", ""))
        : null;
  }

  /// `int(text, base)`, with the prefix of base 2, 8 or 16 if there is one; null if it is no
  /// number.
  static @Nullable Long parseInt(String text, int base) {
    int start = text.startsWith("+") || text.startsWith("-") ? 1 : 0;
    String prefix = base == 16 ? "0x" : base == 8 ? "0o" : base == 2 ? "0b" : "";
    if (!prefix.isEmpty() && text.regionMatches(true, start, prefix, 0, 2)) {
      start += 2;
      start += start < text.length() && text.charAt(start) == '_' ? 1 : 0;
    }
    var digits = new StringBuilder(text.startsWith("-") ? "-" : "");
    boolean underscore = true; // none may come first, twice or last
    for (int i = start; i < text.length(); i++) {
      char c = text.charAt(i);
      boolean isDigit = c < 128 && Character.digit(c, base) >= 0;
      if (!isDigit && (c != '_' || underscore)) {
        return null;
      }
      underscore = !isDigit;
      boolean leadingZero = c == '0' && digits.length() == (text.startsWith("-") ? 1 : 0);
      if (isDigit && !(leadingZero && i + 1 < text.length())) {
        digits.append(c);
      }
    }
    return underscore ? null : fitting(digits.toString(), base);
  }

  private static Long fitting(String digits, int base) {
    if (digits.length() <= MAX_DIGITS + 1) {
      var value = new BigInteger(digits, base);
      if (value.bitLength() < Long.SIZE) {
        return value.longValue();
      }
    }
    throw new EvalError("an integer of " + digits.length() + " digits does not fit into 64 bits");
  }
}
