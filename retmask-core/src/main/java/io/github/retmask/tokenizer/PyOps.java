package io.github.retmask.tokenizer;

import io.github.retmask.tokenizer.Value.DictView;
import io.github.retmask.tokenizer.Value.Function;
import io.github.retmask.tokenizer.Value.Generator;
import io.github.retmask.tokenizer.Value.Namespace;
import io.github.retmask.tokenizer.Value.None;
import io.github.retmask.tokenizer.Value.Range;
import io.github.retmask.tokenizer.Value.Tuple;
import io.github.retmask.tokenizer.Value.Undefined;
import io.github.retmask.tokenizer.Value.WithAttributes;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.LongSupplier;
import org.jspecify.annotations.Nullable;

/// What Python's operators do to the values of a template, as seen through Jinja's immutable
/// sandbox.
final class PyOps {
  private static final Set<String> DICT_CHANGES =
      Set.of("clear", "pop", "popitem", "setdefault", "update");
  private static final Set<String> LIST_CHANGES =
      Set.of("append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort");

  /// How a NaN compares.
  private static final int UNORDERED = 2;

  private final Budget budget;
  private final PyMethods methods = new PyMethods(this);

  PyOps(Budget budget) {
    this.budget = budget;
  }

  Budget budget() {
    return budget;
  }

  static String typeName(Object value) {
    return switch (value) {
      case None _ -> "NoneType";
      case Boolean _ -> "bool";
      case Long _ -> "int";
      case Double _ -> "float";
      case String _ -> "str";
      case Range _ -> "range";
      case List<?> _ -> "list";
      case Tuple _ -> "tuple";
      case Map<?, ?> _ -> "dict";
      case DictView view -> view.type();
      case Generator _ -> "generator";
      case Namespace _ -> "Namespace";
      case Undefined _ -> "Undefined";
      case Function _ -> "function";
      default -> value.getClass().getSimpleName();
    };
  }

  static EvalError undefined(Undefined value) {
    return new EvalError(value.problem());
  }

  static boolean truthy(Object value) {
    return switch (value) {
      case Boolean b -> b;
      case None _, Undefined _ -> false;
      case Long n -> n != 0;
      case Double d -> d != 0;
      case String s -> !s.isEmpty();
      case List<?> list -> !list.isEmpty();
      case Tuple tuple -> !tuple.items().isEmpty();
      case Map<?, ?> map -> !map.isEmpty();
      case DictView view -> !view.items().isEmpty();
      default -> true;
    };
  }

  // ---- text ----

  /// `str(value)`.
  String text(Object value) {
    return switch (value) {
      case String s -> s;
      case Undefined _ -> "";
      default -> repr(value);
    };
  }

  String repr(Object value) {
    var out = new StringBuilder();
    repr(value, out);
    return out.toString();
  }

  private void repr(Object value, StringBuilder out) {
    budget.enter();
    budget.grow(out.length(), value instanceof String s ? s.length() : 1);
    switch (value) {
      case None _ -> out.append("None");
      case Boolean b -> out.append(b ? "True" : "False");
      case Long n -> out.append(n.longValue());
      case Double d -> out.append(PyString.floatRepr(d));
      case String s -> PyString.repr(s, out);
      case Range range -> out.append(range.repr());
      case List<?> list -> reprItems("[", list, "]", out);
      case Tuple tuple ->
          reprItems("(", tuple.items(), tuple.items().size() == 1 ? ",)" : ")", out);
      case DictView view -> reprItems(view.type() + "([", view.items(), "])", out);
      case Map<?, ?> map -> reprMap(map, out);
      case Namespace namespace -> {
        out.append("<Namespace ");
        reprMap(namespace.attributes, out);
        out.append('>');
      }
      case Undefined _ -> out.append("Undefined");
      default -> out.append('<').append(typeName(value)).append('>');
    }
    budget.leave();
  }

  private void reprItems(String open, List<?> items, String close, StringBuilder out) {
    out.append(open);
    String separator = "";
    for (Object item : items) {
      out.append(separator);
      repr(item, out);
      separator = ", ";
    }
    out.append(close);
  }

  private void reprMap(Map<?, ?> map, StringBuilder out) {
    out.append('{');
    String separator = "";
    for (var entry : map.entrySet()) {
      out.append(separator);
      repr(entry.getKey(), out);
      out.append(": ");
      repr(entry.getValue(), out);
      separator = ", ";
    }
    out.append('}');
  }

  // ---- comparison ----

  boolean equal(Object a, Object b) {
    budget.enter();
    boolean result;
    if (isNumber(a) && isNumber(b)) {
      result = compareNumbers(a, b) == 0;
    } else if (a instanceof List<?> x && b instanceof List<?> y) {
      result = isRange(a) == isRange(b) && equalItems(x, y);
    } else if (a instanceof Tuple x && b instanceof Tuple y) {
      result = equalItems(x.items(), y.items());
    } else if (a instanceof Map<?, ?> x && b instanceof Map<?, ?> y) {
      result = x.size() == y.size();
      for (var entry : x.entrySet()) {
        Object other = result ? y.get(entry.getKey()) : null;
        result = other != null && equal(entry.getValue(), other);
        if (!result) {
          break;
        }
      }
    } else if (a instanceof Undefined || b instanceof Undefined) {
      result = a instanceof Undefined && b instanceof Undefined;
    } else if (a instanceof String x) {
      result = x.equals(b);
    } else {
      result = a == b;
    }
    budget.leave();
    return result;
  }

  private boolean equalItems(List<?> a, List<?> b) {
    if (a.size() != b.size()) {
      return false;
    }
    for (int i = 0; i < a.size(); i++) {
      if (!equal(a.get(i), b.get(i))) {
        return false;
      }
    }
    return true;
  }

  static boolean isNumber(Object value) {
    return value instanceof Long || value instanceof Double || value instanceof Boolean;
  }

  private static boolean isInteger(Object value) {
    return value instanceof Long || value instanceof Boolean;
  }

  private static long toLong(Object value) {
    return value instanceof Boolean b ? (b ? 1 : 0) : (Long) value;
  }

  private static double toDouble(Object value) {
    return value instanceof Double d ? d : toLong(value);
  }

  /// Negative, 0 or positive; 2 where one of the numbers is NaN, which equals nothing.
  private static int compareNumbers(Object a, Object b) {
    if (isInteger(a) && isInteger(b)) {
      return Long.compare(toLong(a), toLong(b));
    }
    double x = toDouble(a);
    double y = toDouble(b);
    return x < y ? -1 : x > y ? 1 : x == y ? 0 : UNORDERED;
  }

  /// The comparison operators `==`, `!=`, `<`, `<=`, `>`, `>=`, `in` and `not in`.
  boolean compare(String operator, Object a, Object b) {
    return switch (operator) {
      case "==" -> equal(a, b);
      case "!=" -> !equal(a, b);
      case "in" -> contains(b, a);
      case "not in" -> !contains(b, a);
      default -> {
        int order = order(operator, a, b);
        yield switch (operator) {
          case "<" -> order < 0;
          case "<=" -> order <= 0;
          case ">" -> order == 1;
          default -> order == 0 || order == 1;
        };
      }
    };
  }

  /// -1, 0, 1, or [#UNORDERED].
  int order(String operator, Object a, Object b) {
    budget.enter();
    int result;
    if (isNumber(a) && isNumber(b)) {
      result = compareNumbers(a, b);
    } else if (a instanceof String x && b instanceof String y) {
      result = Integer.signum(PyString.compare(x, y));
    } else if (a instanceof List<?> x && b instanceof List<?> y && !isRange(a) && !isRange(b)) {
      result = orderItems(operator, x, y);
    } else if (a instanceof Tuple x && b instanceof Tuple y) {
      result = orderItems(operator, x.items(), y.items());
    } else if (a instanceof Undefined u) {
      throw undefined(u);
    } else if (b instanceof Undefined u) {
      throw undefined(u);
    } else {
      throw new EvalError(
          "'%s' not supported between instances of '%s' and '%s'"
              .formatted(operator, typeName(a), typeName(b)));
    }
    budget.leave();
    return result;
  }

  private int orderItems(String operator, List<?> a, List<?> b) {
    for (int i = 0; i < Math.min(a.size(), b.size()); i++) {
      if (!equal(a.get(i), b.get(i))) {
        return order(operator, a.get(i), b.get(i));
      }
    }
    return Integer.compare(a.size(), b.size());
  }

  boolean contains(Object container, Object item) {
    switch (container) {
      case String s -> {
        if (item instanceof String part) {
          return s.contains(part);
        }
        throw item instanceof Undefined u
            ? undefined(u)
            : new EvalError("'in <string>' requires string as left operand, not " + typeName(item));
      }
      case Map<?, ?> map -> {
        return map.containsKey(key(item));
      }
      default -> {
        for (Iterator<Object> all = iterate(container); all.hasNext(); ) {
          if (equal(all.next(), item)) {
            return true;
          }
        }
        return false;
      }
    }
  }

  /// A value as the key of a dict: 1.0 and 1 are the same key, lists and dicts are none.
  Object key(Object value) {
    budget.enter();
    Object key =
        switch (value) {
          case Double d when d == Math.rint(d) && Math.abs(d) < 0x1p53 -> (long) (double) d;
          case Tuple tuple -> {
            var items = new ArrayList<Object>(tuple.items().size());
            for (Object item : tuple.items()) {
              items.add(key(item));
            }
            yield new Tuple(items);
          }
          case List<?> list when !(list instanceof Range) -> throw unhashable(value);
          case Map<?, ?> _ -> throw unhashable(value);
          default -> value;
        };
    budget.leave();
    return key;
  }

  private static EvalError unhashable(Object value) {
    return new EvalError("unhashable type: '" + typeName(value) + "'");
  }

  // ---- sequences ----

  Iterator<Object> iterate(Object value) {
    return switch (value) {
      case String s -> {
        budget.build(s.length());
        yield PyString.characters(s).iterator();
      }
      case List<?> list -> asObjects(list).iterator();
      case Tuple tuple -> tuple.items().iterator();
      case Map<?, ?> map -> new ArrayList<Object>(map.keySet()).iterator();
      case DictView view -> view.items().iterator();
      case Generator generator -> generator;
      case Undefined _ -> Collections.emptyIterator();
      default -> throw new EvalError("'" + typeName(value) + "' object is not iterable");
    };
  }

  /// `list(value)`.
  List<Object> list(Object value) {
    var out = new ArrayList<Object>();
    for (Iterator<Object> all = iterate(value); all.hasNext(); ) {
      budget.step();
      budget.grow(out.size(), 1);
      out.add(all.next());
    }
    return out;
  }

  @SuppressWarnings(
      "unchecked") // every list of a template holds plain objects and is never written
  static List<Object> asObjects(List<?> list) {
    return (List<Object>) list;
  }

  /// The items of a list, tuple or range; null for anything else.
  static @Nullable List<Object> items(Object value) {
    return value instanceof List<?> list
        ? asObjects(list)
        : value instanceof Tuple tuple ? tuple.items() : null;
  }

  /// `len(value)`.
  long length(Object value) {
    return switch (value) {
      case String s -> PyString.length(s);
      case List<?> list -> list.size();
      case Tuple tuple -> tuple.items().size();
      case Map<?, ?> map -> map.size();
      case DictView view -> view.items().size();
      case Undefined _ -> 0;
      default -> throw new EvalError("object of type '" + typeName(value) + "' has no len()");
    };
  }

  /// `value[start:stop:step]`.
  Object slice(Object value, Object start, Object stop, Object step) {
    List<Object> items = items(value);
    if (items == null && !(value instanceof String)) {
      throw value instanceof Undefined u
          ? undefined(u)
          : new EvalError("'" + typeName(value) + "' object cannot be sliced");
    }
    int length = (int) length(value);
    long by = step == None.NONE ? 1 : sliceIndex(step);
    if (by == 0) {
      throw new EvalError("slice step cannot be zero");
    }
    long from = bound(start, by > 0 ? 0 : length - 1, length, by);
    long to = bound(stop, by > 0 ? length : -1, length, by);
    budget.build(length);
    if (value instanceof String s && by == 1) {
      return from < to ? PyString.slice(s, (int) from, (int) to) : "";
    }
    List<Object> source = items == null ? PyString.characters((String) value) : items;
    var out = new ArrayList<Object>();
    for (long i = from; by > 0 ? i < to : i > to; ) {
      out.add(source.get((int) i));
      if (by > length || by < -length) {
        break;
      }
      i += by;
    }
    if (value instanceof String) {
      var text = new StringBuilder();
      out.forEach(text::append);
      return text.toString();
    }
    return value instanceof Tuple ? new Tuple(out) : out;
  }

  private static long sliceIndex(Object value) {
    if (isInteger(value)) {
      return toLong(value);
    }
    throw value instanceof Undefined u
        ? undefined(u)
        : new EvalError("slice indices must be integers or None, not " + typeName(value));
  }

  private static long bound(Object index, long fallback, int length, long step) {
    if (index == None.NONE) {
      return fallback;
    }
    long i = sliceIndex(index);
    i = i < 0 ? Math.max(i, -length - 1L) + length : i;
    return step > 0 ? Math.clamp(i, 0, length) : Math.clamp(i, -1, length - 1);
  }

  // ---- attributes and elements ----

  /// `value.name`: an attribute, else an element of that name.
  Object attribute(Object value, String name) {
    Object own = ownAttribute(value, name);
    if (own != null) {
      return own;
    }
    return value instanceof Map<?, ?> map && map.containsKey(name)
        ? map.get(name)
        : missing(value, name);
  }

  /// `value[index]`: an element, else an attribute of that name.
  Object element(Object value, Object index) {
    if (value instanceof Undefined u) {
      throw undefined(u);
    }
    if (value instanceof Map<?, ?> map && !(index instanceof Map) && !(index instanceof List)) {
      Object found = index instanceof Undefined ? null : map.get(key(index));
      if (found != null) {
        return found;
      }
    } else if (isInteger(index) && (value instanceof String || items(value) != null)) {
      long i = toLong(index);
      long length = length(value);
      long at = i < 0 ? i + length : i;
      if (at >= 0 && at < length) {
        List<Object> items = items(value);
        return items == null
            ? PyString.slice((String) value, (int) at, (int) at + 1)
            : items.get((int) at);
      }
    }
    if (index instanceof String name) {
      Object own = ownAttribute(value, name);
      return own == null ? missing(value, name) : own;
    }
    return new Undefined(objectName(value) + " has no element " + repr(index));
  }

  private @Nullable Object ownAttribute(Object value, String name) {
    switch (value) {
      case Undefined u -> throw undefined(u);
      case Namespace namespace -> {
        return namespace.attributes.get(name);
      }
      case WithAttributes object -> {
        return object.attribute(name);
      }
      default -> {
        boolean changes =
            value instanceof Map
                ? DICT_CHANGES.contains(name)
                : value instanceof List && LIST_CHANGES.contains(name);
        if (changes) {
          return new Undefined(
              "a template may not change values: '%s' of a %s".formatted(name, typeName(value)));
        }
        return methods.of(value, name);
      }
    }
  }

  private static Undefined missing(Object value, String name) {
    return new Undefined("'" + objectName(value) + "' has no attribute '" + name + "'");
  }

  private static String objectName(Object value) {
    return value == None.NONE ? "None" : typeName(value) + " object";
  }

  // ---- arithmetic ----

  Object negate(Object value) {
    return switch (value) {
      case Double d -> -d;
      case Undefined u -> throw undefined(u);
      default -> {
        if (!isInteger(value)) {
          throw new EvalError("bad operand type for unary -: '" + typeName(value) + "'");
        }
        yield exact(() -> Math.negateExact(toLong(value)));
      }
    };
  }

  Object plus(Object value) {
    if (value instanceof Undefined u) {
      throw undefined(u);
    }
    if (!isNumber(value)) {
      throw new EvalError("bad operand type for unary +: '" + typeName(value) + "'");
    }
    return value instanceof Boolean ? (Object) toLong(value) : value;
  }

  Object binary(String operator, Object a, Object b) {
    if (isNumber(a) && isNumber(b)) {
      return arithmetic(operator, a, b);
    }
    if (operator.equals("%") && a instanceof String format) {
      return new PyFormat(this).percent(format, b);
    }
    if (a instanceof Undefined u) {
      throw undefined(u);
    }
    if (b instanceof Undefined u) {
      throw undefined(u);
    }
    switch (operator) {
      case "+" -> {
        if (a instanceof String x && b instanceof String y) {
          budget.build((long) x.length() + y.length());
          return x.concat(y);
        }
        boolean lists = a instanceof List && b instanceof List && !isRange(a) && !isRange(b);
        if (lists || (a instanceof Tuple && b instanceof Tuple)) {
          var out = new ArrayList<Object>(items(a));
          out.addAll(items(b));
          budget.build(out.size());
          return lists ? out : new Tuple(out);
        }
      }
      case "*" -> {
        if (isInteger(b) && isRepeatable(a)) {
          return repeat(a, toLong(b));
        }
        if (isInteger(a) && isRepeatable(b)) {
          return repeat(b, toLong(a));
        }
      }
      default -> {}
    }
    throw new EvalError(
        "unsupported operand types for %s: '%s' and '%s'"
            .formatted(operator, typeName(a), typeName(b)));
  }

  private static boolean isRange(Object value) {
    return value instanceof Range;
  }

  private static boolean isRepeatable(Object value) {
    return value instanceof String || (items(value) != null && !isRange(value));
  }

  private Object repeat(Object value, long times) {
    long n = Math.max(0, times);
    long unit = value instanceof String s ? s.length() : length(value);
    budget.build(n == 0 || unit <= Budget.MAX_LENGTH / n ? n * unit : Long.MAX_VALUE);
    if (value instanceof String s) {
      return s.repeat(unit == 0 ? 0 : (int) n);
    }
    var out = new ArrayList<Object>((int) (n * unit));
    for (long i = 0; unit > 0 && i < n; i++) {
      out.addAll(items(value));
    }
    return value instanceof Tuple ? new Tuple(out) : out;
  }

  private static Object arithmetic(String operator, Object a, Object b) {
    boolean integers = isInteger(a) && isInteger(b);
    boolean zero = toDouble(b) == 0;
    if (zero && (operator.equals("/") || operator.equals("//") || operator.equals("%"))) {
      throw new EvalError("division by zero");
    }
    if (operator.equals("**")) {
      return integers && toLong(b) >= 0 ? power(toLong(a), toLong(b)) : realPower(a, b);
    }
    if (integers && !operator.equals("/")) {
      long x = toLong(a);
      long y = toLong(b);
      return exact(
          () ->
              switch (operator) {
                case "+" -> Math.addExact(x, y);
                case "-" -> Math.subtractExact(x, y);
                case "*" -> Math.multiplyExact(x, y);
                case "//" -> Math.floorDivExact(x, y);
                default -> Math.floorMod(x, y);
              });
    }
    double x = toDouble(a);
    double y = toDouble(b);
    return switch (operator) {
      case "+" -> x + y;
      case "-" -> x - y;
      case "*" -> x * y;
      case "/" -> x / y;
      case "//" -> floorDiv(x, y);
      default -> floorMod(x, y);
    };
  }

  private static double floorDiv(double x, double y) {
    double quotient = (x - floorMod(x, y)) / y; // a whole number but for rounding
    return quotient == 0 ? Math.copySign(0, x / y) : Math.floor(quotient + 0.5);
  }

  /// The remainder with the sign of the divisor.
  private static double floorMod(double x, double y) {
    double r = x % y;
    return r == 0 ? Math.copySign(0, y) : (r < 0) != (y < 0) ? r + y : r;
  }

  private static Object power(long base, long exponent) {
    return exact(
        () -> {
          long result = 1;
          long square = base;
          for (long e = exponent; e > 0; e >>= 1) {
            if ((e & 1) == 1) {
              result = Math.multiplyExact(result, square);
            }
            if (e > 1) {
              square = Math.multiplyExact(square, square);
            }
          }
          return result;
        });
  }

  private static Object realPower(Object a, Object b) {
    double x = toDouble(a);
    double y = toDouble(b);
    if (x == 0 && y < 0) {
      throw new EvalError("0.0 cannot be raised to a negative power");
    }
    if (x < 0 && y != Math.rint(y)) {
      throw new EvalError("a negative number to a fractional power is no real number");
    }
    return Math.pow(x, y);
  }

  private static Long exact(LongSupplier operation) {
    try {
      return operation.getAsLong();
    } catch (ArithmeticException e) {
      throw new EvalError("the result does not fit into a 64-bit integer");
    }
  }

  /// `a ~ b ~ ...`.
  String concat(List<Object> parts) {
    String[] texts = new String[parts.size()];
    Arrays.setAll(texts, i -> text(parts.get(i)));
    long length = 0;
    for (String text : texts) {
      length += text.length();
    }
    budget.build(length);
    return String.join("", texts);
  }
}
