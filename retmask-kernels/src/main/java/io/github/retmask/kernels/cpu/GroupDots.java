package io.github.retmask.kernels.cpu;

import io.github.retmask.tensor.DType;
import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorShuffle;
import jdk.incubator.vector.VectorSpecies;

/// [RowDots] of [RowGroups], two groups a call. A vector holds two neighbouring chains of eight rows, or
/// of four: x comes by broadcasting two floats, which takes no vector unit, and chains of all rows add
/// up without a step across lanes.
abstract class GroupDots implements RowDots {
  static final VectorSpecies<Float> SPECIES =
      VectorSpecies.of(float.class, VectorShape.forBitSize(Lanes.WIDTH == 16 ? 512 : 256));
  static final VectorSpecies<Integer> INTS = SPECIES.withLanes(int.class);
  static final VectorSpecies<Long> LONGS = SPECIES.withLanes(long.class);
  static final VectorSpecies<Byte> BYTES =
      VectorSpecies.of(byte.class, VectorShape.forBitSize(8 * SPECIES.length()));

  /// The scale of a lane's row.
  static final VectorShuffle<Float> TWICE = SPECIES.shuffleFromOp(lane -> lane / 2);

  /// Groups per call.
  static final int GROUPS = 2;

  /// Sums that are left of an output: of its even chains, and of its odd ones.
  static final int PARTS = 2;

  /// The kernel of a type.
  static GroupDots of(DType type) {
    return type == DType.Q8_0 ? Q8Dots.INSTANCE : Q4Dots.INSTANCE;
  }

  @Override
  public final Inputs inputs(Tensor x, Scratch scratch) {
    int size = (int) x.size() / 2;
    long[] twos = scratch.longs(size);
    MemorySegment.copy(x.segment(), Lanes.I64, 0, twos, 0, size);
    return new Inputs(new float[0], twos);
  }

  @Override
  public final void multiply(
      MemorySegment weight,
      long at,
      long apart,
      Inputs x,
      int first,
      int count,
      int inner,
      float[] sums,
      int sumsAt) {
    if (count == 1) {
      one(weight, at, apart, x.twos(), first * (inner / 2), inner, sums, sumsAt);
    } else {
      two(weight, at, apart, x.twos(), first * (inner / 2), inner, sums, sumsAt);
    }
  }

  /// With one row of x.
  abstract void one(
      MemorySegment weight,
      long at,
      long apart,
      long[] x,
      int xAt,
      int inner,
      float[] sums,
      int sumsAt);

  /// With two rows of x.
  abstract void two(
      MemorySegment weight,
      long at,
      long apart,
      long[] x,
      int xAt,
      int inner,
      float[] sums,
      int sumsAt);
}
