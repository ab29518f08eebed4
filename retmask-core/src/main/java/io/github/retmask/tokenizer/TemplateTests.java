package io.github.retmask.tokenizer;

import io.github.retmask.tokenizer.Value.DictView;
import io.github.retmask.tokenizer.Value.Function;
import io.github.retmask.tokenizer.Value.Generator;
import io.github.retmask.tokenizer.Value.None;
import io.github.retmask.tokenizer.Value.Tuple;
import io.github.retmask.tokenizer.Value.Undefined;
import java.util.List;
import java.util.Map;
import java.util.Set;

/// What may stand after `is`.
final class TemplateTests {
  private static final Set<String> WITHOUT_ARGUMENT =
      Set.of(
          "boolean",
          "callable",
          "defined",
          "escaped",
          "even",
          "false",
          "float",
          "integer",
          "iterable",
          "lower",
          "mapping",
          "none",
          "number",
          "odd",
          "sequence",
          "string",
          "true",
          "undefined",
          "upper");
  private static final Map<String, String> COMPARISONS =
      Map.ofEntries(
          Map.entry("eq", "=="),
          Map.entry("==", "=="),
          Map.entry("equalto", "=="),
          Map.entry("ne", "!="),
          Map.entry("!=", "!="),
          Map.entry("lt", "<"),
          Map.entry("<", "<"),
          Map.entry("lessthan", "<"),
          Map.entry("le", "<="),
          Map.entry("<=", "<="),
          Map.entry("gt", ">"),
          Map.entry(">", ">"),
          Map.entry("greaterthan", ">"),
          Map.entry("ge", ">="),
          Map.entry(">=", ">="),
          Map.entry("in", "in"));

  private final PyOps ops;

  TemplateTests(PyOps ops) {
    this.ops = ops;
  }

  boolean test(Object value, String name, Arguments arguments) {
    String operator = COMPARISONS.get(name);
    if (operator != null) {
      return ops.compare(operator, value, arguments.bind(name, 1, "other").get(0));
    }
    if (WITHOUT_ARGUMENT.contains(name)) {
      arguments.bind(name, 0);
      return plain(value, name);
    }
    return switch (name) {
      case "divisibleby" ->
          !PyOps.truthy(ops.binary("%", value, arguments.bind(name, 1, "num").get(0)));
      case "sameas" -> same(value, arguments.bind(name, 1, "other").get(0));
      case "filter" -> TemplateFilters.NAMES.contains(ops.text(value));
      case "test" -> isTest(ops.text(value));
      default -> throw new EvalError("no test named '" + name + "'");
    };
  }

  private static boolean isTest(String name) {
    return COMPARISONS.containsKey(name)
        || WITHOUT_ARGUMENT.contains(name)
        || Set.of("divisibleby", "sameas", "filter", "test").contains(name);
  }

  private boolean plain(Object value, String name) {
    return switch (name) {
      case "defined" -> !(value instanceof Undefined);
      case "undefined" -> value instanceof Undefined;
      case "none" -> value == None.NONE;
      case "boolean" -> value instanceof Boolean;
      case "true" -> Boolean.TRUE.equals(value);
      case "false" -> Boolean.FALSE.equals(value);
      case "string" -> value instanceof String;
      case "integer" -> value instanceof Long;
      case "float" -> value instanceof Double;
      case "number" -> PyOps.isNumber(value);
      case "mapping" -> value instanceof Map;
      case "sequence" ->
          value instanceof String
              || value instanceof List
              || value instanceof Tuple
              || value instanceof Map
              || value instanceof Undefined;
      case "iterable" ->
          value instanceof String
              || value instanceof List
              || value instanceof Tuple
              || value instanceof Map
              || value instanceof DictView
              || value instanceof Generator
              || value instanceof Undefined;
      case "callable" -> value instanceof Function || value instanceof Undefined;
      case "odd" -> ops.equal(ops.binary("%", value, 2L), 1L);
      case "even" -> ops.equal(ops.binary("%", value, 2L), 0L);
      case "lower" -> PyString.isAllCase(ops.text(value), false);
      case "upper" -> PyString.isAllCase(ops.text(value), true);
      default -> false; // escaped: nothing is marked so
    };
  }

  private boolean same(Object a, Object b) {
    boolean simple = PyOps.isNumber(a) || a instanceof String || a instanceof Undefined;
    return simple ? a.getClass() == b.getClass() && ops.equal(a, b) : a == b;
  }
}
