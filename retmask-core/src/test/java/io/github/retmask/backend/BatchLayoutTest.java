package io.github.retmask.backend;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.junit.jupiter.api.Test;

class BatchLayoutTest {

  @Test
  void packedRowsKeepTheirKeysWhereTheirTokensLie() {
    BatchLayout layout = BatchLayout.packed(3, 1, 4);
    assertThat(layout.rows()).isEqualTo(3);
    assertThat(layout.tokens()).isEqualTo(8);
    assertThat(layout.positions()).containsExactly(0, 1, 2, 0, 0, 1, 2, 3);
    assertThat(layout.keyRows()).containsExactly(0, 1, 2, 3, 4, 5, 6, 7);
    assertThat(layout.keys(2)).isEqualTo(4);
    assertThat(layout.past(1)).isZero();
  }

  @Test
  void cachedRowsContinueAnywhere() {
    BatchLayout layout = BatchLayout.cached(new int[] {2, 1}, new int[] {5, 0}, new int[] {100, 3});
    assertThat(layout.positions()).containsExactly(5, 6, 0);
    assertThat(layout.keyRows()).containsExactly(105, 106, 3);
    assertThat(layout.keys(0)).isEqualTo(7);
    assertThat(layout.keyStart(1)).isEqualTo(3);
  }

  @Test
  void everyTokenHasItsRow() {
    BatchLayout layout = BatchLayout.packed(3, 1, 4);
    int[] rows = {0, 0, 0, 1, 2, 2, 2, 2};
    for (int n = 0; n < rows.length; n++) {
      assertThat(layout.rowOf(n)).as("token %d", n).isEqualTo(rows[n]);
    }
  }

  @Test
  void laterChangesOfTheArraysDoNotReachIt() {
    int[] past = {5};
    int[] keyStart = {7};
    BatchLayout layout = BatchLayout.cached(new int[] {1}, past, keyStart);
    past[0] = 0;
    keyStart[0] = 0;
    assertThat(layout.keyRows()).containsExactly(12);
  }

  @Test
  void refusesEmptyRowsAndUnequalCounts() {
    assertThatThrownBy(() -> BatchLayout.packed(2, 0))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("row 1 has 0 tokens, want at least 1");
    assertThatThrownBy(() -> BatchLayout.cached(new int[2], new int[1], new int[2]))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage("batch layout: 2 lengths, 1 pasts, 2 key starts");
  }
}
