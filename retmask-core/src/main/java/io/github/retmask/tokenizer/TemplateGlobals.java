package io.github.retmask.tokenizer;

import io.github.retmask.tokenizer.Arguments.Bound;
import io.github.retmask.tokenizer.Value.Function;
import io.github.retmask.tokenizer.Value.Namespace;
import io.github.retmask.tokenizer.Value.Range;
import io.github.retmask.tokenizer.Value.Undefined;
import io.github.retmask.tokenizer.Value.WithAttributes;
import java.time.Clock;
import java.time.ZonedDateTime;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/// The functions every chat template may call: Jinja's, and the two that transformers adds.
final class TemplateGlobals {
  /// The longest range Jinja's sandbox allows.
  private static final long MAX_RANGE = 100_000;

  private final PyOps ops;
  private final Clock clock;

  TemplateGlobals(PyOps ops, Clock clock) {
    this.ops = ops;
    this.clock = clock;
  }

  Map<String, Function> functions() {
    return Map.of(
        "namespace", this::namespace,
        "range", this::range,
        "dict", this::dict,
        "cycler", this::cycler,
        "joiner", this::joiner,
        "raise_exception", this::raiseException,
        "strftime_now", this::strftimeNow);
  }

  private Object raiseException(Arguments arguments) {
    throw new EvalError(ops.text(arguments.bind("raise_exception", 1, "message").get(0)));
  }

  private Object strftimeNow(Arguments arguments) {
    String format = arguments.bind("strftime_now", 1, "format").string(0);
    return PyFormat.strftime(ZonedDateTime.now(clock), format);
  }

  private Object range(Arguments arguments) {
    Bound b = arguments.bind("range", 1, "start", "stop", "step");
    long start = b.has(1) ? b.integer(0) : 0;
    long stop = b.has(1) ? b.integer(1) : b.integer(0);
    long step = b.integer(2, 1);
    if (step == 0) {
      throw new EvalError("range: step must not be zero");
    }
    // In double, where no difference of two longs overflows.
    double size = Math.max(0, Math.ceil(((double) stop - start) / step));
    if (size > MAX_RANGE) {
      throw new EvalError("range: more than " + MAX_RANGE + " numbers");
    }
    return new Range(start, stop, step, (int) size);
  }

  private Object namespace(Arguments arguments) {
    var namespace = new Namespace();
    ((Map<?, ?>) dict(arguments))
        .forEach((key, value) -> namespace.attributes.put(ops.text(key), value));
    return namespace;
  }

  private Object dict(Arguments arguments) {
    var map = new LinkedHashMap<Object, Object>();
    for (Object source : arguments.positional()) {
      if (source instanceof Map<?, ?> other) {
        map.putAll(other);
        continue;
      }
      for (Iterator<Object> pairs = ops.iterate(source); pairs.hasNext(); ) {
        List<Object> pair = ops.list(pairs.next());
        if (pair.size() != 2) {
          throw new EvalError("dict: want pairs of key and value, found " + pair.size() + " items");
        }
        map.put(ops.key(pair.getFirst()), pair.getLast());
      }
    }
    map.putAll(arguments.named());
    return map;
  }

  private Object cycler(Arguments arguments) {
    List<Object> values = arguments.positional();
    if (values.isEmpty()) {
      throw new EvalError("cycler needs at least one value");
    }
    return new Cycler(values);
  }

  private Object joiner(Arguments arguments) {
    Object separator = arguments.bind("joiner", 0, "sep").get(0, ", ");
    return new Function() {
      private boolean used;

      @Override
      public Object call(Arguments none) {
        Object result = used ? separator : "";
        used = true;
        return result;
      }
    };
  }

  private static final class Cycler implements WithAttributes {
    private final List<Object> values;
    private int at;

    Cycler(List<Object> values) {
      this.values = values;
    }

    @Override
    public Object attribute(String name) {
      return switch (name) {
        case "current" -> values.get(at);
        case "next" ->
            (Function)
                _ -> {
                  Object value = values.get(at);
                  at = (at + 1) % values.size();
                  return value;
                };
        case "reset" ->
            (Function)
                _ -> {
                  at = 0;
                  return Value.None.NONE;
                };
        default -> new Undefined("a cycler has no attribute '" + name + "'");
      };
    }
  }
}
