package io.github.retmask.tokenizer;

import java.util.AbstractList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// The Python values a template works on. Most are plain Java objects: `Boolean`, `Long` (int),
/// `Double` (float), `String`, `List` (list) and `Map` (dict); the types here are the rest. Nothing
/// in a template changes a list or a dict.
final class Value {
  private Value() {}

  enum None {
    NONE
  }

  /// What a missing name, attribute or element evaluates to. It prints as nothing, is false and
  /// empty; any other use is an error with this explanation.
  record Undefined(String problem) {}

  record Tuple(List<Object> items) {
    static Tuple of(Object... items) {
      return new Tuple(List.of(items));
    }
  }

  /// `range(start, stop, step)`, not spelled out in memory.
  static final class Range extends AbstractList<Object> {
    private final long start;
    private final long stop;
    private final long step;
    private final int size;

    Range(long start, long stop, long step, int size) {
      this.start = start;
      this.stop = stop;
      this.step = step;
      this.size = size;
    }

    @Override
    public Object get(int index) {
      if (index < 0 || index >= size) {
        throw new IndexOutOfBoundsException(index);
      }
      return start + index * step;
    }

    @Override
    public int size() {
      return size;
    }

    String repr() {
      return "range(" + start + ", " + stop + (step == 1 ? "" : ", " + step) + ")";
    }
  }

  /// `dict.items()`, `dict.keys()` or `dict.values()`; `type` is Python's name of it.
  record DictView(String type, List<Object> items) {}

  /// The lazy result of `map`, `select` and the like: to be gone through once.
  static final class Generator implements Iterator<Object> {
    private final Iterator<Object> source;

    Generator(Iterator<Object> source) {
      this.source = source;
    }

    @Override
    public boolean hasNext() {
      return source.hasNext();
    }

    @Override
    public Object next() {
      return source.next();
    }
  }

  /// `namespace()`: the one thing with attributes a template may set.
  static final class Namespace {
    final Map<String, Object> attributes = new LinkedHashMap<>();
  }

  /// A macro, a global function or a method taken from its object.
  interface Function {
    Object call(Arguments arguments);
  }

  /// An object of the engine with attributes of its own, such as `loop`.
  interface WithAttributes {
    /// The attribute, or `Undefined`.
    Object attribute(String name);
  }
}
