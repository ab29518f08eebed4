package io.github.retmask.train;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.entry;

import io.github.retmask.train.PreferenceData.Dropped;
import java.util.List;
import org.junit.jupiter.api.Test;

class PreferenceDataTest {
  private static final int[] NONE = {};

  @Test
  void unusablePairsAreLeftOutWholeAndCounted() {
    PreferencePair fits = pair(ids(1, 2), ids(3, 4), ids(5));
    PreferencePair longer = pair(ids(1, 2), ids(3), ids(5, 6, 7));
    PreferenceData data =
        PreferenceData.of(
            List.of(
                longer,
                fits,
                pair(ids(1, 2, 3), ids(4, 5), ids(6)),
                pair(NONE, ids(3), ids(4)),
                pair(ids(1), NONE, ids(4)),
                pair(ids(1), ids(4), NONE),
                pair(ids(1), ids(4, 4), ids(4, 4))),
            4);
    assertThat(data.pairs()).containsExactly(fits);
    assertThat(data.dropped())
        .containsExactly(
            entry(Dropped.TOO_LONG, 2),
            entry(Dropped.EMPTY_PROMPT, 1),
            entry(Dropped.EMPTY_COMPLETION, 2),
            entry(Dropped.IDENTICAL, 1));
  }

  @Test
  void nothingUsableIsRefusedWithTheCounts() {
    assertThatThrownBy(() -> PreferenceData.of(List.of(pair(ids(1, 2), ids(3), ids(4))), 2))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessage(
            "preference pairs: none of 1 is usable at up to 2 tokens; left out: {TOO_LONG=1}");
  }

  @Test
  void rowsLabelTheCompletionOnly() {
    PreferencePair pair = pair(ids(1, 2), ids(3, 4), ids(5));
    assertThat(pair.chosenRow().ids()).containsExactly(1, 2, 3, 4);
    assertThat(pair.chosenRow().weights()).containsExactly(0, 0, 1, 1);
    assertThat(pair.rejectedRow().ids()).containsExactly(1, 2, 5);
    assertThat(pair.rejectedRow().weights()).containsExactly(0, 0, 1);
  }

  @Test
  void theFingerprintSeesWhereAPromptEnds() {
    PreferenceData one = PreferenceData.of(List.of(pair(ids(1, 2), ids(3), ids(4))), 9);
    PreferenceData other = PreferenceData.of(List.of(pair(ids(1), ids(2, 3), ids(4))), 9);
    assertThat(one.fingerprint()).isNotEqualTo(other.fingerprint());
  }

  private static PreferencePair pair(int[] prompt, int[] chosen, int[] rejected) {
    return new PreferencePair(prompt, chosen, rejected);
  }

  private static int[] ids(int... ids) {
    return ids;
  }
}
