package io.github.retmask.kernels.cpu;

/// How the inner dimension of a product is laid out when packed. Step k belongs to chain `k mod
/// chains`; a chain is cut into passes, so that what a tile reads of B in one go fits L1.
/// Packed operands hold, pass after pass, one slice per chain, of an even number of steps. The last
/// steps of chains that come out shorter are -0 in A and 0 in B: adding their product, -0, leaves
/// every sum as it is, 0 and -0 too.
///
/// @param inner elements of the inner dimension
/// @param chains sums per output
/// @param length steps of a chain, an even number
/// @param passes pieces of a chain
record ChainLayout(int inner, int chains, int length, int passes) {
  /// Floats between slices, so that what is transposed does not all go to one set of L1.
  private static final int APART = 16;

  /// Steps of a pass at most. A slice of a tile's columns of B then takes at most 16 KiB, half of an
  /// L1: the work around a tile shows with less, and 32 KiB take up to a quarter longer.
  private static final int DEPTH = Math.min(256, 4096 / Tiles.COLUMNS) & -8;

  static ChainLayout of(int inner, int chains) {
    int length = ((inner + chains - 1) / chains + 1) & -2;
    return new ChainLayout(inner, chains, length, Math.max(1, (length + DEPTH - 1) / DEPTH));
  }

  /// First step of a pass within its chain. Passes come out equally long, but in whole blocks of what
  /// packing takes at once: eight steps.
  int begin(int pass) {
    return pass == passes ? length : (int) ((long) length * pass / passes) & -8;
  }

  /// Steps of a pass.
  int steps(int pass) {
    return begin(pass + 1) - begin(pass);
  }

  /// First k of a pass.
  int firstOf(int pass) {
    return Math.min(inner, begin(pass) * chains);
  }

  /// Floats of a slice of so many lines, up to the next slice.
  int sliceSize(int pass, int lines) {
    return steps(pass) * lines + APART;
  }

  /// Where a slice begins among those of so many lines.
  int at(int pass, int chain, int lines) {
    return chains * (begin(pass) * lines + pass * APART) + chain * sliceSize(pass, lines);
  }

  /// Floats of so many packed lines.
  int size(int lines) {
    return chains * (length * lines + passes * APART);
  }
}
