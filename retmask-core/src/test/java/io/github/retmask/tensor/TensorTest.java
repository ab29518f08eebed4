package io.github.retmask.tensor;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class TensorTest {
  private final HostArena arena = new HostArena();

  @AfterEach
  void close() {
    arena.close();
  }

  @Test
  void storageMustHoldExactlyTheElements() {
    MemorySegment bytes = Arena.ofAuto().allocate(22);
    assertThatThrownBy(() -> Tensor.host("w", DType.F32, Shape.of(2, 3), bytes))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("tensor w F32[2, 3] needs 24 bytes, got 22");
  }

  @Test
  void slicesShareMemory() {
    Tensor t = arena.floats("t", 4, 3).copyFrom(0f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
    Tensor middle = t.slice(1, 3);
    assertThat(middle.shape()).isEqualTo(Shape.of(2, 3));
    assertThat(middle.toFloats()).containsExactly(3, 4, 5, 6, 7, 8);
    middle.set(0, -1);
    assertThat(t.get(3)).isEqualTo(-1);
    assertThat(t.slice(4, 4).size()).isZero();
    assertThatThrownBy(() -> t.slice(2, 5))
        .isInstanceOf(IndexOutOfBoundsException.class)
        .hasMessage("slice [2, 5) of tensor t [4, 3]");
    assertThatThrownBy(() -> t.slice(-1, 2)).isInstanceOf(IndexOutOfBoundsException.class);
    assertThatThrownBy(() -> t.slice(3, 2)).isInstanceOf(IndexOutOfBoundsException.class);
  }

  @Test
  void slicesOfDeviceMemoryMoveTheAddress() {
    DeviceMemory memory = new ArrayMemory();
    Tensor t =
        new Tensor("t", DType.BF16, Shape.of(4, 3), new Storage.Device(1000, 24, memory, null))
            .slice(1, 3);
    assertThat(t.storage()).isEqualTo(new Storage.Device(1006, 12, memory, null));
    assertThatThrownBy(t::segment)
        .isInstanceOf(IllegalStateException.class)
        .hasMessage("tensor t lies on a device; take toHost()");
  }

  /// Device memory of addresses 0 to 99.
  private static final class ArrayMemory implements DeviceMemory {
    final byte[] bytes = new byte[100];
    int reads;

    @Override
    public void read(MemorySegment to, long address) {
      reads++;
      to.copyFrom(MemorySegment.ofArray(bytes).asSlice(address, to.byteSize()));
    }

    @Override
    public void write(long address, MemorySegment from) {
      MemorySegment.ofArray(bytes).asSlice(address, from.byteSize()).copyFrom(from);
    }
  }

  @Test
  void deviceTensorsAreCopiedToTheHostAndBack() {
    ArrayMemory memory = new ArrayMemory();
    Tensor t = new Tensor("t", DType.F32, Shape.of(3), new Storage.Device(8, 12, memory, null));
    t.copyFrom(1f, 2, 3);
    assertThat(t.toFloats()).containsExactly(1, 2, 3);
    assertThat(t.slice(1, 3).toFloats()).containsExactly(2, 3);
    assertThat(t.get(2)).isEqualTo(3);
    Tensor other = arena.floats("other", 3).copyFrom(4f, 5, 6);
    assertThat(t.copyFrom(other).toHost().toFloats()).containsExactly(4, 5, 6);
    assertThat(other.toHost()).isSameAs(other);
    assertThat(arena.floats("back", 3).copyFrom(t).toFloats()).containsExactly(4, 5, 6);
    assertThatThrownBy(() -> t.copyFrom(arena.floats("short", 2)))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("tensor t F32[3] cannot hold a copy of short F32[2]");
  }

  @Test
  void mirroredIndicesAreReadWithoutTheDevice() {
    ArrayMemory memory = new ArrayMemory();
    Tensor t =
        new Tensor(
            "ids",
            DType.I32,
            Shape.of(3),
            new Storage.Device(8, 12, memory, Arena.ofAuto().allocate(12, 8)));
    t.copyFrom(7, 8, 9);
    assertThat(t.slice(1, 2).getInt(0)).isEqualTo(8);
    assertThat(t.toInts()).containsExactly(7, 8, 9);
    assertThat(memory.reads).isZero();
    assertThat(memory.bytes[8]).isEqualTo((byte) 7);
  }

  @Test
  void viewsKeepTheElements() {
    Tensor t = arena.floats("t", 2, 6);
    assertThat(t.view(3, 2, 2).shape()).isEqualTo(Shape.of(3, 2, 2));
    assertThat(t.named("u").toString()).isEqualTo("u F32[2, 6]");
    assertThatThrownBy(() -> t.view(5))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("tensor t F32[5] needs 20 bytes, got 48");
  }

  @Test
  void halvesAreReadAsFloats() {
    ValueLayout.OfShort layout =
        ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    Tensor bf = arena.allocate("bf", DType.BF16, 2);
    bf.segment().set(layout, 0, (short) 0xc020); // -2.5
    bf.segment().set(layout, 2, (short) 0x7f80);
    assertThat(bf.toFloats()).containsExactly(-2.5f, Float.POSITIVE_INFINITY);
    Tensor half = arena.allocate("half", DType.F16, 2);
    half.segment().set(layout, 0, (short) 0x3c01); // 1 + 2^-10
    half.segment().set(layout, 2, (short) 0x0001); // 2^-24
    assertThat(half.toFloats()).containsExactly(1 + 0x1p-10f, 0x1p-24f);
  }

  @Test
  void writingIsTyped() {
    Tensor ids = arena.ints("ids", 1, 2, 3);
    assertThat(ids.getInt(2)).isEqualTo(3);
    assertThatThrownBy(() -> ids.set(0, 1f))
        .isInstanceOf(IllegalStateException.class)
        .hasMessage("tensor ids is I32, want F32");
    Tensor t = arena.floats("t", 3);
    assertThatThrownBy(() -> t.setInt(0, 1)).hasMessage("tensor t is F32, want I32");
    assertThatThrownBy(() -> t.getInt(0)).hasMessage("tensor t is F32, want I32");
    assertThatThrownBy(t::toInts).hasMessage("tensor t is F32, want I32");
    assertThatThrownBy(() -> t.copyFrom(1f, 2f))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("tensor t [3] holds 3 elements, got 2");
  }

  @Test
  void shapesRefuseWhatCannotBe() {
    assertThatThrownBy(() -> Shape.of(2, -1))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("shape [2, -1] has a negative extent");
    assertThatThrownBy(() -> Shape.of(1L << 40, 1L << 40)).isInstanceOf(ArithmeticException.class);
    assertThat(Shape.of(2, 3, 4).dim(-1)).isEqualTo(4);
    assertThat(Shape.of().size()).isEqualTo(1);
  }

  @ParameterizedTest
  @EnumSource(names = {"Q8_0", "Q4_0", "Q4_K", "Q6_K"})
  void elementsOfBlocksAreDecoded(DType dtype) {
    int elements = 6 * dtype.blockSize();
    BlockBytes blocks = BlockBytes.random(dtype, 7, elements);
    Tensor t = arena.allocate("t", dtype, 3, elements / 3);
    t.segment().copyFrom(MemorySegment.ofArray(blocks.bytes()));
    float[] want = blocks.values();
    assertThat(t.toFloats()).isEqualTo(want);
    assertThat(t.slice(1, 3).toFloats())
        .isEqualTo(Arrays.copyOfRange(want, elements / 3, elements));
    assertThat(t.view(6, elements / 6).slice(5, 6).get(1)).isEqualTo(want[elements / 6 * 5 + 1]);
  }

  @Test
  void blocksAreNeverCut() {
    assertThatThrownBy(() -> arena.allocate("t", DType.Q4_K, 8, 96))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("tensor t Q4_K[8, 96]: want a multiple of 256 elements innermost");
    Tensor t = arena.allocate("t", DType.Q8_0, 64);
    assertThat(t.slice(32, 64).storage().bytes()).isEqualTo(34);
    assertThatThrownBy(() -> t.slice(1, 33))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("1 elements of Q8_0, want a multiple of 32");
    assertThatThrownBy(() -> t.view(4, 16))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("tensor t Q8_0[4, 16]: want a multiple of 32 elements innermost");
    assertThatThrownBy(DType.Q6_K::bytes)
        .isInstanceOf(IllegalStateException.class)
        .hasMessage("Q6_K has 210 bytes for 256 elements, none for one");
  }
}
