package io.github.retmask.examples.cli;

import java.time.Duration;
import java.util.Locale;
import me.tongfei.progressbar.ConsoleProgressBarConsumer;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import me.tongfei.progressbar.ProgressBarStyle;
import org.jspecify.annotations.Nullable;

/// How far a long command is, on standard error: a bar on a terminal, otherwise a line now and then.
final class ProgressMeter implements AutoCloseable {
  private static final long LINE_EVERY_NANOS = Duration.ofSeconds(5).toNanos();

  private final Console console;
  private final String task;
  private final String unit;
  private final long total;
  private final long before; // done by an earlier run
  private final long start = System.nanoTime();
  private final @Nullable ProgressBar bar;
  private long lastLine = start;

  /// @param task what is done, such as `score`
  /// @param unit of what, such as `trials`
  /// @param before units that an earlier run has done
  /// @param total all units
  ProgressMeter(Console console, String task, String unit, long before, long total) {
    this.console = console;
    this.task = task;
    this.unit = unit;
    this.total = total;
    this.before = before;
    this.bar = console.isTerminal() ? bar() : null;
  }

  private ProgressBar bar() {
    return new ProgressBarBuilder()
        .setTaskName(task)
        .setUnit(" " + unit, 1)
        .setInitialMax(total)
        .startsFrom(before, Duration.ZERO)
        .setStyle(ProgressBarStyle.ASCII)
        .setConsumer(new ConsoleProgressBarConsumer(console.err(), 100))
        .setUpdateIntervalMillis(200)
        .clearDisplayOnFinish()
        .build();
  }

  /// Says how far it is.
  ///
  /// @param done units, those of an earlier run included
  /// @param detail shown beside them, may be empty
  void at(long done, String detail) {
    if (bar != null) {
      bar.stepTo(done);
      bar.setExtraMessage(" " + detail);
      return;
    }
    long now = System.nanoTime();
    if (now - lastLine >= LINE_EVERY_NANOS) {
      lastLine = now;
      double seconds = (now - start) / 1e9;
      double left = seconds / Math.max(1, done - before) * (total - done);
      console.note(
          String.format(
              Locale.ROOT,
              "%s: %d of %d %s, %.0f s, about %.0f s left%s",
              task,
              done,
              total,
              unit,
              seconds,
              left,
              detail.isEmpty() ? "" : ", " + detail));
    }
  }

  @Override
  public void close() {
    if (bar != null) {
      bar.close();
    }
  }

  /// A meter that begins with the first number it hears.
  static final class Late implements AutoCloseable {
    private final Console console;
    private final String task;
    private final String unit;
    private @Nullable ProgressMeter meter;

    /// @param task what is done
    /// @param unit of what
    Late(Console console, String task, String unit) {
      this.console = console;
      this.task = task;
      this.unit = unit;
    }

    /// Says how far it is.
    void at(long done, long total) {
      ProgressMeter shown = meter;
      if (shown == null) {
        shown = new ProgressMeter(console, task, unit, done, total);
        meter = shown;
      }
      shown.at(done, "");
    }

    @Override
    public void close() {
      if (meter != null) {
        meter.close();
      }
    }
  }
}
