package io.github.retmask.tokenizer;

import io.github.retmask.tokenizer.Value.None;
import io.github.retmask.tokenizer.Value.Range;
import java.util.Iterator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/// `json.dumps`, which is what transformers puts behind the `tojson` filter (Jinja's own would
/// escape for HTML).
final class PyJson {
  private final PyOps ops;
  private final boolean asciiOnly;
  private final @Nullable String indent;
  private final String itemSeparator;
  private final String keySeparator;
  private final boolean sortKeys;
  private final StringBuilder out = new StringBuilder();

  private PyJson(
      PyOps ops,
      boolean asciiOnly,
      @Nullable String indent,
      String itemSeparator,
      String keySeparator,
      boolean sortKeys) {
    this.ops = ops;
    this.asciiOnly = asciiOnly;
    this.indent = indent;
    this.itemSeparator = itemSeparator;
    this.keySeparator = keySeparator;
    this.sortKeys = sortKeys;
  }

  static String dumps(PyOps ops, Object value, Arguments arguments) {
    var b = arguments.bind("tojson", 0, "ensure_ascii", "indent", "separators", "sort_keys");
    String indent = null;
    if (!b.isNone(1)) {
      indent = b.get(1) instanceof String s ? s : " ".repeat(Math.clamp(b.integer(1), 0, 1000));
    }
    String item = indent == null ? ", " : ",";
    String key = ": ";
    if (!b.isNone(2)) {
      List<Object> two = PyOps.items(b.get(2));
      if (two == null
          || two.size() != 2
          || !(two.get(0) instanceof String x)
          || !(two.get(1) instanceof String y)) {
        throw b.wrong(2, "two strings");
      }
      item = x;
      key = y;
    }
    var json = new PyJson(ops, b.truthy(0), indent, item, key, b.truthy(3));
    json.write(value, 0);
    return json.out.toString();
  }

  private void write(Object value, int level) {
    ops.budget().enter();
    List<Object> items = value instanceof Range ? null : PyOps.items(value);
    if (items != null) {
      writeItems("[", items.iterator(), "]", level);
    } else {
      switch (value) {
        case None _ -> out.append("null");
        case Boolean b -> out.append(b.booleanValue());
        case Long n -> out.append(n.longValue());
        case Double d -> out.append(number(d));
        case String s -> string(s);
        case Map<?, ?> map -> writeMap(map, level);
        default ->
            throw new EvalError(
                "tojson: a value of type " + PyOps.typeName(value) + " has no JSON form");
      }
    }
    ops.budget().leave();
  }

  private void writeItems(String open, Iterator<Object> items, String close, int level) {
    out.append(open);
    boolean first = true;
    for (; items.hasNext(); first = false) {
      newItem(first, level + 1);
      write(items.next(), level + 1);
    }
    end(first, level).append(close);
  }

  private void writeMap(Map<?, ?> map, int level) {
    out.append('{');
    boolean first = true;
    for (var entry : sortKeys ? sorted(map).entrySet() : map.entrySet()) {
      newItem(first, level + 1);
      string(
          switch (entry.getKey()) {
            case String s -> s;
            case None _ -> "null";
            case Boolean b -> b.toString();
            case Double d -> number(d);
            case Long n -> n.toString();
            default ->
                throw new EvalError(
                    "tojson: a " + PyOps.typeName(entry.getKey()) + " cannot be a key");
          });
      out.append(keySeparator);
      write(entry.getValue(), level + 1);
      first = false;
    }
    end(first, level).append('}');
  }

  private Map<Object, Object> sorted(Map<?, ?> map) {
    var sorted = new TreeMap<Object, Object>((a, b) -> ops.order("<", a, b));
    sorted.putAll(map);
    return sorted;
  }

  private void newItem(boolean first, int level) {
    ops.budget().grow(out.length(), itemSeparator.length());
    out.append(first ? "" : itemSeparator);
    newline(level);
  }

  private StringBuilder end(boolean empty, int level) {
    if (!empty) {
      newline(level);
    }
    return out;
  }

  private void newline(int level) {
    if (indent != null) {
      ops.budget().grow(out.length(), (long) level * indent.length());
      out.append('\n').repeat(indent, level);
    }
  }

  private static String number(double d) {
    return Double.isNaN(d)
        ? "NaN"
        : Double.isInfinite(d) ? (d > 0 ? "Infinity" : "-Infinity") : PyString.floatRepr(d);
  }

  private void string(String s) {
    ops.budget().grow(out.length(), s.length());
    out.append('"');
    for (int i = 0; i < s.length(); i++) {
      char c = s.charAt(i);
      switch (c) {
        case '"' -> out.append("\\\"");
        case '\\' -> out.append("\\\\");
        case '\n' -> out.append("\\n");
        case '\r' -> out.append("\\r");
        case '\t' -> out.append("\\t");
        case '\b' -> out.append("\\b");
        case '\f' -> out.append("\\f");
        default -> {
          if (c < 0x20 || (asciiOnly && c > 0x7e)) {
            out.append(String.format(Locale.ROOT, "\\u%04x", (int) c));
          } else {
            out.append(c);
          }
        }
      }
    }
    out.append('"');
  }
}
