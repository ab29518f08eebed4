package io.github.retmask.generate;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.github.retmask.generate.PairFilter.Answer;
import java.util.Arrays;
import org.junit.jupiter.api.Test;

class PairFilterTest {
  private static final Answer SHORT = answer(FinishReason.STOP, 1, 2, 3);
  private static final Answer LONG = answer(FinishReason.LENGTH, 1, 2, 3, 4, 5, 6, 7);

  private static Answer answer(FinishReason finish, int... ids) {
    return new Answer(ids, Arrays.toString(ids), finish);
  }

  @Test
  void nothingButEqualTextsIsDroppedByDefault() {
    assertThat(PairFilter.NONE.reason(SHORT, LONG)).isNull();
    Answer sameText = new Answer(new int[] {9}, SHORT.text(), FinishReason.LENGTH);
    assertThat(PairFilter.NONE.reason(SHORT, sameText)).isEqualTo(DropReason.IDENTICAL);
  }

  @Test
  void everyFilterDropsWhatItNamesOnEitherSide() {
    assertEitherSide(new PairFilter(true, 0, 0, false), DropReason.UNFINISHED);
    assertEitherSide(new PairFilter(false, 6, 0, false), DropReason.LONG_RESPONSE);
    assertThat(new PairFilter(false, 7, 0, false).reason(SHORT, LONG)).isNull();
    assertEitherSide(new PairFilter(false, 0, 2.3, false), DropReason.LENGTH_RATIO);
    assertThat(new PairFilter(false, 0, 7 / 3.0, false).reason(SHORT, LONG)).isNull();
  }

  private static void assertEitherSide(PairFilter filter, DropReason reason) {
    assertThat(filter.reason(SHORT, LONG)).isEqualTo(reason);
    assertThat(filter.reason(LONG, SHORT)).isEqualTo(reason);
    assertThat(filter.reason(SHORT, answer(FinishReason.STOP, 5, 6))).isNull();
  }

  @Test
  void aLoopIsAPieceFourTimesAtTheEnd() {
    assertThat(PairFilter.endsInLoop(repeated(1, 16, 7))).isTrue();
    assertThat(PairFilter.endsInLoop(repeated(1, 15, 7))).isFalse();
    assertThat(PairFilter.endsInLoop(repeated(0, 4, 1, 2, 3, 4, 5))).isTrue();
    assertThat(PairFilter.endsInLoop(repeated(0, 3, 1, 2, 3, 4, 5, 6, 7))).isFalse();
    int[] broken = repeated(3, 4, 1, 2, 3, 4, 5);
    assertThat(PairFilter.endsInLoop(broken)).isTrue();
    broken[broken.length - 1] = 99;
    assertThat(PairFilter.endsInLoop(broken)).isFalse();
    assertThat(PairFilter.endsInLoop(new int[0])).isFalse();
    Answer loops = answer(FinishReason.STOP, repeated(2, 5, 8, 9, 8, 1));
    assertThat(new PairFilter(false, 0, 0, true).reason(SHORT, loops)).isEqualTo(DropReason.LOOP);
    assertThat(PairFilter.NONE.reason(SHORT, loops)).isNull();
  }

  /// Different numbers, then a piece some times over.
  private static int[] repeated(int before, int times, int... piece) {
    int[] ids = new int[before + times * piece.length];
    for (int i = 0; i < ids.length; i++) {
      ids[i] = i < before ? 100 + i : piece[(i - before) % piece.length];
    }
    return ids;
  }

  @Test
  void firstDivergenceIsTheFirstDifferentToken() {
    assertThat(ContrastiveSampler.firstDivergence(new int[] {1, 2}, new int[] {1, 3})).isEqualTo(1);
    assertThat(ContrastiveSampler.firstDivergence(new int[] {1}, new int[] {1, 3})).isEqualTo(1);
    assertThat(ContrastiveSampler.firstDivergence(new int[] {4, 1}, new int[] {1})).isZero();
  }

  @Test
  void limitsOutsideTheirRangeAreNamed() {
    assertThatThrownBy(() -> new PairFilter(false, -1, 0, false)).hasMessageContaining("-1 tokens");
    assertThatThrownBy(() -> new PairFilter(false, 0, 0.5, false))
        .hasMessageContaining("ratio 0.5");
    assertThatThrownBy(() -> new PairFilter(false, 0, Double.NaN, false))
        .hasMessageContaining("ratio NaN");
  }
}
