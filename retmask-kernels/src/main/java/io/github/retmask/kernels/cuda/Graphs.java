package io.github.retmask.kernels.cuda;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import jcuda.driver.CUgraphExec;
import org.jspecify.annotations.Nullable;
import org.slf4j.LoggerFactory;

/// CUDA graphs of the latest steps. A step whose calls have come before is captured, and from then on
/// queued by one call of the driver. A graph is found by all of its calls with all of their arguments,
/// so it does what they would have done.
final class Graphs implements AutoCloseable {
  /// Steps that are remembered: batches of many sizes, each with its longest row in several spans.
  private static final int MOST = 64;

  private final CudaDriver driver;
  private final Map<List<Step.Call>, Seen> steps = new LinkedHashMap<>(16, 0.75f, true);
  private boolean enabled;
  private int captured;
  private int replayed;

  /// A step that has been queued, its graph once it has come again.
  private static final class Seen {
    @Nullable CUgraphExec graph;
  }

  Graphs(CudaDriver driver, boolean enabled) {
    this.driver = driver;
    this.enabled = enabled;
  }

  /// Whether there are graphs at all.
  boolean isEnabled() {
    return enabled;
  }

  /// Graphs made so far.
  int captured() {
    return captured;
  }

  /// Steps queued as graphs so far.
  int replayed() {
    return replayed;
  }

  /// Queues a step. The first time it runs as it is, which loads its kernels: no driver lets that
  /// happen in a capture for certain.
  void run(List<Step.Call> calls) {
    Seen seen = steps.get(calls);
    if (seen == null) {
      queue(calls);
      steps.put(List.copyOf(calls), new Seen());
      forgetOldest();
      return;
    }
    CUgraphExec graph = seen.graph;
    if (graph == null && enabled) {
      graph = capture(calls);
      seen.graph = graph;
    }
    if (graph == null) {
      queue(calls);
    } else {
      driver.launch(graph, calls.size());
      replayed++;
    }
  }

  /// Queues calls one by one.
  void queue(List<Step.Call> calls) {
    for (Step.Call call : calls) {
      call.queue().accept(driver.stream());
    }
  }

  /// A capture runs nothing: where it fails, the calls are queued as ever.
  private @Nullable CUgraphExec capture(List<Step.Call> calls) {
    try {
      CUgraphExec graph =
          driver.capture(
              stream -> calls.forEach(call -> call.queue().accept(stream)), calls.size());
      captured++;
      return graph;
    } catch (IllegalStateException e) {
      enabled = false;
      LoggerFactory.getLogger(Graphs.class).warn("{}; going on without graphs", e.getMessage());
      return null;
    }
  }

  private void forgetOldest() {
    if (steps.size() > MOST) {
      drop(steps.remove(steps.keySet().iterator().next()));
    }
  }

  private void drop(@Nullable Seen seen) {
    if (seen != null && seen.graph != null) {
      driver.drop(seen.graph);
    }
  }

  @Override
  public void close() {
    steps.values().forEach(this::drop);
    steps.clear();
  }
}
