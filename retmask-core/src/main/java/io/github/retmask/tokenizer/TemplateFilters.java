package io.github.retmask.tokenizer;

import io.github.retmask.tokenizer.Arguments.Bound;
import io.github.retmask.tokenizer.Value.Generator;
import io.github.retmask.tokenizer.Value.None;
import io.github.retmask.tokenizer.Value.Tuple;
import io.github.retmask.tokenizer.Value.Undefined;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.RoundingMode;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import java.util.Set;
import java.util.function.Predicate;
import java.util.function.UnaryOperator;
import java.util.regex.Pattern;

/// Jinja's filters, with `tojson` as transformers defines it.
final class TemplateFilters {
  static final Set<String> NAMES =
      Set.of(
          "abs",
          "attr",
          "batch",
          "capitalize",
          "center",
          "count",
          "d",
          "default",
          "dictsort",
          "e",
          "escape",
          "first",
          "float",
          "forceescape",
          "format",
          "indent",
          "int",
          "items",
          "join",
          "last",
          "length",
          "list",
          "lower",
          "map",
          "max",
          "min",
          "reject",
          "rejectattr",
          "replace",
          "reverse",
          "round",
          "safe",
          "select",
          "selectattr",
          "sort",
          "string",
          "sum",
          "title",
          "tojson",
          "trim",
          "truncate",
          "unique",
          "upper",
          "wordcount");
  private static final Pattern WORD = Pattern.compile("\\w+", Pattern.UNICODE_CHARACTER_CLASS);
  private static final Pattern TITLE_WORD =
      Pattern.compile("(?<=[-\\s({\\[<])(?![-\\s({\\[<])", Pattern.UNICODE_CHARACTER_CLASS);

  private final PyOps ops;
  private final PyMethods methods;
  private final TemplateTests tests;

  TemplateFilters(PyOps ops, TemplateTests tests) {
    this.ops = ops;
    this.methods = new PyMethods(ops);
    this.tests = tests;
  }

  Object apply(Object value, String name, Arguments arguments) {
    return switch (name) {
      case "abs" -> absolute(value, arguments);
      case "attr" -> attribute(value, arguments.bind(name, 1, "name"));
      case "batch" -> batch(value, arguments.bind(name, 1, "linecount", "fill_with"));
      case "capitalize" -> PyString.capitalize(plain(value, name, arguments));
      case "center" ->
          methods.pad(
              ops.text(value), "center", arguments.bind(name, 0, "width").integer(0, 80), " ");
      case "count", "length" -> {
        arguments.bind(name, 0);
        yield ops.length(value);
      }
      case "d", "default" -> {
        Bound b = arguments.bind(name, 0, "default_value", "boolean");
        yield value instanceof Undefined || (b.truthy(1) && !PyOps.truthy(value))
            ? b.get(0, "")
            : value;
      }
      case "dictsort" ->
          dictSort(value, arguments.bind(name, 0, "case_sensitive", "by", "reverse"));
      case "e", "escape", "forceescape" -> escape(plain(value, name, arguments));
      case "first" -> {
        arguments.bind(name, 0);
        Iterator<Object> all = ops.iterate(value);
        yield all.hasNext() ? all.next() : new Undefined("no first item, the sequence is empty");
      }
      case "last" -> {
        arguments.bind(name, 0);
        List<Object> items = reversible(value);
        yield items.isEmpty()
            ? new Undefined("no last item, the sequence is empty")
            : items.getLast();
      }
      case "float" -> toFloat(value, arguments.bind(name, 0, "default").get(0, 0.0));
      case "int" -> toInt(value, arguments.bind(name, 0, "default", "base"));
      case "format" ->
          ops.binary(
              "%",
              ops.text(value),
              arguments.named().isEmpty()
                  ? new Tuple(arguments.positional())
                  : new LinkedHashMap<Object, Object>(arguments.named()));
      case "indent" -> {
        Bound b = arguments.bind(name, 0, "width", "first", "blank");
        if (!(value instanceof String s)) {
          throw value instanceof Undefined u
              ? PyOps.undefined(u)
              : new EvalError("indent: want a string, got " + PyOps.typeName(value));
        }
        yield indent(s, b);
      }
      case "items" -> {
        arguments.bind(name, 0);
        yield switch (value) {
          case Map<?, ?> map -> new Generator(PyMethods.pairs(map).iterator());
          case Undefined _ -> new Generator(Collections.emptyIterator());
          default -> throw new EvalError("items: want a dict, got " + PyOps.typeName(value));
        };
      }
      case "join" -> join(value, arguments.bind(name, 0, "d", "attribute"));
      case "list" -> {
        arguments.bind(name, 0);
        yield ops.list(value);
      }
      case "lower" -> PyString.lower(plain(value, name, arguments));
      case "upper" -> PyString.upper(plain(value, name, arguments));
      case "map" -> map(value, arguments);
      case "max", "min" ->
          extreme(value, name, arguments.bind(name, 0, "case_sensitive", "attribute"));
      case "select", "reject" -> {
        Predicate<Object> test = test(arguments, 0);
        yield filtered(value, item -> test.test(item) == name.equals("select"));
      }
      case "selectattr", "rejectattr" -> selectByAttribute(value, name, arguments);
      case "replace" -> {
        Bound b = arguments.bind(name, 2, "old", "new", "count");
        long count = b.isNone(2) ? -1 : b.integer(2);
        yield methods.replace(ops.text(value), ops.text(b.get(0)), ops.text(b.get(1)), count);
      }
      case "reverse" -> reverse(value, arguments);
      case "round" -> round(value, arguments.bind(name, 0, "precision", "method"));
      case "safe" -> plain(value, name, arguments);
      case "string" -> plain(value, name, arguments);
      case "sort" -> sort(value, arguments.bind(name, 0, "reverse", "case_sensitive", "attribute"));
      case "sum" -> sum(value, arguments.bind(name, 0, "attribute", "start"));
      case "title" -> titleWords(plain(value, name, arguments));
      case "tojson" -> PyJson.dumps(ops, value, arguments);
      case "trim" -> {
        Bound b = arguments.bind(name, 0, "chars");
        yield PyString.strip(ops.text(value), b.characters(0), true, true);
      }
      case "truncate" ->
          truncate(
              ops.text(value), arguments.bind(name, 0, "length", "killwords", "end", "leeway"));
      case "unique" -> unique(value, arguments.bind(name, 0, "case_sensitive", "attribute"));
      case "wordcount" -> WORD.matcher(plain(value, name, arguments)).results().count();
      default -> throw new EvalError("no filter named '" + name + "'");
    };
  }

  /// The value's text, for a filter that takes no arguments.
  private String plain(Object value, String name, Arguments arguments) {
    arguments.bind(name, 0);
    return ops.text(value);
  }

  // ---- numbers ----

  private Object absolute(Object value, Arguments arguments) {
    arguments.bind("abs", 0);
    return switch (value) {
      case Double d -> Math.abs(d);
      case Long n -> n < 0 ? ops.negate(n) : n;
      case Boolean b -> b ? 1L : 0L;
      case Undefined u -> throw PyOps.undefined(u);
      default -> throw new EvalError("abs: want a number, got " + PyOps.typeName(value));
    };
  }

  private Object toInt(Object value, Bound b) {
    Object fallback = b.get(0, 0L);
    switch (value) {
      case Undefined u -> throw PyOps.undefined(u);
      case Long n -> {
        return n;
      }
      case Boolean x -> {
        return x ? 1L : 0L;
      }
      case Double d -> {
        return truncated(d, fallback);
      }
      case String s -> {
        String digits = PyString.strip(s, PyString::isSpace, true, true);
        Long whole = PyNumber.parseInt(digits, Math.clamp(b.integer(1, 10), 0, 99));
        if (whole != null) {
          return whole;
        }
        return toFloat(s, None.NONE) instanceof Double d ? truncated(d, fallback) : fallback;
      }
      default -> {
        return fallback;
      }
    }
  }

  private static Object fitting(BigInteger n) {
    if (n.bitLength() > 63) {
      throw new EvalError("round: " + n + " does not fit into 64 bits");
    }
    return n.longValue();
  }

  private static Object truncated(double d, Object fallback) {
    if (!Double.isFinite(d)) {
      return fallback;
    }
    if (Math.abs(d) >= 0x1p63) {
      throw new EvalError("int: " + PyString.floatRepr(d) + " does not fit into 64 bits");
    }
    return (long) d;
  }

  private static Object toFloat(Object value, Object fallback) {
    return switch (value) {
      case Undefined u -> throw PyOps.undefined(u);
      case Double d -> d;
      case Long n -> (double) n;
      case Boolean b -> b ? 1.0 : 0.0;
      case String s -> {
        String text = PyString.strip(PyString.lower(s), PyString::isSpace, true, true);
        Double number = PyNumber.parseFloat(text);
        if (number != null) {
          yield number;
        }
        yield switch (text) {
          case "inf", "+inf", "infinity", "+infinity" -> Double.POSITIVE_INFINITY;
          case "-inf", "-infinity" -> Double.NEGATIVE_INFINITY;
          case "nan", "+nan", "-nan" -> Double.NaN;
          default -> fallback;
        };
      }
      default -> fallback;
    };
  }

  private Object round(Object value, Bound b) {
    if (!PyOps.isNumber(value)) {
      throw value instanceof Undefined u
          ? PyOps.undefined(u)
          : new EvalError("round: want a number, got " + PyOps.typeName(value));
    }
    long precision = b.integer(0, 0);
    String method = b.string(1, "common");
    if (Math.abs(precision) > 300) {
      throw new EvalError("round: precision " + precision + " is out of range");
    }
    switch (method) {
      case "common" -> {
        if (value instanceof Double d) {
          if (!Double.isFinite(d)) {
            return d;
          }
          double rounded =
              new BigDecimal(d).setScale((int) precision, RoundingMode.HALF_EVEN).doubleValue();
          return rounded == 0 ? Math.copySign(0, d) : rounded;
        }
        Object n = ops.plus(value);
        return precision >= 0
            ? n
            : fitting(
                new BigDecimal((Long) n)
                    .setScale((int) precision, RoundingMode.HALF_EVEN)
                    .toBigIntegerExact());
      }
      case "ceil", "floor" -> {
        double d = (Double) toFloat(value, 0.0);
        double scale = Math.pow(10, precision);
        return (method.equals("ceil") ? Math.ceil(d * scale) : Math.floor(d * scale)) / scale;
      }
      default ->
          throw new EvalError("round: method must be common, ceil or floor, not '" + method + "'");
    }
  }

  // ---- text ----

  private static String escape(String s) {
    return s.replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace("'", "&#39;")
        .replace("\"", "&#34;");
  }

  private String indent(String s, Bound b) {
    String indention =
        b.get(0, 4L) instanceof String text
            ? text
            : " ".repeat(Math.clamp(b.integer(0, 4), 0, 1000));
    List<Object> lines = PyString.splitLines(s + "\n", false);
    ops.budget().build(s.length() + (long) lines.size() * indention.length());
    var out = new StringBuilder(b.truthy(1) ? indention : "");
    for (int i = 0; i < lines.size(); i++) {
      String line = (String) lines.get(i);
      if (i > 0) {
        out.append('\n').append(b.truthy(2) || !line.isEmpty() ? indention : "");
      }
      out.append(line);
    }
    return out.toString();
  }

  private static String titleWords(String s) {
    var out = new StringBuilder();
    for (String word : TITLE_WORD.split(s)) {
      int first = word.isEmpty() ? 0 : word.offsetByCodePoints(0, 1);
      out.append(PyString.upper(word.substring(0, first)))
          .append(PyString.lower(word.substring(first)));
    }
    return out.toString();
  }

  private static String truncate(String s, Bound b) {
    long length = b.integer(0, 255);
    String end = b.string(2, "...");
    long leeway = b.isNone(3) ? 5 : b.integer(3);
    int size = PyString.length(s);
    if (size <= length + leeway) {
      return s;
    }
    int keep = (int) Math.max(0, length - PyString.length(end));
    String cut = PyString.slice(s, 0, Math.min(keep, size));
    if (!b.truthy(1)) {
      int space = cut.lastIndexOf(' ');
      cut = space < 0 ? cut : cut.substring(0, space);
    }
    return cut + end;
  }

  // ---- sequences ----

  private Object attribute(Object value, Bound b) {
    Object found = ops.attribute(value, b.string(0));
    // Unlike a dot in an expression, this never falls back to the element of that name.
    return value instanceof Map && !(found instanceof Value.Function)
        ? new Undefined("'dict object' has no attribute '" + b.string(0) + "'")
        : found;
  }

  private Object batch(Object value, Bound b) {
    long size = b.integer(0);
    ops.budget().build(size);
    var out = new ArrayList<Object>();
    List<Object> items = ops.list(value);
    for (int from = 0; from < items.size(); from += (int) Math.max(1, size)) {
      int to = (int) Math.min(items.size(), from + Math.max(1, size));
      var line = new ArrayList<>(items.subList(from, to));
      while (!b.isNone(1) && line.size() < size) {
        line.add(b.get(1));
      }
      out.add(line);
    }
    return new Generator(out.iterator());
  }

  private List<Object> reversible(Object value) {
    if (value instanceof Generator) {
      throw new EvalError("'generator' object is not reversible");
    }
    return ops.list(value);
  }

  private Object reverse(Object value, Arguments arguments) {
    arguments.bind("reverse", 0);
    if (value instanceof String s) {
      return ops.slice(s, None.NONE, None.NONE, -1L);
    }
    return new Generator(ops.list(value).reversed().iterator());
  }

  private String join(Object value, Bound b) {
    String separator = ops.text(b.get(0, ""));
    UnaryOperator<Object> attribute = attributeOf(b, 1);
    var out = new StringBuilder();
    boolean first = true;
    for (Iterator<Object> all = ops.iterate(value); all.hasNext(); first = false) {
      String part = ops.text(attribute.apply(all.next()));
      ops.budget().step();
      ops.budget().grow(out.length(), (long) separator.length() + part.length());
      out.append(first ? "" : separator).append(part);
    }
    return out.toString();
  }

  private Object map(Object value, Arguments arguments) {
    if (!PyOps.truthy(value)) {
      return new Generator(Collections.emptyIterator()); // also of what cannot be iterated
    }
    UnaryOperator<Object> function;
    if (arguments.positional().isEmpty() && arguments.named().containsKey("attribute")) {
      Bound b = arguments.bind("map", 0, "attribute", "default");
      UnaryOperator<Object> attribute = attributeOf(b, 0);
      function =
          item -> {
            Object found = attribute.apply(item);
            return found instanceof Undefined && b.has(1) ? b.get(1) : found;
          };
    } else {
      if (arguments.positional().isEmpty()
          || !(arguments.positional().getFirst() instanceof String name)) {
        throw new EvalError("map needs the name of a filter, or attribute=");
      }
      Arguments rest = rest(arguments, 1);
      function = item -> apply(item, name, rest);
    }
    Iterator<Object> source = ops.iterate(value);
    return new Generator(
        new Iterator<>() {
          @Override
          public boolean hasNext() {
            return source.hasNext();
          }

          @Override
          public Object next() {
            ops.budget().step();
            return function.apply(source.next());
          }
        });
  }

  private static Arguments rest(Arguments arguments, int from) {
    List<Object> positional = arguments.positional();
    return new Arguments(positional.subList(from, positional.size()), arguments.named());
  }

  private Object selectByAttribute(Object value, String name, Arguments arguments) {
    if (arguments.positional().isEmpty()) {
      throw new EvalError(name + " needs the name of an attribute");
    }
    UnaryOperator<Object> attribute = path(arguments.positional().getFirst());
    Predicate<Object> test = test(arguments, 1);
    return filtered(value, item -> test.test(attribute.apply(item)) == name.equals("selectattr"));
  }

  /// The test named by the argument at `from`, or truth if there is none.
  private Predicate<Object> test(Arguments arguments, int from) {
    if (arguments.positional().size() <= from) {
      return PyOps::truthy;
    }
    String name = ops.text(arguments.positional().get(from));
    Arguments rest = rest(arguments, from + 1);
    return item -> tests.test(item, name, rest);
  }

  private Generator filtered(Object value, Predicate<Object> keep) {
    Iterator<Object> source =
        PyOps.truthy(value) ? ops.iterate(value) : Collections.emptyIterator();
    return new Generator(
        new Iterator<>() {
          private Object next = None.NONE;
          private boolean ready;

          @Override
          public boolean hasNext() {
            while (!ready && source.hasNext()) {
              ops.budget().step();
              next = source.next();
              ready = keep.test(next);
            }
            return ready;
          }

          @Override
          public Object next() {
            if (!hasNext()) {
              throw new NoSuchElementException();
            }
            ready = false;
            return next;
          }
        });
  }

  /// An attribute given as a path such as `function.name` or `items.0`; the item itself if it is
  /// not given.
  private UnaryOperator<Object> attributeOf(Bound b, int i) {
    return b.isNone(i) ? item -> item : path(b.get(i));
  }

  private UnaryOperator<Object> path(Object attribute) {
    List<Object> parts = new ArrayList<>();
    if (attribute instanceof String s) {
      for (String part : s.split("\\.", -1)) {
        boolean digits =
            !part.isEmpty() && part.length() < 10 && part.chars().allMatch(Character::isDigit);
        parts.add(digits ? (Object) Long.valueOf(part) : part);
      }
    } else {
      parts.add(attribute);
    }
    return item -> {
      Object found = item;
      for (Object part : parts) {
        found = ops.element(found, part);
      }
      return found;
    };
  }

  /// Strings compare without regard to case unless told otherwise.
  private static Object caseKey(Object value, boolean caseSensitive) {
    return value instanceof String s && !caseSensitive ? PyString.lower(s) : value;
  }

  private Object sort(Object value, Bound b) {
    List<UnaryOperator<Object>> keys = new ArrayList<>();
    if (b.get(2) instanceof String several) {
      for (String attribute : several.split(",", -1)) {
        keys.add(path(attribute));
      }
    } else {
      keys.add(attributeOf(b, 2));
    }
    Comparator<Object> byKey =
        (x, y) -> {
          for (UnaryOperator<Object> key : keys) {
            Object a = caseKey(key.apply(x), b.truthy(1));
            Object c = caseKey(key.apply(y), b.truthy(1));
            if (!ops.equal(a, c)) {
              return ops.order("<", a, c);
            }
          }
          return 0;
        };
    return sorted(ops.list(value), byKey, b.truthy(0));
  }

  private static List<Object> sorted(
      List<Object> items, Comparator<Object> order, boolean reverse) {
    var out = new ArrayList<>(items);
    try {
      out.sort(reverse ? order.reversed() : order); // both stable, as Python's
    } catch (IllegalArgumentException e) {
      throw new EvalError("sort: the values have no consistent order");
    }
    return out;
  }

  private Object dictSort(Object value, Bound b) {
    if (!(value instanceof Map<?, ?> map)) {
      throw new EvalError("dictsort: want a dict, got " + PyOps.typeName(value));
    }
    String by = b.string(1, "key");
    if (!by.equals("key") && !by.equals("value")) {
      throw new EvalError("dictsort: by must be 'key' or 'value', not '" + by + "'");
    }
    int at = by.equals("key") ? 0 : 1;
    return sorted(
        PyMethods.pairs(map),
        (x, y) -> {
          Object a = caseKey(((Tuple) x).items().get(at), b.truthy(0));
          Object c = caseKey(((Tuple) y).items().get(at), b.truthy(0));
          return ops.equal(a, c) ? 0 : ops.order("<", a, c);
        },
        b.truthy(2));
  }

  private Object extreme(Object value, String name, Bound b) {
    UnaryOperator<Object> attribute = attributeOf(b, 1);
    Object best = null;
    for (Iterator<Object> all = ops.iterate(value); all.hasNext(); ) {
      Object item = all.next();
      if (best == null) {
        best = item;
        continue;
      }
      Object key = caseKey(attribute.apply(item), b.truthy(0));
      Object bestKey = caseKey(attribute.apply(best), b.truthy(0));
      int order = ops.order("<", key, bestKey);
      best = (name.equals("min") ? order == -1 : order == 1) ? item : best;
    }
    return best == null ? new Undefined("no " + name + "imum item, the sequence is empty") : best;
  }

  private Object sum(Object value, Bound b) {
    UnaryOperator<Object> attribute = attributeOf(b, 0);
    Object total = b.get(1, 0L);
    for (Iterator<Object> all = ops.iterate(value); all.hasNext(); ) {
      ops.budget().step();
      total = ops.binary("+", total, attribute.apply(all.next()));
    }
    return total;
  }

  private Object unique(Object value, Bound b) {
    UnaryOperator<Object> attribute = attributeOf(b, 1);
    var seen = new LinkedHashMap<Object, Object>();
    for (Iterator<Object> all = ops.iterate(value); all.hasNext(); ) {
      ops.budget().step();
      Object item = all.next();
      seen.putIfAbsent(ops.key(caseKey(attribute.apply(item), b.truthy(0))), item);
    }
    return new Generator(new ArrayList<>(seen.values()).iterator());
  }
}
