package io.github.retmask.tokenizer;

import io.github.retmask.tokenizer.Value.Tuple;
import io.github.retmask.tokenizer.Value.Undefined;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.time.ZonedDateTime;
import java.time.format.DateTimeFormatter;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/// `format % values` and `str.format`, with the conversions texts need: strings, integers and
/// fixed-point numbers.
final class PyFormat {
  private static final Pattern PERCENT =
      Pattern.compile(
          "%(?:\\((?<key>[^)]*)\\))?(?<flags>[-+ 0#]*)(?<width>\\d*)(?:\\.(?<precision>\\d+))?(?<type>.)",
          Pattern.DOTALL);
  private static final Pattern FIELD =
      Pattern.compile(
          "\\{\\{|}}|\\{(?<name>\\w*)(?:!(?<conversion>[rs]))?(?::(?<spec>[^{}]*))?}|[{}]");
  private static final Pattern SPEC =
      Pattern.compile(
          "(?:(?<fill>.)?(?<align>[<>^]))?(?<sign>[+]?)(?<zero>0?)(?<width>\\d*)(?<comma>,?)(?:\\.(?<precision>\\d+))?(?<type>[sdf%xX]?)",
          Pattern.DOTALL);

  private final PyOps ops;

  PyFormat(PyOps ops) {
    this.ops = ops;
  }

  String percent(String format, Object values) {
    List<Object> positional = values instanceof Tuple tuple ? tuple.items() : List.of(values);
    var out = new StringBuilder();
    Matcher m = PERCENT.matcher(format);
    int next = 0;
    int from = 0;
    for (int at = format.indexOf('%'); at >= 0; at = format.indexOf('%', from)) {
      out.append(format, from, at);
      if (!m.find(at) || m.start() != at) {
        throw new EvalError("incomplete format '" + format.substring(at) + "'");
      }
      from = m.end();
      if (m.group("type").equals("%")) {
        out.append('%');
        continue;
      }
      Object value;
      if (m.group("key") != null) {
        value = ops.element(values, m.group("key"));
      } else if (next < positional.size()) {
        value = positional.get(next++);
      } else {
        throw new EvalError("not enough arguments for format string");
      }
      out.append(convert(m, value));
    }
    if (next < positional.size() && values instanceof Tuple) {
      throw new EvalError("not all arguments converted during string formatting");
    }
    if (next == 0
        && !(values instanceof Tuple)
        && !(values instanceof Map)
        && !(values instanceof List)
        && !(values instanceof Undefined)) {
      throw new EvalError("not all arguments converted during string formatting");
    }
    return out.append(format, from, format.length()).toString();
  }

  private String convert(Matcher m, Object value) {
    String flags = m.group("flags");
    int precision = number(m.group("precision"), -1);
    String sign = flags.contains("+") ? "+" : flags.contains(" ") ? " " : "";
    String body =
        switch (m.group("type")) {
          case "s" -> cut(ops.text(value), precision);
          case "r" -> cut(ops.repr(value), precision);
          case "d", "i", "u" -> signed(integer(value), 10, sign);
          case "x" -> signed(integer(value), 16, sign);
          case "X" -> PyString.upper(signed(integer(value), 16, sign));
          case "o" -> signed(integer(value), 8, sign);
          case "f", "F" -> fixed(value, precision < 0 ? 6 : precision, sign);
          default ->
              throw new EvalError("format character '" + m.group("type") + "' is not supported");
        };
    int width = number(m.group("width"), 0);
    boolean text = "sr".contains(m.group("type"));
    char align = flags.contains("-") ? '<' : flags.contains("0") && !text ? '=' : '>';
    return align(body, width, align, align == '=' ? "0" : " ");
  }

  String format(String format, Arguments arguments) {
    var out = new StringBuilder();
    Matcher m = FIELD.matcher(format);
    int next = 0;
    int from = 0;
    while (m.find()) {
      out.append(format, from, m.start());
      from = m.end();
      String name = m.group("name");
      if (name == null) {
        if (m.group().length() == 1) {
          throw new EvalError(
              "format: '" + m.group() + "' without its partner, or a field of an unsupported form");
        }
        out.append(m.group().charAt(0));
        continue;
      }
      Object value;
      if (name.isEmpty() || Character.isDigit(name.charAt(0))) {
        int i = name.isEmpty() ? next++ : number(name, 0);
        if (i >= arguments.positional().size()) {
          throw new EvalError("format: no argument for field " + i);
        }
        value = arguments.positional().get(i);
      } else {
        value =
            arguments
                .named()
                .getOrDefault(name, new Undefined("format: no argument '" + name + "'"));
      }
      if (value instanceof Undefined u && !arguments.positional().contains(u)) {
        throw PyOps.undefined(u);
      }
      Object converted =
          "r".equals(m.group("conversion"))
              ? ops.repr(value)
              : m.group("conversion") == null ? value : ops.text(value);
      String text = spec(m.group("spec"), converted);
      ops.budget().grow(out.length(), text.length());
      out.append(text);
    }
    return out.append(format, from, format.length()).toString();
  }

  private String spec(@Nullable String spec, Object value) {
    if (spec == null || spec.isEmpty()) {
      return ops.text(value);
    }
    Matcher m = SPEC.matcher(spec);
    if (!m.matches()) {
      throw new EvalError("format specification '" + spec + "' is not supported");
    }
    int precision = number(m.group("precision"), -1);
    boolean numeric =
        PyOps.isNumber(value) && !(value instanceof Boolean && m.group("type").isEmpty());
    String body =
        switch (m.group("type")) {
          case "d" -> signed(integer(value), 10, m.group("sign"));
          case "x" -> signed(integer(value), 16, m.group("sign"));
          case "X" -> PyString.upper(signed(integer(value), 16, m.group("sign")));
          case "f" -> fixed(value, precision < 0 ? 6 : precision, m.group("sign"));
          case "%" ->
              fixed(ops.binary("*", value, 100L), precision < 0 ? 6 : precision, m.group("sign"))
                  + "%";
          default -> {
            if (value instanceof Double && precision >= 0) {
              throw new EvalError(
                  "format specification '" + spec + "' is not supported for a float");
            }
            yield value instanceof Long n
                ? signed(n, 10, m.group("sign"))
                : cut(ops.text(value), precision);
          }
        };
    if (!m.group("comma").isEmpty()) {
      body = thousands(body);
    }
    String align = m.group("align");
    boolean zero = !m.group("zero").isEmpty();
    char how = align != null ? align.charAt(0) : zero && numeric ? '=' : numeric ? '>' : '<';
    String fill = m.group("fill") != null ? m.group("fill") : zero ? "0" : " ";
    return align(body, number(m.group("width"), 0), how, fill);
  }

  private static String thousands(String number) {
    int end = number.indexOf('.') < 0 ? number.length() : number.indexOf('.');
    var out = new StringBuilder(number);
    for (int i = end - 3; i > 0 && Character.isDigit(number.charAt(i - 1)); i -= 3) {
      out.insert(i, ',');
    }
    return out.toString();
  }

  private static int number(@Nullable String digits, int fallback) {
    if (digits == null || digits.isEmpty()) {
      return fallback;
    }
    if (digits.length() > 8) {
      throw new EvalError("format width or precision " + digits + " is too large");
    }
    return Integer.parseInt(digits);
  }

  private static String cut(String s, int precision) {
    return precision < 0 || precision >= PyString.length(s) ? s : PyString.slice(s, 0, precision);
  }

  private static long integer(Object value) {
    return switch (value) {
      case Long n -> n;
      case Boolean b -> b ? 1 : 0;
      case Double d when Math.abs(d) < 0x1p63 -> (long) (double) d;
      default -> throw new EvalError("format: a number is required, not " + PyOps.typeName(value));
    };
  }

  private static String signed(long value, int radix, String sign) {
    return (value < 0 ? "" : sign) + Long.toString(value, radix);
  }

  private String fixed(Object value, int precision, String sign) {
    if (!PyOps.isNumber(value)) {
      throw new EvalError("format: a number is required, not " + PyOps.typeName(value));
    }
    double d = value instanceof Double x ? x : integer(value);
    ops.budget().build(precision);
    String digits =
        Double.isFinite(d)
            ? new BigDecimal(d).setScale(precision, RoundingMode.HALF_EVEN).toPlainString()
            : PyString.floatRepr(d);
    boolean negativeZero = (d < 0 || (d == 0 && 1 / d < 0)) && !digits.startsWith("-");
    return (negativeZero ? "-" : d < 0 ? "" : sign) + digits;
  }

  /// `=` puts the fill between sign and digits.
  private String align(String s, int width, char how, String fill) {
    int missing = width - PyString.length(s);
    if (missing <= 0) {
      return s;
    }
    ops.budget().build(width);
    return switch (how) {
      case '<' -> s + fill.repeat(missing);
      case '^' -> fill.repeat(missing / 2) + s + fill.repeat(missing - missing / 2);
      case '=' -> {
        int sign = s.startsWith("-") || s.startsWith("+") || s.startsWith(" ") ? 1 : 0;
        yield s.substring(0, sign) + fill.repeat(missing) + s.substring(sign);
      }
      default -> fill.repeat(missing) + s;
    };
  }

  /// `datetime.strftime` in the C locale, for `strftime_now`.
  static String strftime(ZonedDateTime time, String format) {
    var out = new StringBuilder();
    for (int i = 0; i < format.length(); i++) {
      char c = format.charAt(i);
      if (c != '%' || i + 1 == format.length()) {
        out.append(c);
        continue;
      }
      boolean bare = format.charAt(i + 1) == '-' && i + 2 < format.length();
      i += bare ? 2 : 1;
      String field = field(time, format.charAt(i));
      out.append(bare && field.length() > 1 ? field.replaceFirst("^[0 ]+(?=.)", "") : field);
    }
    return out.toString();
  }

  private static String field(ZonedDateTime time, char directive) {
    String pattern =
        switch (directive) {
          case 'a' -> "EEE";
          case 'A' -> "EEEE";
          case 'b', 'h' -> "MMM";
          case 'B' -> "MMMM";
          case 'd' -> "dd";
          case 'e' -> "ppd";
          case 'm' -> "MM";
          case 'y' -> "yy";
          case 'Y' -> "yyyy";
          case 'H' -> "HH";
          case 'I' -> "hh";
          case 'M' -> "mm";
          case 'S' -> "ss";
          case 'p' -> "a";
          case 'f' -> "SSSSSS";
          case 'j' -> "DDD";
          case 'F' -> "yyyy-MM-dd";
          case 'T' -> "HH:mm:ss";
          case 'D', 'x' -> "MM/dd/yy";
          case 'R' -> "HH:mm";
          case 'X' -> "HH:mm:ss";
          case 'c' -> "EEE MMM ppd HH:mm:ss yyyy";
          case 'z', 'Z' -> ""; // a datetime without a time zone has nothing to say here
          case 'w' -> "";
          case '%' -> "'%'";
          default -> throw new EvalError("strftime_now: '%" + directive + "' is not supported");
        };
    if (directive == 'w') {
      return Integer.toString(time.getDayOfWeek().getValue() % 7);
    }
    return pattern.isEmpty()
        ? ""
        : time.format(DateTimeFormatter.ofPattern(pattern, Locale.ENGLISH));
  }
}
