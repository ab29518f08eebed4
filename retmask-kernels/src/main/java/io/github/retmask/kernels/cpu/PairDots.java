package io.github.retmask.kernels.cpu;

import io.github.retmask.tensor.DType;
import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorShuffle;
import jdk.incubator.vector.VectorSpecies;

/// [RowDots] of [PairedRows], two pairs of rows a call: a vector of 16 lanes takes both rows of a pair
/// at once, one of eight first the one and then the other.
abstract class PairDots implements RowDots {
  static final VectorSpecies<Float> SPECIES = pairOfChains();
  static final VectorSpecies<Integer> INTS = SPECIES.withLanes(int.class);
  static final VectorSpecies<Long> LONGS =
      VectorSpecies.of(long.class, VectorShape.forBitSize(SPECIES.vectorBitSize()));
  static final VectorSpecies<Byte> BYTES =
      VectorSpecies.of(byte.class, VectorShape.forBitSize(8 * SPECIES.length()));

  /// Eight floats for each row of the pair.
  static final VectorShuffle<Float> TWICE = SPECIES.shuffleFromOp(lane -> lane % CHAINS);

  /// The scale of a lane's row.
  static final VectorShuffle<Float> SCALE = SPECIES.shuffleFromOp(lane -> lane / CHAINS);

  /// Floats behind the rows of x that the loops read, and do not use.
  static final int PAD = 8;

  private static VectorSpecies<Float> pairOfChains() {
    return VectorSpecies.of(
        float.class, VectorShape.forBitSize(Lanes.WIDTH == 2 * CHAINS ? 512 : 256));
  }

  /// The kernel of a type.
  static PairDots of(DType type) {
    return type == DType.Q8_0 ? Q8Dots.INSTANCE : Q4Dots.INSTANCE;
  }

  /// @param at byte of the first pair
  /// @param pair bytes from one pair to the next
  @Override
  public final void multiply(
      MemorySegment weight,
      long at,
      long pair,
      float[] x,
      int xAt,
      int count,
      int inner,
      float[] sums,
      int sumsAt) {
    if (count == 1) {
      one(weight, at, pair, x, xAt, inner / 32, sums, sumsAt);
    } else {
      two(weight, at, pair, x, xAt, inner / 32, sums, sumsAt);
    }
  }

  /// With one row of x.
  abstract void one(
      MemorySegment weight,
      long at,
      long pair,
      float[] x,
      int xAt,
      int blocks,
      float[] sums,
      int sumsAt);

  /// With two rows of x.
  abstract void two(
      MemorySegment weight,
      long at,
      long pair,
      float[] x,
      int xAt,
      int blocks,
      float[] sums,
      int sumsAt);
}
