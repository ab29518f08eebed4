package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.LE;
import static jdk.incubator.vector.VectorOperators.FMA;

import java.lang.foreign.MemorySegment;
import java.util.Objects;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorSpecies;

/// [RowDots] of F32 weights.
final class FloatDots extends StoredRowDots {
  static final RowDots INSTANCE = new FloatDots();

  private static final VectorSpecies<Float> SPECIES = Lanes.CHAINS_OF_8;

  private FloatDots() {}

  @Override
  float element(MemorySegment weight, long at, int k) {
    return Lanes.get(weight, at + 4L * k);
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
    Objects.checkFromIndexSize(xAt, inner, x.length); // makes it long enough: see StoredRowDots
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
        FloatVector w0 = FloatVector.fromMemorySegment(SPECIES, w, at + i * 4L, LE);
        s00 = w0.lanewise(FMA, x0, s00);
        FloatVector w1 = FloatVector.fromMemorySegment(SPECIES, w, at1 + i * 4L, LE);
        s01 = w1.lanewise(FMA, x0, s01);
        FloatVector w2 = FloatVector.fromMemorySegment(SPECIES, w, at2 + i * 4L, LE);
        s02 = w2.lanewise(FMA, x0, s02);
        FloatVector w3 = FloatVector.fromMemorySegment(SPECIES, w, at3 + i * 4L, LE);
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
        FloatVector w0 = FloatVector.fromMemorySegment(SPECIES, w, at + i * 4L, LE);
        s00 = w0.lanewise(FMA, x0, s00);
        s10 = w0.lanewise(FMA, x1, s10);
        FloatVector w1 = FloatVector.fromMemorySegment(SPECIES, w, at1 + i * 4L, LE);
        s01 = w1.lanewise(FMA, x0, s01);
        s11 = w1.lanewise(FMA, x1, s11);
        FloatVector w2 = FloatVector.fromMemorySegment(SPECIES, w, at2 + i * 4L, LE);
        s02 = w2.lanewise(FMA, x0, s02);
        s12 = w2.lanewise(FMA, x1, s12);
        FloatVector w3 = FloatVector.fromMemorySegment(SPECIES, w, at3 + i * 4L, LE);
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
