package io.github.retmask.tokenizer;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Objects;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/// Cuts a template into text and tokens, with the environment settings chat templates are rendered
/// under: `trim_blocks` and `lstrip_blocks` on, `keep_trailing_newline` off. Whitespace rules
/// follow the lexer of Jinja 3.1.
final class TemplateLexer {
  enum Type {
    TEXT,
    PRINT_BEGIN,
    PRINT_END,
    TAG_BEGIN,
    TAG_END,
    NAME,
    STRING,
    INTEGER,
    FLOAT,
    OPERATOR,
    END
  }

  /// `text` is the spelling, but for TEXT and STRING the content; `value` is the number of an
  /// INTEGER or FLOAT and equals `text` otherwise.
  record Token(Type type, String text, Object value, int line) {
    boolean is(Type wanted, String spelling) {
      return type == wanted && text.equals(spelling);
    }

    boolean isOperator(String spelling) {
      return is(Type.OPERATOR, spelling);
    }

    boolean isName(String spelling) {
      return is(Type.NAME, spelling);
    }

    String describe() {
      return switch (type) {
        case TEXT -> "template text";
        case PRINT_BEGIN -> "'{{'";
        case PRINT_END -> "'}}'";
        case TAG_BEGIN -> "'{%'";
        case TAG_END -> "'%}'";
        case STRING -> "a string";
        case END -> "the end of the template";
        case NAME, INTEGER, FLOAT, OPERATOR -> "'" + text + "'";
      };
    }
  }

  private static final Pattern NAME =
      Pattern.compile("[\\p{L}\\p{Nl}_][\\p{L}\\p{Nl}\\p{Mn}\\p{Mc}\\p{Nd}\\p{Pc}]*");
  private static final Pattern OPERATOR =
      Pattern.compile("//|\\*\\*|==|!=|>=|<=|[-+/*%~\\[\\](){}<>=.:|,;]");

  private final String template;
  private final String source;
  private final List<Token> tokens = new ArrayList<>();
  private int at;
  private int line = 1;
  private int lineCountedTo;

  private TemplateLexer(String template, String source) {
    this.template = template;
    this.source = source;
  }

  static List<Token> tokenize(String template, String source) {
    String unix = source.replace("\r\n", "\n").replace('\r', '\n');
    if (unix.endsWith("\n")) {
      unix = unix.substring(0, unix.length() - 1);
    }
    var lexer = new TemplateLexer(template, unix);
    lexer.run();
    return lexer.tokens;
  }

  private void run() {
    while (at < source.length()) {
      int open = nextOpening();
      if (open < 0) {
        text(source.substring(at));
        at = source.length();
        break;
      }
      boolean lineStart = at == 0 || source.charAt(at - 1) == '\n';
      char kind = source.charAt(open + 1);
      char sign = open + 2 < source.length() ? source.charAt(open + 2) : ' ';
      boolean signed = sign == '-' || sign == '+';
      text(stripBefore(source.substring(at, open), signed ? sign : ' ', kind != '{', lineStart));
      at = open;
      if (kind == '%' && raw()) {
        continue;
      }
      switch (kind) {
        case '#' -> {
          at = open + (signed ? 3 : 2);
          comment();
        }
        case '%' -> code(Type.TAG_BEGIN, Type.TAG_END, open + (signed ? 3 : 2), "%}");
        default -> code(Type.PRINT_BEGIN, Type.PRINT_END, open + (signed ? 3 : 2), "}}");
      }
    }
    add(Type.END, "");
  }

  private int nextOpening() {
    for (int i = source.indexOf('{', at);
        i >= 0 && i + 1 < source.length();
        i = source.indexOf('{', i + 1)) {
      char c = source.charAt(i + 1);
      if (c == '%' || c == '{' || c == '#') {
        return i;
      }
    }
    return -1;
  }

  /// Text before a tag: `-` drops all its trailing whitespace; otherwise `lstrip_blocks` drops what
  /// stands between the start of the line and the tag if that is nothing but whitespace.
  private static String stripBefore(String text, char sign, boolean isBlock, boolean lineStart) {
    if (sign == '-') {
      return PyString.strip(text, PyString::isSpace, false, true);
    }
    if (sign != '+' && isBlock) {
      int from = text.lastIndexOf('\n') + 1;
      if ((from > 0 || lineStart) && PyString.allSpace(text, from, text.length())) {
        return text.substring(0, from);
      }
    }
    return text;
  }

  /// Consumes the end of a tag or comment of `length` characters: `-` eats the whitespace after it,
  /// `+` nothing, otherwise one newline goes (`trim_blocks`).
  private void closeTag(char sign, int length, boolean trimNewline) {
    at += length;
    if (sign == '-') {
      while (at < source.length() && PyString.isSpace(source.charAt(at))) {
        at++;
      }
    } else if (sign != '+' && trimNewline && at < source.length() && source.charAt(at) == '\n') {
      at++;
    }
  }

  private void comment() {
    int close = source.indexOf("#}", at);
    if (close < 0) {
      throw problem("comment without '#}'");
    }
    char sign = close > at ? source.charAt(close - 1) : ' ';
    at = close;
    closeTag(sign, 2, true);
  }

  private static final Pattern RAW =
      Pattern.compile("\\{%[-+]?\\s*raw\\s*(-?)%}", Pattern.UNICODE_CHARACTER_CLASS);
  private static final Pattern END_RAW =
      Pattern.compile("\\{%([-+]?)\\s*endraw\\s*([-+]?)%}", Pattern.UNICODE_CHARACTER_CLASS);

  private boolean raw() {
    Matcher begin = RAW.matcher(source).region(at, source.length());
    if (!begin.lookingAt()) {
      return false;
    }
    at = begin.end();
    closeTag(begin.group(1).isEmpty() ? ' ' : '-', 0, false);
    boolean lineStart = source.charAt(at - 1) == '\n';
    Matcher end = END_RAW.matcher(source);
    if (!end.find(at)) {
      throw problem("'raw' without 'endraw'");
    }
    String openSign = end.group(1);
    String closeSign = end.group(2);
    text(
        stripBefore(
            source.substring(at, end.start()),
            openSign.isEmpty() ? ' ' : openSign.charAt(0),
            true,
            lineStart));
    at = end.end();
    closeTag(closeSign.isEmpty() ? ' ' : closeSign.charAt(0), 0, true);
    return true;
  }

  private void code(Type begin, Type end, int from, String close) {
    add(begin, source.substring(at, from));
    at = from;
    Deque<Character> brackets = new ArrayDeque<>();
    while (true) {
      while (at < source.length() && PyString.isSpace(source.charAt(at))) {
        at++;
      }
      if (at >= source.length()) {
        throw problem("'" + (end == Type.TAG_END ? "{%" : "{{") + "' without '" + close + "'");
      }
      if (brackets.isEmpty() && atClose(close)) {
        char sign = source.charAt(at);
        boolean signed = sign == '-' || sign == '+';
        add(end, close);
        closeTag(signed ? sign : ' ', signed ? 3 : 2, end == Type.TAG_END);
        return;
      }
      token(brackets);
    }
  }

  private boolean atClose(String close) {
    return source.startsWith(close, at)
        || source.startsWith("-" + close, at)
        || (close.equals("%}") && source.startsWith("+%}", at));
  }

  private void token(Deque<Character> brackets) {
    char c = source.charAt(at);
    if (c == '\'' || c == '"') {
      string(c);
      return;
    }
    String word;
    if (c >= '0' && c <= '9') {
      word = number();
    } else if ((word = match(NAME)) != null) {
      add(Type.NAME, word);
    } else if ((word = match(OPERATOR)) != null) {
      balance(brackets, word.charAt(0));
      add(Type.OPERATOR, word);
    } else {
      throw problem("unexpected character '" + Character.toString(source.codePointAt(at)) + "'");
    }
    at += word.length();
  }

  private void balance(Deque<Character> brackets, char c) {
    switch (c) {
      case '(' -> brackets.push(')');
      case '[' -> brackets.push(']');
      case '{' -> brackets.push('}');
      case ')', ']', '}' -> {
        if (brackets.isEmpty()) {
          throw problem("unexpected '" + c + "'");
        }
        char wanted = brackets.pop();
        if (wanted != c) {
          throw problem("unexpected '" + c + "', expected '" + wanted + "'");
        }
      }
      default -> {}
    }
  }

  private @Nullable String match(Pattern pattern) {
    Matcher m = pattern.matcher(source).region(at, source.length());
    return m.lookingAt() ? m.group() : null;
  }

  private String number() {
    int whole = PyNumber.digitsEnd(source, at);
    if (source.charAt(at - 1) != '.') { // what follows a dot is an index, as in items.0.1
      int fraction = whole;
      if (source.startsWith(".", whole)) {
        int end = PyNumber.digitsEnd(source, whole + 1);
        fraction = end > whole + 1 ? end : whole;
      }
      int end = PyNumber.exponentEnd(source, fraction);
      if (end > whole) {
        String word = source.substring(at, end);
        add(Type.FLOAT, word, Double.valueOf(word.replace("_", "")));
        return word;
      }
    }
    int radix = 10;
    int end = whole;
    if (source.charAt(at) == '0') {
      radix = prefixRadix();
      end = radix == 10 ? run(at + 1, 1) : run(at + 2, radix); // 0 is all that may follow a 0
    }
    String word = source.substring(at, end);
    try {
      add(Type.INTEGER, word, Objects.requireNonNull(PyNumber.parseInt(word, radix)));
    } catch (EvalError e) {
      throw problem(e.getMessage());
    }
    return word;
  }

  /// The base that `0x`, `0o` or `0b` announces, if a digit of it follows; else 10.
  private int prefixRadix() {
    int radix =
        switch (at + 1 < source.length() ? source.charAt(at + 1) | 0x20 : ' ') {
          case 'x' -> 16;
          case 'o' -> 8;
          case 'b' -> 2;
          default -> 10;
        };
    return run(at + 2, radix) > at + 2 ? radix : 10;
  }

  /// The end of the digits below `limit` that begin at `from`, each with an underscore before it
  /// or not.
  private int run(int from, int limit) {
    for (int end = from; ; ) {
      int digit = source.startsWith("_", end) ? end + 1 : end;
      char c = digit < source.length() ? source.charAt(digit) : ' ';
      if (c >= 128 || Character.digit(c, 16) < 0 || Character.digit(c, 16) >= limit) {
        return end;
      }
      end = digit + 1;
    }
  }

  private void string(char quote) {
    int end = at + 1;
    while (end < source.length() && source.charAt(end) != quote) {
      end += source.charAt(end) == '\\' ? 2 : 1;
    }
    if (end >= source.length()) {
      throw problem("string without its closing " + quote);
    }
    String inner = source.substring(at + 1, end);
    add(Type.STRING, unescape(inner));
    at = end + 1;
  }

  /// The escapes of Python string literals; an unknown one stays as it is written.
  private String unescape(String s) {
    if (s.indexOf('\\') < 0) {
      return s;
    }
    var out = new StringBuilder(s.length());
    for (int i = 0; i < s.length(); i++) {
      char c = s.charAt(i);
      if (c != '\\') {
        out.append(c);
        continue;
      }
      char e = s.charAt(++i);
      switch (e) {
        case '\n' -> {}
        case '\\', '\'', '"' -> out.append(e);
        case 'a' -> out.append('\u0007');
        case 'b' -> out.append('\b');
        case 'f' -> out.append('\f');
        case 'n' -> out.append('\n');
        case 'r' -> out.append('\r');
        case 't' -> out.append('\t');
        case 'v' -> out.append('\u000b');
        case 'x', 'u', 'U' -> {
          int length = e == 'x' ? 2 : e == 'u' ? 4 : 8;
          out.appendCodePoint(codePoint(s, i + 1, length));
          i += length;
        }
        default -> {
          int octal = i;
          while (octal < s.length()
              && octal < i + 3
              && s.charAt(octal) >= '0'
              && s.charAt(octal) <= '7') {
            octal++;
          }
          if (octal > i) {
            out.append((char) Integer.parseInt(s.substring(i, octal), 8));
            i = octal - 1;
          } else {
            out.append('\\').append(e);
          }
        }
      }
    }
    return out.toString();
  }

  private int codePoint(String s, int from, int length) {
    String digits = s.substring(Math.min(from, s.length()), Math.min(from + length, s.length()));
    if (digits.length() < length || !digits.chars().allMatch(c -> Character.digit(c, 16) >= 0)) {
      throw problem(
          "escape \\"
              + s.charAt(from - 1)
              + " wants "
              + length
              + " hexadecimal digits, found '"
              + digits
              + "'");
    }
    long value = Long.parseLong(digits, 16);
    if (value > Character.MAX_CODE_POINT) {
      throw problem("\\U" + digits + " is no Unicode character");
    }
    return (int) value;
  }

  private void text(String text) {
    if (!text.isEmpty()) {
      add(Type.TEXT, text);
    }
  }

  private void add(Type type, String text) {
    add(type, text, text);
  }

  private void add(Type type, String text, Object value) {
    tokens.add(new Token(type, text, value, line()));
  }

  private int line() {
    for (; lineCountedTo < at && lineCountedTo < source.length(); lineCountedTo++) {
      if (source.charAt(lineCountedTo) == '\n') {
        line++;
      }
    }
    return line;
  }

  private TemplateException problem(String problem) {
    return new TemplateException(template, line(), problem);
  }
}
