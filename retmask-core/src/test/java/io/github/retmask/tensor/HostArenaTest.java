package io.github.retmask.tensor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import org.junit.jupiter.api.Test;

class HostArenaTest {

  private static final int SLAB = 4 << 20; // bytes; allocations around it cross slabs

  @Test
  void tensorsAreAlignedZeroAndApart() {
    try (HostArena arena = new HostArena()) {
      List<Tensor> tensors = new ArrayList<>();
      for (int i = 0; i < 200; i++) {
        tensors.add(arena.floats("t" + i, 1 + i * 37 % 5000));
      }
      tensors.add(arena.floats("large", SLAB / 4 + 1));
      tensors.add(arena.floats("after", 3));
      for (Tensor t : tensors) {
        assertThat(t.segment().address() % 64).as(t.name()).isZero();
        assertThat(t.toFloats()).as(t.name()).containsOnly(0);
        t.segment().fill((byte) 1); // an overlap would show in the next one
      }
    }
  }

  @Test
  void everyTypeHasItsSize() {
    try (HostArena arena = new HostArena()) {
      assertThat(arena.allocate("a", DType.F32, 3, 5).storage().bytes()).isEqualTo(60);
      assertThat(arena.allocate("b", DType.BF16, 3, 5).storage().bytes()).isEqualTo(30);
      assertThat(arena.allocate("c", DType.F16, 7).storage().bytes()).isEqualTo(14);
      assertThat(arena.allocate("d", DType.I32, 1, 1, 1).storage().bytes()).isEqualTo(4);
      assertThat(arena.allocate("e", DType.F32).size()).as("a scalar").isEqualTo(1);
      assertThat(arena.allocate("f", DType.F32, 3, 0).size()).isZero();
      assertThat(arena.ints("ids", 7, -1).toInts()).containsExactly(7, -1);
    }
  }

  @Test
  void recycledMemoryIsZeroAgain() {
    try (HostArena arena = new HostArena()) {
      for (int step = 0; step < 4; step++) {
        List<Tensor> tensors = new ArrayList<>();
        for (int size : new int[] {10, SLAB / 4 + 5, 100 + step, SLAB / 8, SLAB / 8, 3}) {
          tensors.add(arena.floats("size " + size, size + step));
        }
        for (Tensor t : tensors) {
          assertThat(t.toFloats()).as("%s in step %d", t, step).containsOnly(0);
          t.segment().fill((byte) -1);
        }
        arena.reset();
      }
    }
  }

  @Test
  void aStepLikeTheLastOneTakesNoNewMemory() {
    try (HostArena arena = new HostArena()) {
      addressesOfAStep(arena);
      arena.reset(); // one slab in place of several
      List<Long> second = addressesOfAStep(arena);
      arena.reset();
      assertThat(addressesOfAStep(arena)).isEqualTo(second);
    }
  }

  @Test
  void stepsThatGrowSlowlyHoldLittleMoreThanTheLargest() {
    try (HostArena arena = new HostArena()) {
      for (int step = 0; step < 100; step++) {
        arena.reset();
        for (int t = 0; t < 5; t++) {
          arena.floats("t", SLAB / 4 + 1000L * step);
        }
        // a sixteenth more than some step before, and what this one did not find room for
        assertThat(arena.heldBytes()).isLessThanOrEqualTo(arena.usedBytes() * 3 / 2 + 2 * SLAB);
      }
    }
  }

  private static List<Long> addressesOfAStep(HostArena arena) {
    List<Long> addresses = new ArrayList<>();
    for (int size : new int[] {1000, SLAB / 4, 7, SLAB / 2, 100_000}) {
      addresses.add(arena.floats("t", size).segment().address());
    }
    return addresses;
  }

  @Test
  void smallTensorsBetweenLargeOnesShareASlab() {
    try (HostArena arena = new HostArena()) {
      for (int layer = 0; layer < 20; layer++) {
        arena.floats("norm", 1000);
        arena.floats("proj", SLAB / 4);
      }
      assertThat(arena.heldBytes()).isLessThanOrEqualTo(arena.usedBytes() + SLAB);
    }
  }

  @Test
  void usedBytesCountWhatWasHandedOut() {
    try (HostArena arena = new HostArena()) {
      assertThat(arena.usedBytes()).isZero();
      arena.floats("a", 16);
      arena.floats("b", 17); // rounded up to whole lines
      assertThat(arena.usedBytes()).isEqualTo(64 + 128);
      arena.reset();
      assertThat(arena.usedBytes()).isZero();
    }
  }

  @Test
  void aClosedArenaTakesItsTensorsAlong() {
    HostArena arena = new HostArena();
    Tensor t = arena.floats("t", 3);
    arena.close();
    assertThatThrownBy(() -> t.get(0)).isInstanceOf(IllegalStateException.class);
    assertThatThrownBy(() -> arena.floats("late", 3))
        .isInstanceOf(IllegalStateException.class)
        .hasMessage("tensor late: its arena is closed");
    arena.close();
  }

  @Test
  void whatDoesNotFitIsNamed() {
    try (HostArena arena = new HostArena()) {
      arena.floats("small", 16);
      assertThatThrownBy(() -> arena.floats("model.embed", 1L << 24, 1L << 25))
          .isInstanceOf(OutOfMemoryError.class)
          .hasMessageStartingWith(
              "tensor model.embed F32[16777216, 33554432]: no room for 2251799813685248 more bytes")
          .hasMessageEndingWith("(64 in use by this arena)");
      assertThat(arena.floats("next", 4).toFloats()).as("the arena goes on").containsOnly(0);
    }
  }

  @Test
  void threadsGetTensorsOfTheirOwn() throws InterruptedException {
    try (HostArena arena = new HostArena()) {
      List<Tensor> all = Collections.synchronizedList(new ArrayList<>());
      List<Thread> threads = new ArrayList<>();
      for (int i = 0; i < 4; i++) {
        threads.add(
            Thread.ofPlatform()
                .start(
                    () -> {
                      for (int j = 0; j < 500; j++) {
                        all.add(arena.floats("t", 1 + j % 50));
                      }
                    }));
      }
      for (Thread thread : threads) {
        thread.join();
      }
      assertThat(all).hasSize(2000);
      all.sort(Comparator.comparingLong(t -> t.segment().address()));
      for (int i = 1; i < all.size(); i++) {
        Tensor before = all.get(i - 1);
        assertThat(all.get(i).segment().address())
            .isGreaterThanOrEqualTo(before.segment().address() + before.storage().bytes());
      }
    }
  }
}
