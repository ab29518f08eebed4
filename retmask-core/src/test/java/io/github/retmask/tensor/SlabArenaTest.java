package io.github.retmask.tensor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.Arena;
import org.junit.jupiter.api.Test;

/// Where memory is short.
class SlabArenaTest {
  private static final int SLAB = (int) SlabArena.SLAB_BYTES;

  /// Has so many bytes in all.
  private static final class Bounded extends SlabArena {
    private long free;

    Bounded(long bytes) {
      super(64);
      free = bytes;
    }

    @Override
    protected Slab newSlab(long bytes) {
      if (bytes > free) {
        throw new OutOfMemoryError("%d of %d bytes".formatted(bytes, free));
      }
      free -= bytes;
      return new Slab() {
        @Override
        public Storage part(long offset, long length) {
          return new Storage.Host(Arena.ofAuto().allocate(length, 64));
        }

        @Override
        public void recycle(long length) {}

        @Override
        public void free() {
          free += bytes;
        }
      };
    }

    @Override
    protected String place() {
      return "here";
    }
  }

  @Test
  void aStepThatFitAsManySlabsFitsAgainWhereOneLargerHasNoRoom() {
    try (Bounded arena = new Bounded(5L * SLAB)) {
      for (int step = 0; step < 4; step++) {
        for (int i = 0; i < 10; i++) {
          arena.floats("t" + i, SLAB / 8); // half a slab
        }
        assertThat(arena.usedBytes()).isEqualTo(5L * SLAB);
        assertThat(arena.heldBytes()).as("step %d", step).isEqualTo(5L * SLAB);
        arena.reset();
      }
      assertThatThrownBy(() -> arena.floats("t", 2 * SLAB))
          .isInstanceOf(OutOfMemoryError.class)
          .hasMessage(
              "tensor t F32[%d]: no room for %d more bytes here (0 in use by this arena)",
              2 * SLAB, 8 * SLAB);
    }
  }
}
