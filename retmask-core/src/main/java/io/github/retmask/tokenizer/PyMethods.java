package io.github.retmask.tokenizer;

import io.github.retmask.tokenizer.Arguments.Bound;
import io.github.retmask.tokenizer.Value.DictView;
import io.github.retmask.tokenizer.Value.Function;
import io.github.retmask.tokenizer.Value.Tuple;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.IntPredicate;
import org.jspecify.annotations.Nullable;

/// The methods of Python's `str`, `dict`, `list` and `tuple` that leave their object alone.
final class PyMethods {
  private static final Set<String> STRING =
      Set.of(
          "capitalize",
          "center",
          "count",
          "endswith",
          "expandtabs",
          "find",
          "format",
          "index",
          "isalnum",
          "isalpha",
          "isascii",
          "isdecimal",
          "isdigit",
          "islower",
          "isnumeric",
          "isspace",
          "istitle",
          "isupper",
          "join",
          "ljust",
          "lower",
          "lstrip",
          "partition",
          "removeprefix",
          "removesuffix",
          "replace",
          "rfind",
          "rindex",
          "rjust",
          "rpartition",
          "rsplit",
          "rstrip",
          "split",
          "splitlines",
          "startswith",
          "strip",
          "swapcase",
          "title",
          "upper",
          "zfill");
  private static final Set<String> DICT = Set.of("copy", "get", "items", "keys", "values");
  private static final Set<String> LIST = Set.of("copy", "count", "index");
  private static final Set<String> TUPLE = Set.of("count", "index");

  private final PyOps ops;

  PyMethods(PyOps ops) {
    this.ops = ops;
  }

  /// The method of that name, or null if the object has none.
  @Nullable Function of(Object target, String name) {
    return switch (target) {
      case String s when STRING.contains(name) -> arguments -> string(s, name, arguments);
      case Map<?, ?> map when DICT.contains(name) -> arguments -> dict(map, name, arguments);
      case List<?> list when LIST.contains(name) ->
          arguments -> sequence(PyOps.asObjects(list), name, arguments);
      case Tuple tuple when TUPLE.contains(name) ->
          arguments -> sequence(tuple.items(), name, arguments);
      default -> null;
    };
  }

  private Object dict(Map<?, ?> map, String name, Arguments arguments) {
    return switch (name) {
      case "get" -> {
        Bound b = arguments.bind("get", 1, "key", "default");
        Object found = map.get(ops.key(b.get(0)));
        yield found == null ? b.get(1) : found;
      }
      case "items" -> {
        arguments.bind(name, 0);
        yield new DictView("dict_items", pairs(map));
      }
      case "keys" -> {
        arguments.bind(name, 0);
        yield new DictView("dict_keys", new ArrayList<>(map.keySet()));
      }
      case "values" -> {
        arguments.bind(name, 0);
        yield new DictView("dict_values", new ArrayList<>(map.values()));
      }
      default -> {
        arguments.bind(name, 0);
        yield new LinkedHashMap<Object, Object>(map);
      }
    };
  }

  /// The (key, value) tuples of a dict.
  static List<Object> pairs(Map<?, ?> map) {
    var out = new ArrayList<Object>(map.size());
    map.forEach((key, value) -> out.add(Tuple.of(key, value)));
    return out;
  }

  private Object sequence(List<Object> items, String name, Arguments arguments) {
    return switch (name) {
      case "copy" -> {
        arguments.bind(name, 0);
        yield items;
      }
      case "count" -> {
        Object wanted = arguments.bind(name, 1, "value").get(0);
        long n = 0;
        for (Object item : items) {
          n += ops.equal(item, wanted) ? 1 : 0;
        }
        yield n;
      }
      default -> {
        Bound b = arguments.bind(name, 1, "value", "start", "stop");
        int to = position(b, 2, items.size(), items.size());
        for (int i = position(b, 1, 0, items.size()); i < to; i++) {
          if (ops.equal(items.get(i), b.get(0))) {
            yield (long) i;
          }
        }
        throw new EvalError(ops.repr(b.get(0)) + " is not in the sequence");
      }
    };
  }

  /// A start or stop argument as Python clips it: negative ones count from the end.
  private static int position(Bound b, int i, int fallback, int length) {
    if (!b.has(i) || b.isNone(i)) {
      return fallback;
    }
    long at = b.integer(i);
    return Math.clamp(at < 0 ? at + length : at, 0, length);
  }

  private Object string(String s, String name, Arguments arguments) {
    return switch (name) {
      case "strip", "lstrip", "rstrip" -> {
        Bound b = arguments.bind(name, 0, "chars");
        yield PyString.strip(s, b.characters(0), !name.equals("rstrip"), !name.equals("lstrip"));
      }
      case "startswith", "endswith" -> {
        Bound b = arguments.bind(name, 1, "prefix", "start", "end");
        String part = range(s, b, 1);
        boolean hit = false;
        List<Object> options =
            b.get(0) instanceof Tuple tuple ? tuple.items() : List.of(b.string(0));
        for (Object option : options) {
          if (!(option instanceof String affix)) {
            throw b.wrong(0, "a string or a tuple of strings");
          }
          hit |=
              part != null
                  && (name.equals("startswith") ? part.startsWith(affix) : part.endsWith(affix));
        }
        yield hit;
      }
      case "find", "rfind", "index", "rindex" -> find(s, name, arguments);
      case "count" -> {
        Bound b = arguments.bind(name, 1, "sub", "start", "end");
        yield count(range(s, b, 1), b.string(0));
      }
      case "replace" -> {
        Bound b = arguments.bind(name, 2, "old", "new", "count");
        yield replace(s, b.string(0), b.string(1), b.integer(2, -1));
      }
      case "split", "rsplit" -> {
        Bound b = arguments.bind(name, 0, "sep", "maxsplit");
        long max = b.integer(1, -1);
        ops.budget().build(s.length());
        if (b.isNone(0)) {
          yield name.equals("split")
              ? PyString.splitSpace(s, max)
              : PyString.splitSpaceRight(s, max);
        }
        yield name.equals("split")
            ? PyString.split(s, b.string(0), max)
            : PyString.splitRight(s, b.string(0), max);
      }
      case "splitlines" -> {
        Bound b = arguments.bind(name, 0, "keepends");
        yield PyString.splitLines(s, b.truthy(0));
      }
      case "partition", "rpartition" -> {
        String separator = arguments.bind(name, 1, "sep").string(0);
        if (separator.isEmpty()) {
          throw new EvalError(name + ": empty separator");
        }
        boolean left = name.equals("partition");
        int at = left ? s.indexOf(separator) : s.lastIndexOf(separator);
        yield at < 0
            ? left ? Tuple.of(s, "", "") : Tuple.of("", "", s)
            : Tuple.of(s.substring(0, at), separator, s.substring(at + separator.length()));
      }
      case "join" -> join(s, arguments.bind(name, 1, "iterable").get(0));
      case "removeprefix" -> {
        String prefix = arguments.bind(name, 1, "prefix").string(0);
        yield s.startsWith(prefix) ? s.substring(prefix.length()) : s;
      }
      case "removesuffix" -> {
        String suffix = arguments.bind(name, 1, "suffix").string(0);
        yield s.endsWith(suffix) ? s.substring(0, s.length() - suffix.length()) : s;
      }
      case "center", "ljust", "rjust" -> {
        Bound b = arguments.bind(name, 1, "width", "fillchar");
        yield pad(s, name, b.integer(0), b.string(1, " "));
      }
      case "zfill" -> {
        long width = arguments.bind(name, 1, "width").integer(0);
        boolean signed = s.startsWith("+") || s.startsWith("-");
        String sign = signed ? s.substring(0, 1) : "";
        yield sign + pad(s.substring(sign.length()), "rjust", width - sign.length(), "0");
      }
      case "expandtabs" -> expandTabs(s, arguments.bind(name, 0, "tabsize").integer(0, 8));
      case "format" -> new PyFormat(ops).format(s, arguments);
      default -> {
        arguments.bind(name, 0);
        yield plain(s, name);
      }
    };
  }

  /// The methods without arguments.
  private static Object plain(String s, String name) {
    return switch (name) {
      case "lower" -> PyString.lower(s);
      case "upper" -> PyString.upper(s);
      case "title" -> PyString.title(s);
      case "capitalize" -> PyString.capitalize(s);
      case "swapcase" -> PyString.swapCase(s);
      case "isupper" -> PyString.isAllCase(s, true);
      case "islower" -> PyString.isAllCase(s, false);
      case "istitle" -> PyString.isTitle(s);
      case "isascii" -> s.chars().allMatch(c -> c < 128);
      case "isspace" -> all(s, PyString::isSpace);
      case "isalpha" -> all(s, Character::isLetter);
      case "isalnum" -> all(s, c -> Character.isLetter(c) || isNumeric(c));
      case "isdecimal" -> all(s, Character::isDigit);
      case "isdigit" -> all(s, c -> Character.isDigit(c) || isSuperscriptDigit(c));
      case "isnumeric" -> all(s, PyMethods::isNumeric);
      default -> throw new IllegalStateException(name);
    };
  }

  private static boolean isNumeric(int c) {
    int type = Character.getType(c);
    return type == Character.DECIMAL_DIGIT_NUMBER
        || type == Character.LETTER_NUMBER
        || type == Character.OTHER_NUMBER;
  }

  private static boolean isSuperscriptDigit(int c) {
    return c == 0xb2 || c == 0xb3 || c == 0xb9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079);
  }

  private static boolean all(String s, IntPredicate test) {
    return !s.isEmpty() && s.codePoints().allMatch(test);
  }

  /// The part between the start and end arguments; null where not even the empty string is found.
  private static @Nullable String range(String s, Bound b, int startIndex) {
    if (!b.has(startIndex) && !b.has(startIndex + 1)) {
      return s;
    }
    int length = PyString.length(s);
    if (b.has(startIndex) && !b.isNone(startIndex) && b.integer(startIndex) > length) {
      return null;
    }
    int from = position(b, startIndex, 0, length);
    int to = position(b, startIndex + 1, length, length);
    return from <= to ? PyString.slice(s, from, to) : null;
  }

  private static Object find(String s, String name, Arguments arguments) {
    Bound b = arguments.bind(name, 1, "sub", "start", "end");
    String part = range(s, b, 1);
    int from = part == s ? 0 : position(b, 1, 0, PyString.length(s));
    int at =
        part == null
            ? -1
            : name.startsWith("r") ? part.lastIndexOf(b.string(0)) : part.indexOf(b.string(0));
    if (at < 0 && name.endsWith("index")) {
      throw new EvalError("substring not found");
    }
    return at < 0 ? -1L : from + (long) part.codePointCount(0, at);
  }

  private static long count(@Nullable String s, String part) {
    if (s == null) {
      return 0;
    }
    if (part.isEmpty()) {
      return PyString.length(s) + 1;
    }
    long n = 0;
    for (int at = s.indexOf(part); at >= 0; at = s.indexOf(part, at + part.length())) {
      n++;
    }
    return n;
  }

  String replace(String s, String old, String replacement, long max) {
    long hits = count(s, old);
    long n = max < 0 ? hits : Math.min(max, hits);
    ops.budget().build(s.length());
    ops.budget().build(s.length() + n * ((long) replacement.length() - old.length()));
    var out = new StringBuilder();
    int from = 0;
    if (old.isEmpty()) {
      for (long i = 0; i < n; i++) {
        out.append(replacement);
        int next = from < s.length() ? s.offsetByCodePoints(from, 1) : from;
        out.append(s, from, next);
        from = next;
      }
    } else {
      for (long i = 0; i < n; i++) {
        int at = s.indexOf(old, from);
        out.append(s, from, at).append(replacement);
        from = at + old.length();
      }
    }
    return out.append(s, from, s.length()).toString();
  }

  private String join(String separator, Object iterable) {
    var out = new StringBuilder();
    boolean first = true;
    for (Iterator<Object> all = ops.iterate(iterable); all.hasNext(); first = false) {
      Object item = all.next();
      if (!(item instanceof String part)) {
        throw new EvalError("join: found " + PyOps.typeName(item) + ", want only strings");
      }
      ops.budget().step();
      ops.budget().grow(out.length(), (long) separator.length() + part.length());
      out.append(first ? "" : separator).append(part);
    }
    return out.toString();
  }

  String pad(String s, String how, long width, String fill) {
    if (PyString.length(fill) != 1) {
      throw new EvalError(how + ": the fill character must be one character");
    }
    long missing = width - PyString.length(s);
    if (missing <= 0) {
      return s;
    }
    ops.budget().build(width);
    int left =
        switch (how) {
          case "ljust" -> 0;
          case "rjust" -> (int) missing;
          default -> (int) (missing / 2 + (missing & width & 1));
        };
    return fill.repeat(left) + s + fill.repeat((int) missing - left);
  }

  private String expandTabs(String s, long size) {
    var out = new StringBuilder();
    int column = 0;
    for (int i = 0; i < s.length(); i++) {
      char c = s.charAt(i);
      if (c == '\t') {
        int fill = size > 0 ? (int) (size - column % size) : 0;
        ops.budget().grow(out.length(), fill);
        out.append(" ".repeat(fill));
        column += fill;
      } else {
        out.append(c);
        column = c == '\n' || c == '\r' ? 0 : column + 1;
      }
    }
    return out.toString();
  }
}
