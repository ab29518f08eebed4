package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.LE;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static io.github.retmask.kernels.cpu.Panels.COLUMNS;
import static jdk.incubator.vector.VectorOperators.FMA;
import static jdk.incubator.vector.VectorOperators.MUL;
import static jdk.incubator.vector.VectorOperators.SUB;

import java.lang.foreign.MemorySegment;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/// The two products of attention for a few queries, with keys and values read where they lie, once:
/// see [OffHeap]; and the softmax between them. Every element is the chain of multiply-adds that [AttentionTiles] computes.
final class DecodeTiles {
  /// Keys of a tile of scores.
  static final int KEYS = 8;

  /// Lanes of a tile of values.
  static final int VALUES = 4;

  /// Lanes of a vector of scores: few are in use, and vectors of 512 bits take longer.
  private static final VectorSpecies<Float> SCORES =
      VectorSpecies.of(float.class, VectorShape.forBitSize(Math.min(256, FLOAT.vectorBitSize())));

  static final int LANES = SCORES.length();

  private static final int LINE = 64; // bytes

  private DecodeTiles() {}

  /// `scores[key][lane] = sum_d k[key][d] q[d][lane]` for eight keys and one vector of lanes.
  ///
  /// @param at byte of the first key
  /// @param rowBytes distance of keys
  /// @param q rows of one vector
  /// @param scores rows of 64
  static void scores8(
      MemorySegment keys,
      long at,
      long rowBytes,
      float[] q,
      int qAt,
      int headDim,
      float[] scores,
      int scoresAt) {
    MemorySegment k = OffHeap.KIND.cast(keys);
    long k1 = at + rowBytes;
    long k2 = at + 2 * rowBytes;
    long k3 = at + 3 * rowBytes;
    long k4 = at + 4 * rowBytes;
    long k5 = at + 5 * rowBytes;
    long k6 = at + 6 * rowBytes;
    long k7 = at + 7 * rowBytes;
    FloatVector s0 = FloatVector.zero(SCORES);
    FloatVector s1 = s0;
    FloatVector s2 = s0;
    FloatVector s3 = s0;
    FloatVector s4 = s0;
    FloatVector s5 = s0;
    FloatVector s6 = s0;
    FloatVector s7 = s0;
    for (int d = 0; d < headDim; d++) {
      FloatVector x = FloatVector.fromArray(SCORES, q, qAt + d * LANES);
      s0 = FloatVector.broadcast(SCORES, k.get(Lanes.F32, at + d * 4L)).lanewise(FMA, x, s0);
      s1 = FloatVector.broadcast(SCORES, k.get(Lanes.F32, k1 + d * 4L)).lanewise(FMA, x, s1);
      s2 = FloatVector.broadcast(SCORES, k.get(Lanes.F32, k2 + d * 4L)).lanewise(FMA, x, s2);
      s3 = FloatVector.broadcast(SCORES, k.get(Lanes.F32, k3 + d * 4L)).lanewise(FMA, x, s3);
      s4 = FloatVector.broadcast(SCORES, k.get(Lanes.F32, k4 + d * 4L)).lanewise(FMA, x, s4);
      s5 = FloatVector.broadcast(SCORES, k.get(Lanes.F32, k5 + d * 4L)).lanewise(FMA, x, s5);
      s6 = FloatVector.broadcast(SCORES, k.get(Lanes.F32, k6 + d * 4L)).lanewise(FMA, x, s6);
      s7 = FloatVector.broadcast(SCORES, k.get(Lanes.F32, k7 + d * 4L)).lanewise(FMA, x, s7);
    }
    s0.intoArray(scores, scoresAt);
    s1.intoArray(scores, scoresAt + COLUMNS);
    s2.intoArray(scores, scoresAt + 2 * COLUMNS);
    s3.intoArray(scores, scoresAt + 3 * COLUMNS);
    s4.intoArray(scores, scoresAt + 4 * COLUMNS);
    s5.intoArray(scores, scoresAt + 5 * COLUMNS);
    s6.intoArray(scores, scoresAt + 6 * COLUMNS);
    s7.intoArray(scores, scoresAt + 7 * COLUMNS);
  }

  /// The same for one key.
  static void scores1(
      MemorySegment keys, long at, float[] q, int qAt, int headDim, float[] scores, int scoresAt) {
    MemorySegment k = OffHeap.KIND.cast(keys);
    FloatVector s = FloatVector.zero(SCORES);
    for (int d = 0; d < headDim; d++) {
      s =
          FloatVector.broadcast(SCORES, k.get(Lanes.F32, at + d * 4L))
              .lanewise(FMA, FloatVector.fromArray(SCORES, q, qAt + d * LANES), s);
    }
    s.intoArray(scores, scoresAt);
  }

  /// [SoftmaxBlock#top] for one vector of lanes.
  ///
  /// @param keys an even number
  static void top(float[] scores, int at, int keys, float[] top, int topAt) {
    FloatVector even = FloatVector.fromArray(SCORES, top, topAt);
    FloatVector odd = even;
    for (int k = 0; k < keys * COLUMNS; k += 2 * COLUMNS) {
      FloatVector x = FloatVector.fromArray(SCORES, scores, at + k);
      even = even.blend(x, x.compare(VectorOperators.GT, even));
      FloatVector y = FloatVector.fromArray(SCORES, scores, at + k + COLUMNS);
      odd = odd.blend(y, y.compare(VectorOperators.GT, odd));
    }
    even.blend(odd, odd.compare(VectorOperators.GT, even)).intoArray(top, topAt);
  }

  /// [SoftmaxBlock#weights] for one vector of lanes, two keys at a time.
  ///
  /// @param keys an even number
  static void weights(
      float[] scores, int at, int keys, float[] top, int topAt, float[] sums, int sumsAt) {
    FloatVector highest = FloatVector.fromArray(SCORES, top, topAt);
    FloatVector sum = FloatVector.fromArray(SCORES, sums, sumsAt);
    FloatVector log2e = FloatVector.broadcast(SCORES, Exp.LOG2_E);
    FloatVector round = FloatVector.broadcast(SCORES, SoftmaxBlock.ROUND);
    FloatVector ln2High = FloatVector.broadcast(SCORES, Exp.MINUS_LN2_HIGH);
    FloatVector ln2Low = FloatVector.broadcast(SCORES, Exp.MINUS_LN2_LOW);
    FloatVector c6 = FloatVector.broadcast(SCORES, Exp.C6);
    FloatVector c5 = FloatVector.broadcast(SCORES, Exp.C5);
    FloatVector c4 = FloatVector.broadcast(SCORES, Exp.C4);
    FloatVector c3 = FloatVector.broadcast(SCORES, Exp.C3);
    FloatVector c2 = FloatVector.broadcast(SCORES, Exp.C2);
    FloatVector one = FloatVector.broadcast(SCORES, 1f);
    FloatVector smallest = FloatVector.broadcast(SCORES, SoftmaxBlock.SMALLEST);
    FloatVector zero = FloatVector.zero(SCORES);
    for (int k = 0; k < keys * COLUMNS; k += 2 * COLUMNS) {
      FloatVector x0 = FloatVector.fromArray(SCORES, scores, at + k).lanewise(SUB, highest);
      FloatVector x1 =
          FloatVector.fromArray(SCORES, scores, at + k + COLUMNS).lanewise(SUB, highest);
      FloatVector shifted0 = x0.lanewise(FMA, log2e, round);
      FloatVector shifted1 = x1.lanewise(FMA, log2e, round);
      FloatVector n0 = shifted0.lanewise(SUB, round);
      FloatVector n1 = shifted1.lanewise(SUB, round);
      FloatVector r0 = n0.lanewise(FMA, ln2Low, n0.lanewise(FMA, ln2High, x0));
      FloatVector r1 = n1.lanewise(FMA, ln2Low, n1.lanewise(FMA, ln2High, x1));
      FloatVector e0 =
          r0.lanewise(FMA, c6, c5)
              .lanewise(FMA, r0, c4)
              .lanewise(FMA, r0, c3)
              .lanewise(FMA, r0, c2)
              .lanewise(FMA, r0, one)
              .lanewise(FMA, r0, one);
      FloatVector e1 =
          r1.lanewise(FMA, c6, c5)
              .lanewise(FMA, r1, c4)
              .lanewise(FMA, r1, c3)
              .lanewise(FMA, r1, c2)
              .lanewise(FMA, r1, one)
              .lanewise(FMA, r1, one);
      IntVector power0 = shifted0.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23);
      IntVector power1 = shifted1.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23);
      FloatVector w0 = e0.lanewise(MUL, power0.reinterpretAsFloats());
      FloatVector w1 = e1.lanewise(MUL, power1.reinterpretAsFloats());
      w0 = w0.blend(zero, x0.compare(VectorOperators.LT, smallest));
      w1 = w1.blend(zero, x1.compare(VectorOperators.LT, smallest));
      sum = w1.lanewise(FMA, one, w0.lanewise(FMA, one, sum)); // see SoftmaxBlock#weights2
      w0.intoArray(scores, at + k);
      w1.intoArray(scores, at + k + COLUMNS);
    }
    sum.intoArray(sums, sumsAt);
  }

  /// `out[lane][d] += sum_key weights[key][lane] v[key][d]` for four lanes.
  ///
  /// @param at byte of the first value
  /// @param rowBytes distance of values
  /// @param weights rows of 64
  /// @param out rows of D
  /// @param last room for four vectors
  static void values(
      MemorySegment values,
      long at,
      long rowBytes,
      float[] weights,
      int weightsAt,
      int keys,
      float[] out,
      int outAt,
      int headDim,
      float[] last) {
    if (headDim < WIDTH) {
      for (int lane = 0; lane < VALUES; lane++) {
        for (int key = 0; key < keys; key++) {
          float weight = weights[weightsAt + key * COLUMNS + lane];
          tail(values, at + key * rowBytes, weight, out, outAt + lane * headDim, 0, headDim);
        }
      }
      return;
    }
    int whole = headDim & -WIDTH;
    int rest = headDim - whole;
    if (rest > 0) {
      int early = headDim - WIDTH; // where the last vector begins, over elements of the one before
      int from = outAt + early;
      long first = at + 4L * early;
      values1(
          values, first, rowBytes, weights, weightsAt, keys, out, from, headDim, last, 0, WIDTH);
      for (int lane = 0; lane < VALUES; lane++) {
        int to = outAt + lane * headDim + whole;
        System.arraycopy(last, (lane + 1) * WIDTH - rest, out, to, rest);
      }
    }
    int d = 0;
    for (; d <= headDim - 2 * WIDTH; d += 2 * WIDTH) {
      values2(values, at + 4L * d, rowBytes, weights, weightsAt, keys, out, outAt + d, headDim);
    }
    if (d < whole) {
      int from = outAt + d;
      long first = at + 4L * d;
      values1(
          values, first, rowBytes, weights, weightsAt, keys, out, from, headDim, out, from,
          headDim);
    }
  }

  /// Four lanes by two vectors.
  private static void values2(
      MemorySegment values,
      long at,
      long rowBytes,
      float[] weights,
      int weightsAt,
      int keys,
      float[] out,
      int outAt,
      int headDim) {
    MemorySegment v = OffHeap.KIND.cast(values);
    int out1 = outAt + headDim;
    int out2 = out1 + headDim;
    int out3 = out2 + headDim;
    FloatVector s00 = FloatVector.fromArray(FLOAT, out, outAt);
    FloatVector s01 = FloatVector.fromArray(FLOAT, out, outAt + WIDTH);
    FloatVector s10 = FloatVector.fromArray(FLOAT, out, out1);
    FloatVector s11 = FloatVector.fromArray(FLOAT, out, out1 + WIDTH);
    FloatVector s20 = FloatVector.fromArray(FLOAT, out, out2);
    FloatVector s21 = FloatVector.fromArray(FLOAT, out, out2 + WIDTH);
    FloatVector s30 = FloatVector.fromArray(FLOAT, out, out3);
    FloatVector s31 = FloatVector.fromArray(FLOAT, out, out3 + WIDTH);
    for (int k = 0; k < keys; k++) {
      FloatVector x0 = FloatVector.fromMemorySegment(FLOAT, v, at + k * rowBytes, LE);
      FloatVector x1 = FloatVector.fromMemorySegment(FLOAT, v, at + k * rowBytes + 4 * WIDTH, LE);
      FloatVector w0 = FloatVector.broadcast(FLOAT, weights[weightsAt + k * COLUMNS]);
      s00 = w0.lanewise(FMA, x0, s00);
      s01 = w0.lanewise(FMA, x1, s01);
      FloatVector w1 = FloatVector.broadcast(FLOAT, weights[weightsAt + k * COLUMNS + 1]);
      s10 = w1.lanewise(FMA, x0, s10);
      s11 = w1.lanewise(FMA, x1, s11);
      FloatVector w2 = FloatVector.broadcast(FLOAT, weights[weightsAt + k * COLUMNS + 2]);
      s20 = w2.lanewise(FMA, x0, s20);
      s21 = w2.lanewise(FMA, x1, s21);
      FloatVector w3 = FloatVector.broadcast(FLOAT, weights[weightsAt + k * COLUMNS + 3]);
      s30 = w3.lanewise(FMA, x0, s30);
      s31 = w3.lanewise(FMA, x1, s31);
    }
    s00.intoArray(out, outAt);
    s01.intoArray(out, outAt + WIDTH);
    s10.intoArray(out, out1);
    s11.intoArray(out, out1 + WIDTH);
    s20.intoArray(out, out2);
    s21.intoArray(out, out2 + WIDTH);
    s30.intoArray(out, out3);
    s31.intoArray(out, out3 + WIDTH);
  }

  /// Four lanes by one vector.
  ///
  /// @param to takes the sums, rows `toRow` apart
  private static void values1(
      MemorySegment values,
      long at,
      long rowBytes,
      float[] weights,
      int weightsAt,
      int keys,
      float[] out,
      int outAt,
      int headDim,
      float[] to,
      int toAt,
      int toRow) {
    MemorySegment v = OffHeap.KIND.cast(values);
    int out1 = outAt + headDim;
    int out2 = out1 + headDim;
    int out3 = out2 + headDim;
    FloatVector s0 = FloatVector.fromArray(FLOAT, out, outAt);
    FloatVector s1 = FloatVector.fromArray(FLOAT, out, out1);
    FloatVector s2 = FloatVector.fromArray(FLOAT, out, out2);
    FloatVector s3 = FloatVector.fromArray(FLOAT, out, out3);
    for (int k = 0; k < keys; k++) {
      FloatVector x = FloatVector.fromMemorySegment(FLOAT, v, at + k * rowBytes, LE);
      s0 = FloatVector.broadcast(FLOAT, weights[weightsAt + k * COLUMNS]).lanewise(FMA, x, s0);
      s1 = FloatVector.broadcast(FLOAT, weights[weightsAt + k * COLUMNS + 1]).lanewise(FMA, x, s1);
      s2 = FloatVector.broadcast(FLOAT, weights[weightsAt + k * COLUMNS + 2]).lanewise(FMA, x, s2);
      s3 = FloatVector.broadcast(FLOAT, weights[weightsAt + k * COLUMNS + 3]).lanewise(FMA, x, s3);
    }
    s0.intoArray(to, toAt);
    s1.intoArray(to, toAt + toRow);
    s2.intoArray(to, toAt + 2 * toRow);
    s3.intoArray(to, toAt + 3 * toRow);
  }

  /// `out[d] += weight v[d]`: one key and one lane.
  static void value(
      MemorySegment values, long at, float weight, float[] out, int outAt, int headDim) {
    MemorySegment v = OffHeap.KIND.cast(values);
    FloatVector w = FloatVector.broadcast(FLOAT, weight);
    int whole = headDim & -WIDTH;
    for (int d = 0; d < whole; d += WIDTH) {
      w.lanewise(
              FMA,
              FloatVector.fromMemorySegment(FLOAT, v, at + d * 4L, LE),
              FloatVector.fromArray(FLOAT, out, outAt + d))
          .intoArray(out, outAt + d);
    }
    tail(v, at, weight, out, outAt, whole, headDim);
  }

  private static void tail(
      MemorySegment v, long at, float weight, float[] out, int outAt, int from, int headDim) {
    for (int d = from; d < headDim; d++) {
      out[outAt + d] = Math.fma(weight, Lanes.get(v, at + d * 4L), out[outAt + d]);
    }
  }

  /// Reads a word of every cache line, in the order of memory, so that the lines stream in at full
  /// speed; the products then find them in the cache.
  ///
  /// @return what was read, to be used
  static int touch(MemorySegment segment, long at, int bytes) {
    MemorySegment words = OffHeap.KIND.cast(segment);
    int sum = 0;
    for (int i = 0; i < bytes; i += LINE) {
      sum += words.get(Lanes.I32, at + i);
    }
    return sum;
  }
}
