package io.github.retmask.kernels.cpu;

import io.github.retmask.tensor.Tensor;
import java.lang.foreign.MemorySegment;

/// [RowDots] of rows as they are stored, four a call: chains are lanes of a vector of eight, or of two
/// of four.
///
/// C2 compiles what kernels share for the one that it has seen, and again, in a hurry, once another is
/// loaded. A kernel inlined then has no profile, its calls of our methods stay calls, and vectors stay
/// objects. So `one` and `two` call no methods of ours and have more than 325 bytes of code, which are
/// too many to be inlined.
abstract class StoredRowDots implements RowDots {
  /// Rows of the weight per call.
  static final int ROWS = 4;

  /// Slot of the scratch arrays that holds x, or the weight where they have changed places; [FewRows]
  /// has the next.
  static final int X = 0;

  @Override
  public final Inputs inputs(Tensor x, Scratch scratch) {
    return new Inputs(read(x, scratch), new long[0]);
  }

  /// The elements of x, widened.
  static float[] read(Tensor x, Scratch scratch) {
    int rows = (int) x.dim(0);
    int inner = (int) x.dim(1);
    float[] floats = scratch.floats(X, rows * inner);
    Blocks.readWide(floats, 0, inner, x, 0, 0, rows, inner, scratch);
    return floats;
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
      one(weight, at, apart, x.floats(), first * inner, inner, sums, sumsAt);
    } else {
      two(weight, at, apart, x.floats(), first * inner, inner, sums, sumsAt);
    }
    for (int k = inner - inner % CHAINS; k < inner; k++) { // what fills no vector
      for (int i = 0; i < ROWS; i++) {
        float w = element(weight, at + i * apart, k);
        for (int r = 0; r < count; r++) {
          int chain = sumsAt + r * LEFT + i * CHAINS + k % CHAINS;
          sums[chain] = Math.fma(x.floats()[(first + r) * inner + k], w, sums[chain]);
        }
      }
    }
  }

  /// Element k of a row.
  ///
  /// @param at byte of the row
  abstract float element(MemorySegment weight, long at, int k);

  /// The whole steps with one row of x.
  abstract void one(
      MemorySegment weight,
      long at,
      long row,
      float[] x,
      int xAt,
      int inner,
      float[] sums,
      int sumsAt);

  /// The whole steps with two rows of x.
  abstract void two(
      MemorySegment weight,
      long at,
      long row,
      float[] x,
      int xAt,
      int inner,
      float[] sums,
      int sumsAt);
}
