package io.github.retmask.backend;

import io.github.retmask.tensor.BlockBytes;
import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.HostArena;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Random;

/// One opened backend with memory to test in: arrays in, tensors computed, arrays out.
final class Workbench implements AutoCloseable {
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  final Ops ops;
  private final Kernels kernels;
  private final TensorArena arena;
  private final TensorArena host = new HostArena();

  Workbench(KernelsContract contract, int threads) {
    this.kernels = contract.open(threads);
    this.ops = new Ops(kernels);
    this.arena = kernels.arena(TensorArena.Lifetime.STEP);
  }

  TensorArena arena() {
    return arena;
  }

  Tensor f32(String name, float[] values, long... dims) {
    return KernelsContract.upload(arena, host.floats(name, dims).copyFrom(values));
  }

  /// An output, full of a value that must not survive or that must be added to.
  Tensor filled(String name, float value, long... dims) {
    Tensor filled = host.floats(name, dims);
    for (long i = 0; i < filled.size(); i++) {
      filled.set(i, value);
    }
    return KernelsContract.upload(arena, filled);
  }

  /// An output that the op must overwrite.
  Tensor garbage(String name, long... dims) {
    return filled(name, Float.NaN, dims);
  }

  Tensor ints(String name, int... values) {
    return KernelsContract.upload(arena, host.ints(name, values));
  }

  /// A weight in any float type; `values` must be exact in it, see [#exactIn].
  Tensor weight(String name, DType dtype, float[] values, long... dims) {
    if (dtype == DType.F32) {
      return f32(name, values, dims);
    }
    Tensor stored = host.allocate(name, dtype, dims);
    for (int i = 0; i < values.length; i++) {
      stored.segment().set(SHORT, i * 2L, bits(dtype, values[i]));
    }
    return KernelsContract.upload(arena, stored);
  }

  /// A weight of a block type.
  Tensor blocks(String name, BlockBytes blocks, long... dims) {
    Tensor stored = host.allocate(name, blocks.dtype(), dims);
    stored.segment().copyFrom(MemorySegment.ofArray(blocks.bytes()));
    return KernelsContract.upload(arena, stored);
  }

  /// A weight where the backend wants it.
  Tensor placed(Tensor weight) {
    return ops.place(weight, arena);
  }

  float[] floats(Tensor tensor) {
    return KernelsContract.download(tensor).toFloats();
  }

  int[] ints(Tensor tensor) {
    return KernelsContract.download(tensor).toInts();
  }

  AttentionReadout readout(int heads, int[] queries, int[][][] spans) {
    int perQuery = queries.length == 0 ? 0 : spans[0].length;
    int[] nowhere = new int[queries.length * heads];
    Arrays.fill(nowhere, -77);
    return new AttentionReadout(
        queries,
        spans,
        ints("readout.top_position", nowhere).view(queries.length, heads),
        garbage("readout.top_weight", queries.length, heads),
        garbage("readout.span_mass", queries.length, heads, perQuery),
        garbage("readout.log_sum_exp", queries.length, heads));
  }

  @Override
  public void close() {
    arena.close();
    host.close();
    kernels.close();
  }

  private static short bits(DType dtype, float value) {
    return dtype == DType.BF16
        ? (short) (Float.floatToRawIntBits(value) >>> 16)
        : Float.floatToFloat16(value);
  }

  /// The values, brought to ones that `dtype` holds exactly.
  static float[] exactIn(DType dtype, float[] values) {
    float[] exact = values.clone();
    for (int i = 0; i < exact.length; i++) {
      exact[i] =
          switch (dtype) {
            case BF16 -> Float.intBitsToFloat(bits(dtype, values[i]) << 16);
            case F16 -> Float.float16ToFloat(bits(dtype, values[i]));
            case F32, I32 -> values[i];
            case Q8_0, Q4_0, Q4_K, Q6_K -> throw new IllegalArgumentException("see BlockBytes");
          };
    }
    return exact;
  }

  /// Standard normal values, the same for the same seed.
  static float[] normal(long seed, int length) {
    Random random = new Random(seed);
    float[] values = new float[length];
    for (int i = 0; i < length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }
}
