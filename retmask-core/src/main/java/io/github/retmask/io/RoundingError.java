package io.github.retmask.io;

import io.github.retmask.tensor.Tensor;
import java.util.stream.LongStream;

/// By how much rounding changed a matrix, or several.
///
/// @param squaredError sum of the squared differences
/// @param squaredNorm sum of the squares of what was rounded
/// @param largest largest magnitude of a difference
public record RoundingError(double squaredError, double squaredNorm, double largest) {
  /// Of no matrix.
  public static final RoundingError NONE = new RoundingError(0, 0, 0);

  /// The error of a matrix; the same to the bit however many threads look.
  ///
  /// @param stored `[N,I]`
  /// @param rounded `[N,I]`
  static RoundingError between(Tensor stored, Tensor rounded, boolean isParallel) {
    LongStream rows = LongStream.range(0, stored.dim(0));
    return (isParallel ? rows.parallel() : rows)
            .mapToObj(row -> ofRow(stored.slice(row, row + 1), rounded.slice(row, row + 1)))
            .toList()
            .stream()
            .reduce(NONE, RoundingError::and);
  }

  private static RoundingError ofRow(Tensor stored, Tensor rounded) {
    float[] was = stored.toFloats();
    float[] is = rounded.toFloats();
    double squaredError = 0;
    double squaredNorm = 0;
    double largest = 0;
    for (int i = 0; i < was.length; i++) {
      double off = (double) is[i] - was[i];
      squaredError += off * off;
      squaredNorm += (double) was[i] * was[i];
      largest = Math.max(largest, Math.abs(off));
    }
    return new RoundingError(squaredError, squaredNorm, largest);
  }

  /// This and another one together.
  public RoundingError and(RoundingError other) {
    return new RoundingError(
        squaredError + other.squaredError,
        squaredNorm + other.squaredNorm,
        Math.max(largest, other.largest));
  }

  /// The error relative to what was rounded, in the Frobenius norm: `||W - Wq|| / ||W||`. Zero where
  /// all was zero.
  public double relative() {
    return squaredNorm == 0 ? 0 : Math.sqrt(squaredError / squaredNorm);
  }
}
