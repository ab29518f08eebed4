package io.github.retmask.kernels.cpu;

import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;
import org.jspecify.annotations.Nullable;

/// A fixed set of threads that share out the tasks of one call after the other. The caller is one of
/// them. Which thread takes a task is left to chance, so no result may depend on it.
///
/// Decoding with a small model makes thousands of calls a second: idle threads stay awake for a
/// while before they park, and a thread that wakes too late finds nothing left to do and is not
/// waited for. One call at a time; the owner of the pool sees to that.
final class WorkerPool implements AutoCloseable {
  /// Some 30 microseconds of pause instructions.
  private static final int SPINS = 1200;

  /// Nanoseconds after that in which a thread offers its processor to others and stays awake.
  private static final long PATIENCE = 1_000_000;

  private final Worker[] workers; // all but the caller
  private final Scratch callerScratch = new Scratch();
  private volatile @Nullable Job current;
  private volatile boolean closed;

  /// @param threads threads that compute, the caller included
  WorkerPool(int threads) {
    workers = new Worker[threads - 1];
    for (int i = 0; i < workers.length; i++) {
      workers[i] = new Worker("retmask-vector-" + (i + 1));
    }
    for (Worker worker : workers) {
      worker.start();
    }
  }

  /// A part of a call.
  interface Body {
    /// @param task from 0 to the number of tasks - 1
    /// @param scratch memory of the thread that runs the task
    void run(int task, Scratch scratch);
  }

  /// Memory of the calling thread, also what its tasks get.
  Scratch callerScratch() {
    return callerScratch;
  }

  int threads() {
    return workers.length + 1;
  }

  /// Runs all tasks and returns when they are done. Rethrows what the first failing task threw;
  /// tasks not begun by then are dropped.
  void run(int tasks, Body body) {
    if (closed) {
      throw new IllegalStateException("the vector backend is closed");
    }
    if (tasks <= 1 || workers.length == 0) {
      for (int task = 0; task < tasks; task++) {
        body.run(task, callerScratch);
      }
      return;
    }
    Job job = new Job(body, tasks, Thread.currentThread());
    current = job;
    for (int i = 0; i < Math.min(workers.length, tasks - 1); i++) {
      workers[i].wake();
    }
    job.work(callerScratch);
    job.await();
    current = null;
    job.rethrow();
  }

  /// Splits `items` into ranges of whole multiples of `grain` and runs them; small work stays on the
  /// calling thread.
  ///
  /// @param minimum items below which another thread is not worth waking
  void ranges(long items, long grain, long minimum, Range body) {
    long most = Math.max(1, Math.min(items / Math.max(1, minimum), 8L * threads()));
    long grains = (items + grain - 1) / grain;
    int tasks = (int) Math.min(most, grains);
    if (tasks <= 1) {
      run(1, (_, scratch) -> body.run(0, items, scratch));
      return;
    }
    run(
        tasks,
        (task, scratch) -> {
          long from = grains * task / tasks * grain;
          long to = Math.min(items, grains * (task + 1) / tasks * grain);
          body.run(from, to, scratch);
        });
  }

  /// Waits for what is soon to happen.
  private static void stayAwake(BooleanSupplier happened) {
    for (int spin = 0; spin < SPINS; spin++) {
      if (happened.getAsBoolean()) {
        return;
      }
      Thread.onSpinWait();
    }
    long begin = System.nanoTime();
    while (!happened.getAsBoolean() && System.nanoTime() - begin < PATIENCE) {
      Thread.yield();
    }
  }

  /// A range of items.
  interface Range {
    void run(long from, long to, Scratch scratch);
  }

  @Override
  public void close() {
    closed = true;
    for (Worker worker : workers) {
      LockSupport.unpark(worker);
    }
  }

  /// One call: tasks are claimed from a counter and counted when done.
  private static final class Job {
    private final Body body;
    private final int tasks;
    private final Thread caller;
    private final AtomicInteger next = new AtomicInteger();
    private final AtomicInteger done = new AtomicInteger();
    private final AtomicReference<@Nullable Throwable> failure = new AtomicReference<>();
    private volatile boolean callerParked;

    Job(Body body, int tasks, Thread caller) {
      this.body = body;
      this.tasks = tasks;
      this.caller = caller;
    }

    void work(Scratch scratch) {
      for (int task = next.getAndIncrement(); task < tasks; task = next.getAndIncrement()) {
        try {
          if (failure.get() == null) {
            body.run(task, scratch);
          }
        } catch (Throwable e) {
          failure.compareAndSet(null, e);
        }
        if (done.incrementAndGet() == tasks && callerParked) {
          LockSupport.unpark(caller);
        }
      }
    }

    void await() {
      stayAwake(() -> done.get() == tasks);
      boolean interrupted = false;
      while (done.get() < tasks) {
        callerParked = true;
        if (done.get() < tasks) {
          LockSupport.park(this);
          interrupted |= Thread.interrupted(); // a set flag would keep park from parking
        }
      }
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }

    void rethrow() {
      switch (failure.get()) {
        case null -> {}
        case RuntimeException e -> throw e;
        case Error e -> throw e;
        case Throwable e -> throw new IllegalStateException(e);
      }
    }
  }

  private final class Worker extends Thread {
    private final Scratch scratch = new Scratch();
    private volatile boolean parked;

    Worker(String name) {
      super(name);
      setDaemon(true);
    }

    void wake() {
      if (parked) {
        LockSupport.unpark(this);
      }
    }

    @Override
    public void run() {
      @Nullable Job last = null;
      while (!closed) {
        Job job = awaitOther(last);
        if (job != null) {
          job.work(scratch);
        }
        last = job;
      }
    }

    private static boolean isOther(@Nullable Job job, @Nullable Job last) {
      return job != null && job != last;
    }

    /// Waits for the current job to become another one than `last`; null means none.
    private @Nullable Job awaitOther(@Nullable Job last) {
      stayAwake(() -> isOther(current, last));
      Job job = current;
      if (isOther(job, last)) {
        return job;
      }
      parked = true;
      job = current;
      while (!isOther(job, last) && !closed) {
        LockSupport.park(WorkerPool.this);
        job = current;
      }
      parked = false;
      return job;
    }
  }
}
