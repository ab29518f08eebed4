package io.github.retmask.scoring;

import java.util.List;
import java.util.stream.IntStream;

/// The context lengths and depths that needles are tried at.
///
/// @param lengths tokens, each 0 or more
/// @param depths percent of the haystack in front of the needle, each 0 to 100
public record NeedleGrid(List<Integer> lengths, List<Integer> depths) {
  public NeedleGrid {
    lengths = List.copyOf(lengths);
    depths = List.copyOf(depths);
    if (lengths.isEmpty() || depths.isEmpty()) {
      throw new IllegalArgumentException("needle grid: want at least one length and one depth");
    }
    for (int length : lengths) {
      if (length < 0) {
        throw new IllegalArgumentException("needle grid: length " + length + ", want 0 or more");
      }
    }
    for (int depth : depths) {
      if (depth < 0 || depth > 100) {
        throw new IllegalArgumentException("needle grid: depth " + depth + " %, want 0 to 100");
      }
    }
  }

  /// The grid of YoumiMa/RetMask: lengths 0, 263, 526, … 5000 and depths 0, 11, 22, … 100.
  public static NeedleGrid retMask() {
    return new NeedleGrid(evenly(0, 5000, 20), evenly(0, 100, 10));
  }

  /// `count` numbers from `first` to `last` at equal distances, each rounded to the nearest integer,
  /// halves to the even one (NumPy's `round(linspace(first, last, count))`).
  public static List<Integer> evenly(int first, int last, int count) {
    if (count < 1 || count == 1 && first != last) {
      throw new IllegalArgumentException(
          count + " numbers from " + first + " to " + last + ": want 2 or more");
    }
    double step = count == 1 ? 0 : (double) (last - first) / (count - 1);
    return IntStream.range(0, count)
        .mapToObj(i -> i == count - 1 ? last : (int) Math.rint(i * step + first))
        .toList();
  }
}
