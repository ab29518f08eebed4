package io.github.retmask.backend;

import io.github.retmask.tensor.Shape;
import java.util.Locale;

/// Compares whole tensors and names the worst element. NaN equals NaN only, an infinity only
/// itself.
public final class TensorAssert {
  /// Unit roundoff of F32: the relative error of one operation.
  public static final double EPS = 0x1p-24;

  private final String what;
  private final Shape shape;
  private final float[] got;

  private TensorAssert(String what, Shape shape, float[] got) {
    this.what = what;
    this.shape = shape;
    this.got = got;
  }

  /// Starts a comparison.
  ///
  /// @param what op and output, such as `matmul out`
  /// @param got row-major values
  /// @param dims their shape; none for one axis
  public static TensorAssert assertThat(String what, float[] got, long... dims) {
    Shape shape = dims.length == 0 ? Shape.of(got.length) : Shape.of(dims);
    if (shape.size() != got.length) {
      throw new AssertionError(what + ": " + got.length + " values, shape " + shape);
    }
    return new TensorAssert(what, shape, got);
  }

  /// Every element differs by no more than its tolerance.
  ///
  /// @param source where the tolerance comes from
  public void isClose(double[] want, double[] tolerance, String source) {
    sameLength(want.length);
    sameLength(tolerance.length);
    int wrong = 0;
    int worst = -1;
    double worstRatio = 0;
    for (int i = 0; i < got.length; i++) {
      double diff = Math.abs(got[i] - want[i]);
      boolean same =
          Double.isFinite(want[i])
              ? diff <= tolerance[i] // false for NaN
              : Double.compare(got[i], want[i]) == 0;
      if (!same) {
        double ratio = Double.isFinite(diff) ? diff / tolerance[i] : Double.POSITIVE_INFINITY;
        wrong++;
        if (worst < 0 || ratio > worstRatio) {
          worst = i;
          worstRatio = ratio;
        }
      }
    }
    if (wrong > 0) {
      throw failure(
          wrong,
          worst,
          String.valueOf(want[worst]),
          String.format(
              Locale.ROOT,
              ", |diff| %.3g > tolerance %.3g (%s)",
              Math.abs(got[worst] - want[worst]),
              tolerance[worst],
              source));
    }
  }

  /// Every element has the same 32 bits; NaNs are equal whatever their payload.
  public void hasBits(float... want) {
    sameLength(want.length);
    int wrong = 0;
    int first = -1;
    for (int i = 0; i < got.length; i++) {
      if (Float.floatToIntBits(got[i]) != Float.floatToIntBits(want[i])) {
        wrong++;
        first = first < 0 ? i : first;
      }
    }
    if (wrong > 0) {
      String bits =
          String.format(
              " (bits %08x, want %08x)",
              Float.floatToIntBits(got[first]), Float.floatToIntBits(want[first]));
      throw failure(wrong, first, String.valueOf(want[first]), bits);
    }
  }

  private void sameLength(int length) {
    if (length != got.length) {
      throw new AssertionError(what + ": " + got.length + " values, want " + length);
    }
  }

  private AssertionError failure(int wrong, int at, String want, String more) {
    return new AssertionError(
        "%s %s: %d of %d elements wrong, worst at %s: want %s, got %s%s"
            .formatted(what, shape, wrong, got.length, index(at), want, got[at], more));
  }

  private String index(int flat) {
    long[] at = new long[shape.rank()];
    long rest = flat;
    for (int axis = shape.rank() - 1; axis >= 0; axis--) {
      at[axis] = rest % shape.dim(axis);
      rest /= shape.dim(axis);
    }
    return Shape.of(at).toString();
  }
}
