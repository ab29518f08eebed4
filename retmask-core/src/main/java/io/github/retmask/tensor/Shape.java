package io.github.retmask.tensor;

import java.util.Arrays;

/// Extents of a tensor, outermost first. Immutable; prints as `[2, 16, 2048]`.
public final class Shape {
  private final long[] dims;
  private final long size;

  private Shape(long[] dims) {
    long size = 1;
    for (long dim : dims) {
      if (dim < 0) {
        throw new IllegalArgumentException(
            "shape " + Arrays.toString(dims) + " has a negative extent");
      }
      size = Math.multiplyExact(size, dim);
    }
    this.dims = dims;
    this.size = size;
  }

  /// A shape with these extents; no extents make a scalar.
  ///
  /// @throws IllegalArgumentException on a negative extent
  /// @throws ArithmeticException when the element count exceeds a long
  public static Shape of(long... dims) {
    return new Shape(dims.clone());
  }

  /// Number of extents.
  public int rank() {
    return dims.length;
  }

  /// Extent `axis`; negative axes count from the end, so `dim(-1)` is the innermost.
  public long dim(int axis) {
    return dims[axis < 0 ? axis + dims.length : axis];
  }

  /// Number of elements.
  public long size() {
    return size;
  }

  /// A copy of the extents.
  public long[] dims() {
    return dims.clone();
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof Shape that && Arrays.equals(dims, that.dims);
  }

  @Override
  public int hashCode() {
    return Arrays.hashCode(dims);
  }

  @Override
  public String toString() {
    return Arrays.toString(dims);
  }
}
