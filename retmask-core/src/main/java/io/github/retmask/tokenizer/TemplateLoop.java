package io.github.retmask.tokenizer;

import io.github.retmask.tokenizer.Value.Function;
import io.github.retmask.tokenizer.Value.Undefined;
import io.github.retmask.tokenizer.Value.WithAttributes;
import java.util.Iterator;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// The variable `loop`. It looks ahead no further than it is asked to, since a loop's filter may
/// depend on what the body does.
final class TemplateLoop implements WithAttributes {
  private final PyOps ops;
  private Iterator<Object> items;
  private @Nullable Object previous;
  private @Nullable Object current;
  private @Nullable Object ahead;
  private @Nullable List<Object> changedOn;
  private long index = -1;
  private long length = -1;

  TemplateLoop(PyOps ops, Iterator<Object> items) {
    this.ops = ops;
    this.items = items;
  }

  /// Moves to the next item; false if there is none.
  boolean advance() {
    Object next = peek();
    if (next == null) {
      return false;
    }
    previous = current;
    current = next;
    ahead = null;
    index++;
    return true;
  }

  Object item() {
    return current == null ? new Undefined("the loop has not begun") : current;
  }

  private @Nullable Object peek() {
    if (ahead == null && items.hasNext()) {
      ops.budget().step();
      ahead = items.next();
    }
    return ahead;
  }

  private long length() {
    if (length < 0) {
      List<Object> rest = ops.list(new Value.Generator(items));
      length = index + 1 + (ahead == null ? 0 : 1) + rest.size();
      items = rest.iterator();
    }
    return length;
  }

  @Override
  public Object attribute(String name) {
    return switch (name) {
      case "index" -> index + 1;
      case "index0" -> index;
      case "first" -> index == 0;
      case "last" -> peek() == null;
      case "length" -> length();
      case "revindex" -> length() - index;
      case "revindex0" -> length() - index - 1;
      case "depth" -> 1L;
      case "depth0" -> 0L;
      case "previtem" -> previous == null ? new Undefined("there is no previous item") : previous;
      case "nextitem" -> {
        Object next = peek();
        yield next == null ? new Undefined("there is no next item") : next;
      }
      case "cycle" -> (Function) this::cycle;
      case "changed" -> (Function) this::changed;
      default -> new Undefined("'loop' has no attribute '" + name + "'");
    };
  }

  private Object cycle(Arguments arguments) {
    List<Object> values = arguments.positional();
    if (values.isEmpty()) {
      throw new EvalError("loop.cycle needs at least one value");
    }
    return values.get((int) (index % values.size()));
  }

  private Object changed(Arguments arguments) {
    boolean same = changedOn != null && ops.equal(changedOn, arguments.positional());
    changedOn = arguments.positional();
    return !same;
  }
}
