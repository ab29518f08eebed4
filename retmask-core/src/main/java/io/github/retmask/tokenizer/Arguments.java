package io.github.retmask.tokenizer;

import io.github.retmask.tokenizer.Value.None;
import java.util.List;
import java.util.Map;
import java.util.function.IntPredicate;
import org.jspecify.annotations.Nullable;

/// The arguments of one call inside a template.
record Arguments(List<Object> positional, Map<String, Object> named) {
  static final Arguments NONE = new Arguments(List.of(), Map.of());

  static Arguments of(Object... positional) {
    return new Arguments(List.of(positional), Map.of());
  }

  /// Puts the arguments into the order of the parameter names; the first `required` must be there.
  Bound bind(String function, int required, String... parameters) {
    if (positional.size() > parameters.length) {
      throw new EvalError(
          function
              + " takes at most "
              + parameters.length
              + " arguments, got "
              + positional.size());
    }
    var values = new @Nullable Object[parameters.length];
    for (int i = 0; i < positional.size(); i++) {
      values[i] = positional.get(i);
    }
    for (var entry : named.entrySet()) {
      int i = List.of(parameters).indexOf(entry.getKey());
      if (i < 0) {
        throw new EvalError(function + " has no argument '" + entry.getKey() + "'");
      }
      if (values[i] != null) {
        throw new EvalError(function + " got argument '" + entry.getKey() + "' twice");
      }
      values[i] = entry.getValue();
    }
    for (int i = 0; i < required; i++) {
      if (values[i] == null) {
        throw new EvalError(function + " needs its argument '" + parameters[i] + "'");
      }
    }
    return new Bound(function, parameters, values);
  }

  /// Arguments by position; one that was not given has the default named where it is read.
  record Bound(String function, String[] parameters, @Nullable Object[] values) {
    boolean has(int i) {
      return values[i] != null;
    }

    Object get(int i) {
      return get(i, None.NONE);
    }

    Object get(int i, Object fallback) {
      Object value = values[i];
      return value == null ? fallback : value;
    }

    boolean isNone(int i) {
      return get(i) == None.NONE;
    }

    String string(int i) {
      if (get(i) instanceof String s) {
        return s;
      }
      throw wrong(i, "a string");
    }

    String string(int i, String fallback) {
      return has(i) ? string(i) : fallback;
    }

    /// The characters that stripping drops: those of a string, or whitespace if none is given.
    IntPredicate characters(int i) {
      if (isNone(i)) {
        return PyString::isSpace;
      }
      String characters = string(i);
      return c -> characters.indexOf(c) >= 0;
    }

    long integer(int i) {
      return switch (get(i)) {
        case Long n -> n;
        case Boolean b -> b ? 1 : 0;
        default -> throw wrong(i, "an integer");
      };
    }

    long integer(int i, long fallback) {
      return has(i) ? integer(i) : fallback;
    }

    boolean truthy(int i) {
      return has(i) && PyOps.truthy(get(i));
    }

    EvalError wrong(int i, String wanted) {
      return new EvalError(
          function
              + ": argument '"
              + parameters[i]
              + "' is "
              + PyOps.typeName(get(i))
              + ", want "
              + wanted);
    }
  }
}
