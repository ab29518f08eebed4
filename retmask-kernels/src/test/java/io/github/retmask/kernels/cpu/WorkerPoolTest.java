package io.github.retmask.kernels.cpu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.Arrays;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Timeout(120) // a lost wake-up would wait for ever
class WorkerPoolTest {

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 7})
  void everyTaskRunsOnceInEveryOfManyCalls(int threads) {
    try (WorkerPool pool = new WorkerPool(threads)) {
      for (int call = 0; call < 2000; call++) {
        int tasks = call % 13;
        AtomicIntegerArray runs = new AtomicIntegerArray(13);
        pool.run(tasks, (task, _) -> runs.incrementAndGet(task));
        for (int task = 0; task < 13; task++) {
          assertThat(runs.get(task)).isEqualTo(task < tasks ? 1 : 0);
        }
      }
    }
  }

  @Test
  void tasksRunOnAsManyThreadsAsThereAre() {
    try (WorkerPool pool = new WorkerPool(3)) {
      AtomicInteger begun = new AtomicInteger();
      // No task ends before all three have begun: fewer threads would never get there.
      pool.run(
          3,
          (_, _) -> {
            begun.incrementAndGet();
            while (begun.get() < 3) {
              Thread.onSpinWait();
            }
          });
      assertThat(begun.get()).isEqualTo(3);
    }
  }

  @Test
  void noTwoTasksShareScratchAtTheSameTime() {
    try (WorkerPool pool = new WorkerPool(4)) {
      for (int call = 0; call < 200; call++) {
        pool.run(
            16,
            (task, scratch) -> {
              float[] mine = scratch.floats(0, 1000);
              Arrays.fill(mine, 0, 1000, task);
              for (int i = 0; i < 1000; i++) {
                if (mine[i] != task) {
                  throw new AssertionError("task " + task + " found " + mine[i]);
                }
              }
            });
      }
    }
  }

  @Test
  void aFailureReachesTheCallerAndThePoolGoesOn() {
    try (WorkerPool pool = new WorkerPool(3)) {
      for (int call = 0; call < 100; call++) {
        assertThatThrownBy(
                () ->
                    pool.run(
                        9,
                        (task, _) -> {
                          if (task == 5) {
                            throw new ArithmeticException("task 5");
                          }
                        }))
            .isInstanceOf(ArithmeticException.class)
            .hasMessage("task 5");
        AtomicInteger sum = new AtomicInteger();
        pool.run(9, (task, _) -> sum.addAndGet(task));
        assertThat(sum.get()).isEqualTo(36);
      }
    }
  }

  @Test
  void anInterruptedCallerGetsItsResultAndStaysInterrupted() {
    try (WorkerPool pool = new WorkerPool(2)) {
      AtomicInteger sum = new AtomicInteger();
      Thread.currentThread().interrupt();
      pool.run(50, (task, _) -> sum.addAndGet(task));
      assertThat(Thread.interrupted()).isTrue();
      assertThat(sum.get()).isEqualTo(1225);
    }
  }

  @Test
  void rangesCoverEveryItemOnceInWholeGrains() {
    try (WorkerPool pool = new WorkerPool(3)) {
      for (long items : new long[] {0, 1, 63, 64, 65, 1000, 4096}) {
        AtomicIntegerArray runs = new AtomicIntegerArray(4096);
        pool.ranges(
            items,
            64,
            100,
            (from, to, _) -> {
              assertThat(from % 64).isZero();
              for (long i = from; i < to; i++) {
                runs.incrementAndGet((int) i);
              }
            });
        assertThat(IntStream.range(0, 4096).allMatch(i -> runs.get(i) == (i < items ? 1 : 0)))
            .as("%d items", items)
            .isTrue();
      }
    }
  }

  @Test
  void aClosedPoolRefuses() {
    WorkerPool pool = new WorkerPool(2);
    pool.close();
    assertThatThrownBy(() -> pool.run(1, (_, _) -> {}))
        .isInstanceOf(IllegalStateException.class)
        .hasMessage("the vector backend is closed");
  }
}
