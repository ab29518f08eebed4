package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.LE;
import static jdk.incubator.vector.VectorOperators.FMA;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.ZERO_EXTEND_S2I;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/// [RowDots] of BF16 weights, which become floats by a shift.
final class BFloat16Dots extends StoredRowDots {
  static final RowDots INSTANCE = new BFloat16Dots();

  private static final VectorSpecies<Float> SPECIES = Lanes.CHAINS_OF_8;
  private static final VectorSpecies<Integer> INTS = SPECIES.withLanes(int.class);
  private static final VectorSpecies<Short> HALF =
      VectorSpecies.of(short.class, VectorShape.forBitSize(SPECIES.vectorBitSize() / 2));

  private BFloat16Dots() {}

  @Override
  float element(MemorySegment weight, long at, int k) {
    return Float.intBitsToFloat(weight.get(Lanes.I16, at + 2L * k) << 16);
  }

  @Override
  void one(
      MemorySegment weight,
      long at,
      long row,
      float[] x,
      int xAt,
      int inner,
      float[] sums,
      int sumsAt) {
    MemorySegment w = OffHeap.KIND.cast(weight);
    int whole = inner - inner % CHAINS;
    long at1 = at + row;
    long at2 = at1 + row;
    long at3 = at2 + row;
    for (int lane = 0; lane < CHAINS; lane += LANES) {
      FloatVector s00 = FloatVector.zero(SPECIES);
      FloatVector s01 = FloatVector.zero(SPECIES);
      FloatVector s02 = FloatVector.zero(SPECIES);
      FloatVector s03 = FloatVector.zero(SPECIES);
      for (int i = lane; i < whole; i += CHAINS) {
        FloatVector x0 = FloatVector.fromArray(SPECIES, x, xAt + i);
        FloatVector w0 =
            ShortVector.fromMemorySegment(HALF, w, at + i * 2L, LE)
                .convertShape(ZERO_EXTEND_S2I, INTS, 0)
                .reinterpretAsInts()
                .lanewise(LSHL, 16)
                .reinterpretAsFloats();
        s00 = w0.lanewise(FMA, x0, s00);
        FloatVector w1 =
            ShortVector.fromMemorySegment(HALF, w, at1 + i * 2L, LE)
                .convertShape(ZERO_EXTEND_S2I, INTS, 0)
                .reinterpretAsInts()
                .lanewise(LSHL, 16)
                .reinterpretAsFloats();
        s01 = w1.lanewise(FMA, x0, s01);
        FloatVector w2 =
            ShortVector.fromMemorySegment(HALF, w, at2 + i * 2L, LE)
                .convertShape(ZERO_EXTEND_S2I, INTS, 0)
                .reinterpretAsInts()
                .lanewise(LSHL, 16)
                .reinterpretAsFloats();
        s02 = w2.lanewise(FMA, x0, s02);
        FloatVector w3 =
            ShortVector.fromMemorySegment(HALF, w, at3 + i * 2L, LE)
                .convertShape(ZERO_EXTEND_S2I, INTS, 0)
                .reinterpretAsInts()
                .lanewise(LSHL, 16)
                .reinterpretAsFloats();
        s03 = w3.lanewise(FMA, x0, s03);
      }
      s00.intoArray(sums, sumsAt + lane);
      s01.intoArray(sums, sumsAt + lane + 8);
      s02.intoArray(sums, sumsAt + lane + 16);
      s03.intoArray(sums, sumsAt + lane + 24);
    }
  }

  @Override
  void two(
      MemorySegment weight,
      long at,
      long row,
      float[] x,
      int xAt,
      int inner,
      float[] sums,
      int sumsAt) {
    MemorySegment w = OffHeap.KIND.cast(weight);
    int whole = inner - inner % CHAINS;
    long at1 = at + row;
    long at2 = at1 + row;
    long at3 = at2 + row;
    for (int lane = 0; lane < CHAINS; lane += LANES) {
      FloatVector s00 = FloatVector.zero(SPECIES);
      FloatVector s01 = FloatVector.zero(SPECIES);
      FloatVector s02 = FloatVector.zero(SPECIES);
      FloatVector s03 = FloatVector.zero(SPECIES);
      FloatVector s10 = FloatVector.zero(SPECIES);
      FloatVector s11 = FloatVector.zero(SPECIES);
      FloatVector s12 = FloatVector.zero(SPECIES);
      FloatVector s13 = FloatVector.zero(SPECIES);
      for (int i = lane; i < whole; i += CHAINS) {
        FloatVector x0 = FloatVector.fromArray(SPECIES, x, xAt + i);
        FloatVector x1 = FloatVector.fromArray(SPECIES, x, xAt + inner + i);
        FloatVector w0 =
            ShortVector.fromMemorySegment(HALF, w, at + i * 2L, LE)
                .convertShape(ZERO_EXTEND_S2I, INTS, 0)
                .reinterpretAsInts()
                .lanewise(LSHL, 16)
                .reinterpretAsFloats();
        s00 = w0.lanewise(FMA, x0, s00);
        s10 = w0.lanewise(FMA, x1, s10);
        FloatVector w1 =
            ShortVector.fromMemorySegment(HALF, w, at1 + i * 2L, LE)
                .convertShape(ZERO_EXTEND_S2I, INTS, 0)
                .reinterpretAsInts()
                .lanewise(LSHL, 16)
                .reinterpretAsFloats();
        s01 = w1.lanewise(FMA, x0, s01);
        s11 = w1.lanewise(FMA, x1, s11);
        FloatVector w2 =
            ShortVector.fromMemorySegment(HALF, w, at2 + i * 2L, LE)
                .convertShape(ZERO_EXTEND_S2I, INTS, 0)
                .reinterpretAsInts()
                .lanewise(LSHL, 16)
                .reinterpretAsFloats();
        s02 = w2.lanewise(FMA, x0, s02);
        s12 = w2.lanewise(FMA, x1, s12);
        FloatVector w3 =
            ShortVector.fromMemorySegment(HALF, w, at3 + i * 2L, LE)
                .convertShape(ZERO_EXTEND_S2I, INTS, 0)
                .reinterpretAsInts()
                .lanewise(LSHL, 16)
                .reinterpretAsFloats();
        s03 = w3.lanewise(FMA, x0, s03);
        s13 = w3.lanewise(FMA, x1, s13);
      }
      s00.intoArray(sums, sumsAt + lane);
      s01.intoArray(sums, sumsAt + lane + 8);
      s02.intoArray(sums, sumsAt + lane + 16);
      s03.intoArray(sums, sumsAt + lane + 24);
      s10.intoArray(sums, sumsAt + lane + 32);
      s11.intoArray(sums, sumsAt + lane + 40);
      s12.intoArray(sums, sumsAt + lane + 48);
      s13.intoArray(sums, sumsAt + lane + 56);
    }
  }
}
