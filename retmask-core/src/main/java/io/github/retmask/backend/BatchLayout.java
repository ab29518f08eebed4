package io.github.retmask.backend;

/// How the rows of a batch lie in packed tensors, without padding.
///
/// Row r owns tokens `[tokenStart(r), tokenStart(r + 1))` of every `[N, ...]` tensor. Its first
/// token has position `past(r)`. Its keys and values are entries `keyStart(r) + position` of
/// `[keys, Hkv, D]` tensors, for positions `0` to `keys(r) - 1`. Immutable.
public final class BatchLayout {
  private final int[] tokenStart; // [B+1]
  private final int[] past; // [B]
  private final int[] keyStart; // [B]

  private BatchLayout(int[] lengths, int[] past, int[] keyStart) {
    this.tokenStart = new int[lengths.length + 1];
    for (int r = 0; r < lengths.length; r++) {
      if (lengths[r] < 1) {
        throw new IllegalArgumentException(
            "row " + r + " has " + lengths[r] + " tokens, want at least 1");
      }
      tokenStart[r + 1] = Math.addExact(tokenStart[r], lengths[r]);
    }
    this.past = past;
    this.keyStart = keyStart;
  }

  /// Whole sequences without a cache: keys lie where the tokens lie.
  ///
  /// @param lengths tokens per row
  public static BatchLayout packed(int... lengths) {
    int[] keyStart = new int[lengths.length];
    for (int r = 1; r < lengths.length; r++) {
      keyStart[r] = keyStart[r - 1] + lengths[r - 1];
    }
    return new BatchLayout(lengths, new int[lengths.length], keyStart);
  }

  /// Continuations of cached sequences.
  ///
  /// @param lengths new tokens per row
  /// @param past tokens already cached per row
  /// @param keyStart index of each row's position 0 in the cache
  public static BatchLayout cached(int[] lengths, int[] past, int[] keyStart) {
    if (lengths.length != past.length || lengths.length != keyStart.length) {
      throw new IllegalArgumentException(
          "batch layout: %d lengths, %d pasts, %d key starts"
              .formatted(lengths.length, past.length, keyStart.length));
    }
    return new BatchLayout(lengths, past.clone(), keyStart.clone());
  }

  /// B, the number of rows.
  public int rows() {
    return past.length;
  }

  /// N, the number of tokens of all rows.
  public int tokens() {
    return tokenStart[past.length];
  }

  /// Index of the row's first token; `tokenStart(rows())` is N.
  public int tokenStart(int row) {
    return tokenStart[row];
  }

  /// T, the new tokens of a row.
  public int length(int row) {
    return tokenStart[row + 1] - tokenStart[row];
  }

  /// Position of the row's first token: what the cache held before.
  public int past(int row) {
    return past[row];
  }

  /// S, the keys of a row: past and new.
  public int keys(int row) {
    return past[row] + length(row);
  }

  /// Index of the row's position 0 in key and value tensors.
  public int keyStart(int row) {
    return keyStart[row];
  }

  /// The row that owns a token.
  public int rowOf(int token) {
    int at = java.util.Arrays.binarySearch(tokenStart, token);
    return at >= 0 ? at : -at - 2;
  }

  /// Position of every token within its row, `[N]`.
  public int[] positions() {
    int[] positions = new int[tokens()];
    for (int r = 0; r < rows(); r++) {
      for (int t = 0; t < length(r); t++) {
        positions[tokenStart[r] + t] = past[r] + t;
      }
    }
    return positions;
  }

  /// Where every token's key goes in `[keys, Hkv, D]` tensors, `[N]`.
  public int[] keyRows() {
    int[] rows = positions();
    for (int r = 0; r < rows(); r++) {
      for (int n = tokenStart[r]; n < tokenStart[r + 1]; n++) {
        rows[n] += keyStart[r];
      }
    }
    return rows;
  }
}
