package io.github.retmask.heads;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import java.util.List;
import java.util.SequencedMap;
import org.junit.jupiter.api.Test;

class HeadScoresTest {
  // 2 layers x 3 heads in 4 trials; trial 3 repeats trial 1
  private static final double[][] BY_HEAD = {
    {0, 0.5, 1, 0.5}, {0, 0, 0, 0}, {1, 0.5, 0, 0.5},
    {0, 0.25, 0, 0.25}, {1, 1, 1, 1}, {0, 0, 0, 0}
  };
  private final HeadScores scores = HeadScores.ofHeads(2, 3, BY_HEAD);

  private static HeadId id(String text) {
    return HeadId.parse(text);
  }

  private static List<HeadId> ids(String... texts) {
    return List.of(texts).stream().map(HeadId::parse).toList();
  }

  @Test
  void rankingIsByMeanThenByLayerThenByHead() {
    assertThat(scores.ranking()).isEqualTo(ids("1-1", "0-0", "0-2", "1-0", "0-1", "1-2"));
    assertThat(scores.top(3)).isEqualTo(ids("1-1", "0-0", "0-2"));
    assertThat(scores.top(0)).isEmpty();
    assertThatIllegalArgumentException()
        .isThrownBy(() -> scores.top(7))
        .withMessage("top 7 of 6 heads");
  }

  @Test
  void thresholdIncludesHeadsExactlyOnIt() {
    assertThat(scores.mean(id("0-2"))).isEqualTo(0.5);
    assertThat(scores.atLeast(0.5)).isEqualTo(ids("1-1", "0-0", "0-2"));
    assertThat(scores.atLeast(Math.nextUp(0.5))).isEqualTo(ids("1-1"));
    assertThat(scores.atLeast(0)).hasSize(6);
  }

  @Test
  void orderOfTrialsDoesNotMoveTheMean() {
    double[] values = new double[1000];
    for (int i = 0; i < values.length; i++) {
      values[i] = (i % 18) / 17.0;
    }
    double[] reversed = new double[values.length];
    for (int i = 0; i < values.length; i++) {
      reversed[values.length - 1 - i] = values[i];
    }
    HeadScores both = HeadScores.ofHeads(1, 2, new double[][] {values, reversed});
    assertThat(both.mean(id("0-0"))).isEqualTo(both.mean(id("0-1")));
  }

  @Test
  void trialsAndHeadsAreTwoViewsOfOneTable() {
    HeadScores same =
        HeadScores.ofTrials(
            2,
            3,
            List.of(
                new double[] {0, 0, 1, 0, 1, 0},
                new double[] {0.5, 0, 0.5, 0.25, 1, 0},
                new double[] {1, 0, 0, 0, 1, 0},
                new double[] {0.5, 0, 0.5, 0.25, 1, 0}));
    assertThat(same).isEqualTo(scores).hasSameHashCodeAs(scores);
    assertThat(same.scores(id("0-2"))).containsExactly(1, 0.5, 0, 0.5);
    assertThat(same.score(id("1-0"), 3)).isEqualTo(0.25);
  }

  @Test
  void callersCannotChangeTheScores() {
    double[][] mine = {{0.5}, {0.25}};
    HeadScores kept = HeadScores.ofHeads(1, 2, mine);
    mine[0][0] = 9;
    kept.scores(id("0-1"))[0] = 9;
    assertThat(kept.scores(id("0-0"))).containsExactly(0.5);
    assertThat(kept.scores(id("0-1"))).containsExactly(0.25);
  }

  @Test
  void equalTrialsPointToTheirFirstOccurrence() {
    assertThat(scores.firstEqual()).containsExactly(0, 1, 2, 1);
  }

  @Test
  void groupsKeepTheirTrialsInOrderOfFirstLabel() {
    SequencedMap<String, HeadScores> groups = scores.byGroup(List.of("b", "a", "b", "a"));
    assertThat(groups.keySet()).containsExactly("b", "a");
    assertThat(groups.get("b").scores(id("0-0"))).containsExactly(0, 1);
    assertThat(groups.get("a").scores(id("1-0"))).containsExactly(0.25, 0.25);
    assertThatIllegalArgumentException().isThrownBy(() -> scores.byGroup(List.of("a")));
  }

  @Test
  void brokenScoresAreRefusedByHead() {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> HeadScores.ofHeads(1, 2, new double[][] {{0, 1}, {0}}))
        .withMessage("head 0-1 has 1 scores, head 0-0 has 2: want one a trial for every head");
    for (double bad : new double[] {Double.NaN, Double.POSITIVE_INFINITY, -0.1}) {
      assertThatIllegalArgumentException()
          .isThrownBy(() -> HeadScores.ofHeads(1, 2, new double[][] {{0}, {bad}}))
          .withMessageStartingWith("head 0-1 has the score " + bad);
    }
    assertThatIllegalArgumentException()
        .isThrownBy(() -> HeadScores.ofHeads(1, 1, new double[][] {{}}))
        .withMessageContaining("no trial");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> HeadScores.ofHeads(2, 2, new double[][] {{1}}))
        .withMessage("scores of 1 heads, want 2 layers x 2 heads");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> HeadScores.ofTrials(1, 2, List.of(new double[] {1})))
        .withMessage("trial 0 scores 1 heads, want 1 layers x 2 heads");
    assertThatIllegalArgumentException()
        .isThrownBy(() -> scores.mean(id("2-0")))
        .withMessageContaining("head 2-0 is not scored");
  }
}
