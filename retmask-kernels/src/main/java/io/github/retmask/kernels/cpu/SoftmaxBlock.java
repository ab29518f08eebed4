package io.github.retmask.kernels.cpu;

import static io.github.retmask.kernels.cpu.Lanes.FLOAT;
import static io.github.retmask.kernels.cpu.Lanes.WIDTH;
import static io.github.retmask.kernels.cpu.Panels.COLUMNS;
import static jdk.incubator.vector.VectorOperators.ADD;
import static jdk.incubator.vector.VectorOperators.FMA;
import static jdk.incubator.vector.VectorOperators.MUL;
import static jdk.incubator.vector.VectorOperators.SUB;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;

/// The softmax of a block of scores: a row of 64 floats per key, a query in each lane. All sums run
/// over the keys of a lane, ascending, so no lane needs to know its neighbours.
///
/// What a query does not see is -infinity; its weight is exactly zero.
///
/// Loops with an exponential, and [#masses], are methods of more than 325 bytes, which C2 compiles by
/// themselves. Shorter ones were inlined into callers that had taken in much else, and kept vectors as
/// objects in some JVM runs (40 instead of 145 GFLOP/s). `BoxedVectorsTest` watches them all.
final class SoftmaxBlock {
  /// Lowest maximum, so that an unseen score minus the maximum is never NaN.
  static final float LOWEST = -Float.MAX_VALUE;

  /// Weights below e^-87 are zero: they would not be normal numbers.
  static final float SMALLEST = -87f;

  static final float ROUND = 0x1.8p23f + 127; // leaves the biased exponent in the low bits

  private SoftmaxBlock() {}

  /// `top = max(top, scores)` per lane; NaN is passed over, it shows in the weights.
  ///
  /// @param keys an even number
  /// @param lanes rounded up to two vectors
  static void top(float[] scores, int at, int keys, int lanes, float[] top, int topAt) {
    for (int j = 0; j < lanes; j += 2 * WIDTH) {
      FloatVector t0 = FloatVector.fromArray(FLOAT, top, topAt + j);
      FloatVector t1 = FloatVector.fromArray(FLOAT, top, topAt + j + WIDTH);
      FloatVector u0 = t0;
      FloatVector u1 = t1;
      for (int k = j; k < keys * COLUMNS; k += 2 * COLUMNS) {
        FloatVector x0 = FloatVector.fromArray(FLOAT, scores, at + k);
        t0 = t0.blend(x0, x0.compare(VectorOperators.GT, t0));
        FloatVector x1 = FloatVector.fromArray(FLOAT, scores, at + k + WIDTH);
        t1 = t1.blend(x1, x1.compare(VectorOperators.GT, t1));
        FloatVector y0 = FloatVector.fromArray(FLOAT, scores, at + k + COLUMNS);
        u0 = u0.blend(y0, y0.compare(VectorOperators.GT, u0));
        FloatVector y1 = FloatVector.fromArray(FLOAT, scores, at + k + COLUMNS + WIDTH);
        u1 = u1.blend(y1, y1.compare(VectorOperators.GT, u1));
      }
      t0.blend(u0, u0.compare(VectorOperators.GT, t0)).intoArray(top, topAt + j);
      t1.blend(u1, u1.compare(VectorOperators.GT, t1)).intoArray(top, topAt + j + WIDTH);
    }
  }

  /// [#top], and notes the first key with the largest score where that rises.
  ///
  /// @param keys an even number
  /// @param lanes rounded up to two vectors
  /// @param topKey positions
  /// @param firstKey position of the first key
  static void topKeys(
      float[] scores,
      int at,
      int keys,
      int lanes,
      float[] top,
      float[] topKey,
      int topAt,
      int firstKey) {
    for (int j = 0; j < lanes; j += 2 * WIDTH) {
      topKeys2(scores, at + j, keys, top, topKey, topAt + j, firstKey);
    }
  }

  /// Two vectors of lanes, even and odd keys apart.
  private static void topKeys2(
      float[] scores, int at, int keys, float[] top, float[] topKey, int topAt, int firstKey) {
    FloatVector t0 = FloatVector.fromArray(FLOAT, top, topAt);
    FloatVector t1 = FloatVector.fromArray(FLOAT, top, topAt + WIDTH);
    FloatVector u0 = t0;
    FloatVector u1 = t1;
    FloatVector tKey0 = FloatVector.fromArray(FLOAT, topKey, topAt);
    FloatVector tKey1 = FloatVector.fromArray(FLOAT, topKey, topAt + WIDTH);
    FloatVector uKey0 = tKey0;
    FloatVector uKey1 = tKey1;
    for (int j = 0; j < keys; j += 2) {
      FloatVector even = FloatVector.broadcast(FLOAT, firstKey + j);
      FloatVector x0 = FloatVector.fromArray(FLOAT, scores, at + j * COLUMNS);
      VectorMask<Float> above0 = x0.compare(VectorOperators.GT, t0);
      t0 = t0.blend(x0, above0);
      tKey0 = tKey0.blend(even, above0);
      FloatVector x1 = FloatVector.fromArray(FLOAT, scores, at + j * COLUMNS + WIDTH);
      VectorMask<Float> above1 = x1.compare(VectorOperators.GT, t1);
      t1 = t1.blend(x1, above1);
      tKey1 = tKey1.blend(even, above1);
      FloatVector odd = FloatVector.broadcast(FLOAT, firstKey + j + 1);
      FloatVector y0 = FloatVector.fromArray(FLOAT, scores, at + j * COLUMNS + COLUMNS);
      VectorMask<Float> over0 = y0.compare(VectorOperators.GT, u0);
      u0 = u0.blend(y0, over0);
      uKey0 = uKey0.blend(odd, over0);
      FloatVector y1 = FloatVector.fromArray(FLOAT, scores, at + j * COLUMNS + COLUMNS + WIDTH);
      VectorMask<Float> over1 = y1.compare(VectorOperators.GT, u1);
      u1 = u1.blend(y1, over1);
      uKey1 = uKey1.blend(odd, over1);
    }
    // Where both are alike the first; where neither has risen, both have the key from before.
    VectorMask<Float> other0 =
        u0.compare(VectorOperators.GT, t0)
            .or(u0.compare(VectorOperators.EQ, t0).and(uKey0.compare(VectorOperators.LT, tKey0)));
    VectorMask<Float> other1 =
        u1.compare(VectorOperators.GT, t1)
            .or(u1.compare(VectorOperators.EQ, t1).and(uKey1.compare(VectorOperators.LT, tKey1)));
    t0.blend(u0, other0).intoArray(top, topAt);
    t1.blend(u1, other1).intoArray(top, topAt + WIDTH);
    tKey0.blend(uKey0, other0).intoArray(topKey, topAt);
    tKey1.blend(uKey1, other1).intoArray(topKey, topAt + WIDTH);
  }

  /// `scores = exp(scores - top)`, `sum += scores` per lane; no score is above `top`.
  ///
  /// @param lanes rounded up to two vectors
  static void weights(
      float[] scores, int at, int keys, int lanes, float[] top, int topAt, float[] sum, int sumAt) {
    for (int j = 0; j < lanes; j += 2 * WIDTH) {
      weights2(scores, at + j, keys, top, topAt + j, sum, sumAt + j);
    }
  }

  /// Two vectors of lanes. The exponential is that of [Exp] without its ends: arguments are at most
  /// zero, and what would be subnormal is zero.
  ///
  /// So much code has C2 inline the last operations late. ADD, whose general form branches, then left
  /// boxes in most JVM runs; times one plus the sum has the same bits and no branch.
  private static void weights2(
      float[] scores, int at, int keys, float[] top, int topAt, float[] sum, int sumAt) {
    FloatVector t0 = FloatVector.fromArray(FLOAT, top, topAt);
    FloatVector t1 = FloatVector.fromArray(FLOAT, top, topAt + WIDTH);
    FloatVector sum0 = FloatVector.fromArray(FLOAT, sum, sumAt);
    FloatVector sum1 = FloatVector.fromArray(FLOAT, sum, sumAt + WIDTH);
    FloatVector log2e = FloatVector.broadcast(FLOAT, Exp.LOG2_E);
    FloatVector round = FloatVector.broadcast(FLOAT, ROUND);
    FloatVector ln2High = FloatVector.broadcast(FLOAT, Exp.MINUS_LN2_HIGH);
    FloatVector ln2Low = FloatVector.broadcast(FLOAT, Exp.MINUS_LN2_LOW);
    FloatVector c6 = FloatVector.broadcast(FLOAT, Exp.C6);
    FloatVector c5 = FloatVector.broadcast(FLOAT, Exp.C5);
    FloatVector c4 = FloatVector.broadcast(FLOAT, Exp.C4);
    FloatVector c3 = FloatVector.broadcast(FLOAT, Exp.C3);
    FloatVector c2 = FloatVector.broadcast(FLOAT, Exp.C2);
    FloatVector one = FloatVector.broadcast(FLOAT, 1f);
    FloatVector smallest = FloatVector.broadcast(FLOAT, SMALLEST);
    FloatVector zero = FloatVector.zero(FLOAT);
    for (int k = 0; k < keys * COLUMNS; k += COLUMNS) {
      FloatVector x0 = FloatVector.fromArray(FLOAT, scores, at + k).lanewise(SUB, t0);
      FloatVector x1 = FloatVector.fromArray(FLOAT, scores, at + k + WIDTH).lanewise(SUB, t1);
      FloatVector shifted0 = x0.lanewise(FMA, log2e, round);
      FloatVector shifted1 = x1.lanewise(FMA, log2e, round);
      FloatVector n0 = shifted0.lanewise(SUB, round);
      FloatVector n1 = shifted1.lanewise(SUB, round);
      FloatVector r0 = n0.lanewise(FMA, ln2High, x0);
      FloatVector r1 = n1.lanewise(FMA, ln2High, x1);
      r0 = n0.lanewise(FMA, ln2Low, r0);
      r1 = n1.lanewise(FMA, ln2Low, r1);
      FloatVector e0 = r0.lanewise(FMA, c6, c5);
      FloatVector e1 = r1.lanewise(FMA, c6, c5);
      e0 = e0.lanewise(FMA, r0, c4);
      e1 = e1.lanewise(FMA, r1, c4);
      e0 = e0.lanewise(FMA, r0, c3);
      e1 = e1.lanewise(FMA, r1, c3);
      e0 = e0.lanewise(FMA, r0, c2);
      e1 = e1.lanewise(FMA, r1, c2);
      e0 = e0.lanewise(FMA, r0, one);
      e1 = e1.lanewise(FMA, r1, one);
      e0 = e0.lanewise(FMA, r0, one);
      e1 = e1.lanewise(FMA, r1, one);
      IntVector power0 = shifted0.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23);
      IntVector power1 = shifted1.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23);
      FloatVector w0 = e0.lanewise(MUL, power0.reinterpretAsFloats());
      FloatVector w1 = e1.lanewise(MUL, power1.reinterpretAsFloats());
      w0 = w0.blend(zero, x0.compare(VectorOperators.LT, smallest));
      sum0 = w0.lanewise(FMA, one, sum0);
      w0.intoArray(scores, at + k);
      w1 = w1.blend(zero, x1.compare(VectorOperators.LT, smallest));
      sum1 = w1.lanewise(FMA, one, sum1);
      w1.intoArray(scores, at + k + WIDTH);
    }
    sum0.intoArray(sum, sumAt);
    sum1.intoArray(sum, sumAt + WIDTH);
  }

  /// `mass += weights` of the keys in `[low, high)`, per lane.
  ///
  /// @param lanes rounded up to two vectors
  static void masses(
      float[] weights,
      int at,
      int keys,
      int lanes,
      float[] low,
      float[] high,
      float[] mass,
      int massAt) {
    FloatVector one = FloatVector.broadcast(FLOAT, 1f);
    FloatVector zero = FloatVector.zero(FLOAT);
    for (int j = 0; j < lanes; j += 2 * WIDTH) {
      FloatVector low0 = FloatVector.fromArray(FLOAT, low, j);
      FloatVector low1 = FloatVector.fromArray(FLOAT, low, j + WIDTH);
      FloatVector high0 = FloatVector.fromArray(FLOAT, high, j);
      FloatVector high1 = FloatVector.fromArray(FLOAT, high, j + WIDTH);
      FloatVector sum0 = FloatVector.fromArray(FLOAT, mass, massAt + j);
      FloatVector sum1 = FloatVector.fromArray(FLOAT, mass, massAt + j + WIDTH);
      FloatVector key = FloatVector.zero(FLOAT);
      for (int k = j; k < keys * COLUMNS; k += COLUMNS) {
        FloatVector w0 = FloatVector.fromArray(FLOAT, weights, at + k);
        w0 = w0.blend(zero, key.compare(VectorOperators.LT, low0));
        w0 = w0.blend(zero, key.compare(VectorOperators.GE, high0));
        sum0 = w0.lanewise(FMA, one, sum0); // not ADD, see weights2
        FloatVector w1 = FloatVector.fromArray(FLOAT, weights, at + k + WIDTH);
        w1 = w1.blend(zero, key.compare(VectorOperators.LT, low1));
        w1 = w1.blend(zero, key.compare(VectorOperators.GE, high1));
        sum1 = w1.lanewise(FMA, one, sum1);
        key = key.lanewise(FMA, one, one);
      }
      sum0.intoArray(mass, massAt + j);
      sum1.intoArray(mass, massAt + j + WIDTH);
    }
  }

  /// Backward: `p = exp(p - lse)`, `ds = p (dp - delta)` per lane, where `p` holds scores and `ds`
  /// holds dp before; both zero where unseen, even if dp is NaN.
  ///
  /// @param lanes rounded up to whole vectors
  static void gradients(
      float[] p, float[] ds, int at, int keys, int lanes, float[] lse, float[] delta) {
    FloatVector log2e = FloatVector.broadcast(FLOAT, Exp.LOG2_E);
    FloatVector round = FloatVector.broadcast(FLOAT, ROUND);
    FloatVector ln2High = FloatVector.broadcast(FLOAT, Exp.MINUS_LN2_HIGH);
    FloatVector ln2Low = FloatVector.broadcast(FLOAT, Exp.MINUS_LN2_LOW);
    FloatVector c6 = FloatVector.broadcast(FLOAT, Exp.C6);
    FloatVector c5 = FloatVector.broadcast(FLOAT, Exp.C5);
    FloatVector c4 = FloatVector.broadcast(FLOAT, Exp.C4);
    FloatVector c3 = FloatVector.broadcast(FLOAT, Exp.C3);
    FloatVector c2 = FloatVector.broadcast(FLOAT, Exp.C2);
    FloatVector one = FloatVector.broadcast(FLOAT, 1f);
    FloatVector smallest = FloatVector.broadcast(FLOAT, SMALLEST);
    FloatVector zero = FloatVector.zero(FLOAT);
    for (int j = 0; j < lanes; j += WIDTH) {
      FloatVector l = FloatVector.fromArray(FLOAT, lse, j);
      FloatVector d = FloatVector.fromArray(FLOAT, delta, j);
      for (int k = j; k < keys * COLUMNS; k += COLUMNS) {
        FloatVector x = FloatVector.fromArray(FLOAT, p, at + k).lanewise(SUB, l);
        x = x.blend(zero, x.compare(VectorOperators.GT, zero)); // rounding
        FloatVector shifted = x.lanewise(FMA, log2e, round);
        FloatVector n = shifted.lanewise(SUB, round);
        FloatVector r = n.lanewise(FMA, ln2High, x);
        r = n.lanewise(FMA, ln2Low, r);
        FloatVector e = r.lanewise(FMA, c6, c5);
        e = e.lanewise(FMA, r, c4);
        e = e.lanewise(FMA, r, c3);
        e = e.lanewise(FMA, r, c2);
        e = e.lanewise(FMA, r, one);
        e = e.lanewise(FMA, r, one);
        IntVector power = shifted.reinterpretAsInts().lanewise(VectorOperators.LSHL, 23);
        FloatVector w = e.lanewise(MUL, power.reinterpretAsFloats());
        FloatVector g = FloatVector.fromArray(FLOAT, ds, at + k).lanewise(SUB, d).lanewise(MUL, w);
        VectorMask<Float> none = x.compare(VectorOperators.LT, smallest);
        w.blend(zero, none).intoArray(p, at + k);
        g.blend(zero, none).intoArray(ds, at + k);
      }
    }
  }

  /// `x[row][lane] *= factor[lane]` for rows of 64.
  ///
  /// @param lanes rounded up to whole vectors
  static void scale(float[] x, int at, int rows, int lanes, float[] factor, int factorAt) {
    for (int j = 0; j < lanes; j += WIDTH) {
      FloatVector f = FloatVector.fromArray(FLOAT, factor, factorAt + j);
      int start = at + j;
      for (int k = 0; k < rows * COLUMNS; k += COLUMNS) {
        FloatVector.fromArray(FLOAT, x, start + k).lanewise(MUL, f).intoArray(x, start + k);
      }
    }
  }

  /// [#scale] by 1 / sum; -0, which depends on tiles of unseen keys, becomes 0.
  static void means(float[] x, int at, int rows, int lanes, float[] share) {
    for (int j = 0; j < lanes; j += WIDTH) {
      FloatVector f = FloatVector.fromArray(FLOAT, share, j);
      int start = at + j;
      for (int k = 0; k < rows * COLUMNS; k += COLUMNS) {
        FloatVector.fromArray(FLOAT, x, start + k)
            .lanewise(MUL, f)
            .lanewise(ADD, 0f)
            .intoArray(x, start + k);
      }
    }
  }

  /// `x[to + row][lane] = x[to + row][lane] keep[lane] + x[from + row][lane] take[lane]` for rows of 64.
  ///
  /// @param lanes rounded up to whole vectors
  static void merge(float[] x, int to, int from, int rows, int lanes, float[] keep, float[] take) {
    for (int j = 0; j < lanes; j += WIDTH) {
      FloatVector k = FloatVector.fromArray(FLOAT, keep, j);
      FloatVector t = FloatVector.fromArray(FLOAT, take, j);
      for (int row = j; row < rows * COLUMNS; row += COLUMNS) {
        FloatVector added = FloatVector.fromArray(FLOAT, x, from + row).lanewise(MUL, t);
        FloatVector.fromArray(FLOAT, x, to + row)
            .lanewise(MUL, k)
            .lanewise(ADD, added)
            .intoArray(x, to + row);
      }
    }
  }

  /// Whether no element of a matrix is infinite or NaN.
  ///
  /// @param row distance of rows
  static boolean isFinite(float[] x, int at, int row, int rows, int columns) {
    FloatVector zero = FloatVector.zero(FLOAT);
    int whole = columns & -WIDTH;
    for (int r = 0; r < rows; r++) {
      int from = at + r * row;
      for (int i = 0; i < whole; i += WIDTH) {
        FloatVector v = FloatVector.fromArray(FLOAT, x, from + i);
        if (!v.lanewise(FMA, zero, v).compare(VectorOperators.EQ, v).allTrue()) {
          return false;
        }
      }
      for (int i = whole; i < columns; i++) {
        if (!Float.isFinite(x[from + i])) {
          return false;
        }
      }
    }
    return true;
  }
}
