package io.github.retmask.tokenizer;

import io.github.retmask.tokenizer.TemplateExpr.CallArguments;
import io.github.retmask.tokenizer.TemplateStatement.Target;
import io.github.retmask.tokenizer.Value.Function;
import io.github.retmask.tokenizer.Value.Namespace;
import io.github.retmask.tokenizer.Value.None;
import io.github.retmask.tokenizer.Value.Tuple;
import io.github.retmask.tokenizer.Value.Undefined;
import java.time.Clock;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NoSuchElementException;
import org.jspecify.annotations.Nullable;

/// Renders a parsed template once.
final class TemplateInterpreter {
  /// How a list of statements came to its end.
  private enum Outcome {
    DONE,
    BREAK,
    CONTINUE
  }

  /// Variables of one block; a name that is not here is looked up outside.
  private record Scope(@Nullable Scope outer, Map<String, Object> variables) {
    Scope inner() {
      return new Scope(this, new HashMap<>());
    }

    Object get(String name) {
      for (Scope scope = this; scope != null; scope = scope.outer) {
        Object value = scope.variables.get(name);
        if (value != null) {
          return value;
        }
      }
      return new Undefined("'" + name + "' is undefined");
    }

    void set(String name, Object value) {
      variables.put(name, value);
    }
  }

  private final String template;
  private final Budget budget = new Budget();
  private final PyOps ops = new PyOps(budget);
  private final TemplateTests tests = new TemplateTests(ops);
  private final TemplateFilters filters = new TemplateFilters(ops, tests);
  private StringBuilder out = new StringBuilder();
  private int line = 1;

  private TemplateInterpreter(String template) {
    this.template = template;
  }

  /// @param variables values as [Value] lists them
  static String render(
      String template, List<TemplateStatement> body, Map<String, Object> variables, Clock clock) {
    var interpreter = new TemplateInterpreter(template);
    try {
      var globals =
          new HashMap<String, Object>(new TemplateGlobals(interpreter.ops, clock).functions());
      globals.putAll(variables);
      interpreter.run(body, new Scope(new Scope(null, globals), new HashMap<>()));
      return interpreter.out.toString();
    } catch (EvalError e) {
      throw new TemplateException(template, interpreter.line, e.getMessage());
    }
  }

  // ---- statements ----

  private Outcome run(List<TemplateStatement> body, Scope scope) {
    budget.enter();
    Outcome outcome = Outcome.DONE;
    for (TemplateStatement statement : body) {
      outcome = run(statement, scope);
      if (outcome != Outcome.DONE) {
        break;
      }
    }
    budget.leave();
    return outcome;
  }

  private Outcome run(TemplateStatement statement, Scope scope) {
    budget.step();
    line = statement.line();
    switch (statement) {
      case TemplateStatement.Text(String text, _) -> print(text);
      case TemplateStatement.Print(TemplateExpr value, _) -> print(ops.text(eval(value, scope)));
      case TemplateStatement.If node -> {
        for (var branch : node.branches()) {
          if (PyOps.truthy(eval(branch.condition(), scope))) {
            return run(branch.body(), scope);
          }
        }
        return run(node.otherwise(), scope);
      }
      case TemplateStatement.For node -> {
        return loop(node, scope);
      }
      case TemplateStatement.Break _ -> {
        return Outcome.BREAK;
      }
      case TemplateStatement.Continue _ -> {
        return Outcome.CONTINUE;
      }
      case TemplateStatement.Set(Target target, TemplateExpr value, _) ->
          assign(target, eval(value, scope), scope);
      case TemplateStatement.SetBlock node -> {
        Object text = capture(node.body(), scope.inner());
        assign(
            node.target(),
            node.filter() == null ? text : filter(node.filter(), text, scope),
            scope);
      }
      case TemplateStatement.FilterBlock node -> {
        String text = capture(node.body(), scope.inner());
        print(ops.text(filter(node.filter(), text, scope)));
      }
      case TemplateStatement.With node -> {
        Scope inner = scope.inner();
        for (var binding : node.bindings()) {
          assign(binding.target(), eval(binding.value(), scope), inner);
        }
        return run(node.body(), inner);
      }
      case TemplateStatement.Block node -> {
        return run(node.body(), scope.inner());
      }
      case TemplateStatement.Macro node -> scope.set(node.name(), macro(node, scope));
    }
    return Outcome.DONE;
  }

  private void print(String text) {
    budget.grow(out.length(), text.length());
    out.append(text);
  }

  private String capture(List<TemplateStatement> body, Scope scope) {
    StringBuilder outer = out;
    out = new StringBuilder();
    run(body, scope);
    String text = out.toString();
    out = outer;
    return text;
  }

  private Outcome loop(TemplateStatement.For node, Scope scope) {
    Iterator<Object> items = ops.iterate(eval(node.sequence(), scope));
    if (node.filter() != null) {
      items = filtered(items, node.target(), node.filter(), scope);
    }
    var loop = new TemplateLoop(ops, items);
    boolean any = false;
    while (loop.advance()) {
      any = true;
      line = node.line();
      Scope inner = scope.inner();
      inner.set("loop", loop);
      assign(node.target(), loop.item(), inner);
      if (run(node.body(), inner) == Outcome.BREAK) {
        break;
      }
    }
    return any ? Outcome.DONE : run(node.otherwise(), scope.inner());
  }

  /// The items of `for target in items if condition`, judged when the loop comes to them.
  private Iterator<Object> filtered(
      Iterator<Object> items, Target target, TemplateExpr condition, Scope scope) {
    return new Iterator<>() {
      private @Nullable Object next;

      @Override
      public boolean hasNext() {
        while (next == null && items.hasNext()) {
          Object item = items.next();
          Scope inner = scope.inner();
          assign(target, item, inner);
          next = PyOps.truthy(eval(condition, inner)) ? item : null;
        }
        return next != null;
      }

      @Override
      public Object next() {
        Object item = hasNext() ? next : null;
        if (item == null) {
          throw new NoSuchElementException();
        }
        next = null;
        return item;
      }
    };
  }

  private void assign(Target target, Object value, Scope scope) {
    switch (target) {
      case Target.Variable(String name) -> scope.set(name, value);
      case Target.NamespaceAttribute(String name, String attribute) -> {
        if (!(scope.get(name) instanceof Namespace namespace)) {
          throw new EvalError(
              "cannot set '%s.%s': '%s' is %s, not a namespace()"
                  .formatted(name, attribute, name, PyOps.typeName(scope.get(name))));
        }
        namespace.attributes.put(attribute, value);
      }
      case Target.Several(List<Target> targets) -> {
        List<Object> values = ops.list(value);
        if (values.size() != targets.size()) {
          throw new EvalError(
              "cannot unpack %d values into %d names".formatted(values.size(), targets.size()));
        }
        for (int i = 0; i < values.size(); i++) {
          assign(targets.get(i), values.get(i), scope);
        }
      }
    }
  }

  private Function macro(TemplateStatement.Macro node, Scope definedIn) {
    return arguments -> {
      int callLine = line;
      Scope scope = definedIn.inner();
      List<Object> positional = arguments.positional();
      var named = new LinkedHashMap<>(arguments.named());
      var parameters = node.parameters();
      for (int i = 0; i < parameters.size(); i++) {
        var parameter = parameters.get(i);
        Object given = i < positional.size() ? positional.get(i) : named.remove(parameter.name());
        if (given == null) {
          given =
              parameter.fallback() == null
                  ? new Undefined("parameter '" + parameter.name() + "' was not provided")
                  : eval(parameter.fallback(), scope);
        }
        scope.set(parameter.name(), given);
      }
      int extra = positional.size() - parameters.size();
      if (node.usesVarargs()) {
        scope.set(
            "varargs",
            new Tuple(
                extra > 0 ? positional.subList(parameters.size(), positional.size()) : List.of()));
      } else if (extra > 0) {
        throw new EvalError(
            "macro '%s' takes at most %d arguments".formatted(node.name(), parameters.size()));
      }
      if (node.usesKwargs()) {
        scope.set("kwargs", new LinkedHashMap<Object, Object>(named));
      } else if (!named.isEmpty()) {
        throw new EvalError(
            "macro '%s' has no argument '%s'".formatted(node.name(), named.firstEntry().getKey()));
      }
      String text = capture(node.body(), scope);
      line = callLine;
      return text;
    };
  }

  // ---- expressions ----

  private Object eval(TemplateExpr node, Scope scope) {
    budget.enter();
    int outerLine = line;
    line = node.line();
    Object value = evalNode(node, scope);
    line = outerLine; // left as it is when something is thrown, for the message
    budget.leave();
    return value;
  }

  private Object evalOr(@Nullable TemplateExpr node, Scope scope, Object fallback) {
    return node == null ? fallback : eval(node, scope);
  }

  private Object evalNode(TemplateExpr node, Scope scope) {
    return switch (node) {
      case TemplateExpr.Literal(Object value, _) -> value;
      case TemplateExpr.Name(String name, _) -> scope.get(name);
      case TemplateExpr.ListLiteral(List<TemplateExpr> items, _) -> evalAll(items, scope);
      case TemplateExpr.TupleLiteral(List<TemplateExpr> items, _) ->
          new Tuple(evalAll(items, scope));
      case TemplateExpr.DictLiteral literal -> {
        var map = new LinkedHashMap<Object, Object>();
        for (int i = 0; i < literal.keys().size(); i++) {
          Object key = ops.key(eval(literal.keys().get(i), scope));
          map.put(key, eval(literal.values().get(i), scope));
        }
        yield map;
      }
      case TemplateExpr.Attribute(TemplateExpr target, String name, _) ->
          ops.attribute(eval(target, scope), name);
      case TemplateExpr.Element(TemplateExpr target, TemplateExpr index, _) ->
          ops.element(eval(target, scope), eval(index, scope));
      case TemplateExpr.Slice slice ->
          ops.slice(
              eval(slice.target(), scope),
              evalOr(slice.start(), scope, None.NONE),
              evalOr(slice.stop(), scope, None.NONE),
              evalOr(slice.step(), scope, None.NONE));
      case TemplateExpr.Call call -> call(call, scope);
      case TemplateExpr.Filter filter -> filter(filter, null, scope);
      case TemplateExpr.Test test ->
          tests.test(eval(test.value(), scope), test.name(), arguments(test.arguments(), scope));
      case TemplateExpr.Not(TemplateExpr operand, _) -> !PyOps.truthy(eval(operand, scope));
      case TemplateExpr.Sign(String operator, TemplateExpr operand, _) -> {
        Object value = eval(operand, scope);
        yield operator.equals("-") ? ops.negate(value) : ops.plus(value);
      }
      case TemplateExpr.Binary binary ->
          ops.binary(binary.operator(), eval(binary.left(), scope), eval(binary.right(), scope));
      case TemplateExpr.And(TemplateExpr left, TemplateExpr right, _) -> {
        Object value = eval(left, scope);
        yield PyOps.truthy(value) ? eval(right, scope) : value;
      }
      case TemplateExpr.Or(TemplateExpr left, TemplateExpr right, _) -> {
        Object value = eval(left, scope);
        yield PyOps.truthy(value) ? value : eval(right, scope);
      }
      case TemplateExpr.Comparison comparison -> compare(comparison, scope);
      case TemplateExpr.Concat(List<TemplateExpr> parts, _) -> ops.concat(evalAll(parts, scope));
      case TemplateExpr.Conditional choice ->
          PyOps.truthy(eval(choice.condition(), scope))
              ? eval(choice.then(), scope)
              : evalOr(
                  choice.otherwise(),
                  scope,
                  new Undefined("the condition of an if without else was false"));
    };
  }

  private List<Object> evalAll(List<TemplateExpr> nodes, Scope scope) {
    var values = new ArrayList<Object>(nodes.size());
    for (TemplateExpr node : nodes) {
      values.add(eval(node, scope));
    }
    return values;
  }

  private boolean compare(TemplateExpr.Comparison comparison, Scope scope) {
    Object left = eval(comparison.first(), scope);
    for (var step : comparison.steps()) {
      Object right = eval(step.operand(), scope);
      if (!ops.compare(step.operator(), left, right)) {
        return false;
      }
      left = right;
    }
    return true;
  }

  private Object call(TemplateExpr.Call call, Scope scope) {
    Object function = eval(call.function(), scope);
    Arguments arguments = arguments(call.arguments(), scope);
    return switch (function) {
      case Function f -> f.call(arguments);
      case Undefined u -> throw PyOps.undefined(u);
      default -> throw new EvalError("'" + PyOps.typeName(function) + "' object is not callable");
    };
  }

  /// @param blockText what a filter without a value of its own works on
  private Object filter(TemplateExpr.Filter filter, @Nullable Object blockText, Scope scope) {
    Object value;
    if (filter.value() instanceof TemplateExpr.Filter inner && blockText != null) {
      value = filter(inner, blockText, scope);
    } else {
      value = filter.value() == null ? blockText : eval(filter.value(), scope);
    }
    return filters.apply(value, filter.name(), arguments(filter.arguments(), scope));
  }

  private Arguments arguments(CallArguments nodes, Scope scope) {
    if (nodes == CallArguments.NONE) {
      return Arguments.NONE;
    }
    List<Object> positional = evalAll(nodes.positional(), scope);
    var named = new LinkedHashMap<String, Object>();
    for (var keyword : nodes.named()) {
      named.put(keyword.name(), eval(keyword.value(), scope));
    }
    if (nodes.star() != null) {
      positional.addAll(ops.list(eval(nodes.star(), scope)));
    }
    if (nodes.doubleStar() != null) {
      if (!(eval(nodes.doubleStar(), scope) instanceof Map<?, ?> map)) {
        throw new EvalError("** wants a dict");
      }
      map.forEach((key, value) -> named.put(ops.text(key), value));
    }
    return new Arguments(positional, named);
  }
}
