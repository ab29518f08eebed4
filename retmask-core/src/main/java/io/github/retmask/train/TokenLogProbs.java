package io.github.retmask.train;

/// Log-probabilities of the labelled tokens of a [LabelledBatch].
///
/// @param values `[M]`, row by row
/// @param rowStart `[B+1]`, index of each row's first value; the last entry is M
public record TokenLogProbs(float[] values, int[] rowStart) {

  /// B.
  public int rows() {
    return rowStart.length - 1;
  }

  /// Log-probability of a row's labelled tokens together: their sum, in double.
  public double sum(int row) {
    double sum = 0;
    for (int i = rowStart[row]; i < rowStart[row + 1]; i++) {
      sum += values[i];
    }
    return sum;
  }
}
