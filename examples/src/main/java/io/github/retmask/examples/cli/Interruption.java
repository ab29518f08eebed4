package io.github.retmask.examples.cli;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/// What Ctrl-C, or another polite end, does to a command that can go on later: it says how, and the
/// process exits with 130.
final class Interruption implements AutoCloseable {
  private static final int EXIT_CODE = 130; // 128 + SIGINT, as shells count

  /// How the work is stopped.
  enum Stop {
    /// It may end anywhere: what is finished is on the disk.
    AT_ONCE(0),
    /// Its thread is interrupted and given time to save where it is.
    AFTER_SAVING(60);

    private final int graceSeconds;

    Stop(int graceSeconds) {
      this.graceSeconds = graceSeconds;
    }
  }

  private final Console console;
  private final String message;
  private final Stop stop;
  private final Thread worker = Thread.currentThread();
  private final CountDownLatch ended = new CountDownLatch(1);
  private final Thread hook = new Thread(this::stop, "interruption");

  private Interruption(Console console, String message, Stop stop) {
    this.console = console;
    this.message = message;
    this.stop = stop;
  }

  /// Guards the work of this thread until it is closed.
  ///
  /// @param message said on an interruption, a whole line
  static Interruption guard(Console console, String message, Stop stop) {
    Interruption guard = new Interruption(console, message, stop);
    Runtime.getRuntime().addShutdownHook(guard.hook);
    return guard;
  }

  private void stop() {
    if (stop == Stop.AFTER_SAVING) {
      worker.interrupt();
      try {
        boolean _ = ended.await(stop.graceSeconds, TimeUnit.SECONDS);
      } catch (InterruptedException e) {
        // ends at once
      }
    }
    console.note(message);
    Runtime.getRuntime().halt(EXIT_CODE);
  }

  /// Ends the guard. When the process is ending already, this thread waits for that and says
  /// nothing more.
  @Override
  public void close() {
    try {
      Runtime.getRuntime().removeShutdownHook(hook);
    } catch (IllegalStateException e) {
      ended.countDown();
      while (true) {
        try {
          Thread.sleep(Long.MAX_VALUE);
        } catch (InterruptedException again) {
          // only the end of the process ends this
        }
      }
    }
  }
}
