package io.github.retmask.heads;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;

import io.github.retmask.random.SplitMix64;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

class ControlHeadsTest {
  private static HeadScores grid(int layers, int heads) {
    SplitMix64 random = new SplitMix64(11);
    double[][] byHead = new double[layers * heads][1];
    for (double[] head : byHead) {
      head[0] = random.nextDouble();
    }
    return HeadScores.ofHeads(layers, heads, byHead);
  }

  private static List<HeadId> ids(String... texts) {
    return List.of(texts).stream().map(HeadId::parse).toList();
  }

  private static int[] perLayer(int layers, List<HeadId> heads) {
    int[] counts = new int[layers];
    heads.forEach(id -> counts[id.layer()]++);
    return counts;
  }

  @Test
  void everyControlHasAsManyHeadsAsTheRetrievalSet() {
    HeadScores scores = grid(5, 6);
    List<HeadId> retrieval = scores.top(7);
    ControlHeads controls = new ControlHeads(scores, retrieval);
    for (Control control : Control.values()) {
      for (ControlHeads.Draw draw : controls.draw(control, 20, 42)) {
        assertThat(draw.heads()).hasSize(7).doesNotHaveDuplicates().isSorted();
        if (control == Control.NON_RETRIEVAL || control == Control.LAYER_MATCHED) {
          assertThat(draw.heads()).doesNotContainAnyElementsOf(retrieval);
        }
      }
    }
  }

  @Test
  void aSeedGivesTheSameHeadsEverywhere() {
    ControlHeads controls = new ControlHeads(grid(4, 5), ids("0-1", "2-3", "2-4"));
    // Worked out from the published algorithm by a separate program.
    assertThat(draws(controls, Control.RANDOM)).isEqualTo(RANDOM_42);
    assertThat(draws(controls, Control.NON_RETRIEVAL)).isEqualTo(NON_RETRIEVAL_42);
    assertThat(draws(controls, Control.LAYER_MATCHED)).isEqualTo(LAYER_MATCHED_42);
  }

  private static final String RANDOM_42 = "0-1,2-2,3-2 1-2,3-3,3-4 0-3,1-1,2-3";
  private static final String NON_RETRIEVAL_42 = "0-0,0-3,3-3 1-4,3-0,3-3 1-0,1-2,2-0";
  private static final String LAYER_MATCHED_42 = "0-0,2-1,2-2 0-2,2-0,2-1 0-0,2-0,2-2";

  private static String draws(ControlHeads controls, Control control) {
    return controls.draw(control, 3, 42).stream()
        .map(d -> d.heads().stream().map(HeadId::toString).collect(Collectors.joining(",")))
        .collect(Collectors.joining(" "));
  }

  @Test
  void drawsDoNotDependOnHowManyAreAskedFor() {
    ControlHeads controls = new ControlHeads(grid(4, 5), ids("0-1", "2-3"));
    for (Control control : Control.values()) {
      assertThat(controls.draw(control, 9, 1).subList(0, 4))
          .isEqualTo(controls.draw(control, 4, 1));
      assertThat(new HashSet<>(controls.draw(control, 9, 1)).size() > 1)
          .isEqualTo(control != Control.BOTTOM);
    }
  }

  @Test
  void randomControlReachesAllHeadsAndNonRetrievalAllOthers() {
    HeadScores scores = grid(2, 4);
    List<HeadId> retrieval = ids("0-0", "1-3");
    ControlHeads controls = new ControlHeads(scores, retrieval);
    Set<HeadId> random = new HashSet<>();
    controls.draw(Control.RANDOM, 100, 3).forEach(d -> random.addAll(d.heads()));
    assertThat(random).containsExactlyInAnyOrderElementsOf(scores.ids());
    Set<HeadId> others = new HashSet<>();
    controls.draw(Control.NON_RETRIEVAL, 100, 3).forEach(d -> others.addAll(d.heads()));
    assertThat(others).hasSize(6).doesNotContainAnyElementsOf(retrieval);
  }

  @Test
  void layerMatchedTakesAsManyFromEachLayer() {
    HeadScores scores = grid(3, 7);
    List<HeadId> retrieval = ids("0-1", "0-5", "2-0", "2-1", "2-2");
    for (ControlHeads.Draw draw :
        new ControlHeads(scores, retrieval).draw(Control.LAYER_MATCHED, 30, 5)) {
      assertThat(perLayer(3, draw.heads())).containsExactly(2, 0, 3);
      assertThat(draw.displaced()).isZero();
    }
  }

  /// Layer 2 of five, 4 heads each: all four are retrieval heads, none is left there. Layer 1 keeps 2
  /// of 3 others after its own part and gives them first, then layer 3 gives one, which leaves one.
  @Test
  void layersWithTooFewHeadsBorrowFromTheNearest() {
    HeadScores scores = grid(5, 4);
    List<HeadId> retrieval = ids("1-0", "2-0", "2-1", "2-2", "2-3");
    for (ControlHeads.Draw draw :
        new ControlHeads(scores, retrieval).draw(Control.LAYER_MATCHED, 10, 5)) {
      assertThat(perLayer(5, draw.heads())).containsExactly(0, 3, 0, 2, 0);
      assertThat(draw.displaced()).isEqualTo(4);
      assertThat(draw.heads()).doesNotContainAnyElementsOf(retrieval);
    }
  }

  @Test
  void controlsThatCannotExistAreRefused() {
    HeadScores scores = grid(2, 3);
    ControlHeads controls = new ControlHeads(scores, scores.top(4));
    for (Control control : List.of(Control.NON_RETRIEVAL, Control.LAYER_MATCHED)) {
      assertThatIllegalArgumentException()
          .isThrownBy(() -> controls.draw(control, 1, 0))
          .withMessage(
              "%s control of 4 heads: only 2 heads are outside the retrieval set; raise the threshold"
                  .formatted(control.label()));
    }
    assertThat(controls.draw(Control.RANDOM, 1, 0).getFirst().heads()).hasSize(4);
    assertThatIllegalArgumentException()
        .isThrownBy(() -> new ControlHeads(scores, ids("2-0")))
        .withMessageContaining("head 2-0 is not scored");
  }

  @Test
  void exactlyHalfOfAllHeadsStillHasALayerMatchedControl() {
    HeadScores scores = grid(4, 3);
    List<HeadId> retrieval = ids("0-0", "0-1", "0-2", "3-0", "3-1", "3-2");
    ControlHeads.Draw draw =
        new ControlHeads(scores, retrieval).draw(Control.LAYER_MATCHED, 1, 8).getFirst();
    assertThat(perLayer(4, draw.heads())).containsExactly(0, 3, 3, 0);
    assertThat(draw.displaced()).isEqualTo(6);
  }

  @Test
  void bottomControlIsTheLowestMeansAndDrawsAmongTies() {
    double[][] byHead = {{0.9}, {0.5}, {0}, {0}, {0}, {0}, {0.1}, {0.05}};
    HeadScores scores = HeadScores.ofHeads(2, 4, byHead);
    ControlHeads two = new ControlHeads(scores, scores.top(2));
    Set<HeadId> reached = new HashSet<>();
    two.draw(Control.BOTTOM, 60, 4).forEach(d -> reached.addAll(d.heads()));
    assertThat(reached).containsExactlyInAnyOrderElementsOf(ids("0-2", "0-3", "1-0", "1-1"));
    ControlHeads six = new ControlHeads(scores, scores.top(6));
    assertThat(six.draw(Control.BOTTOM, 1, 4).getFirst().heads())
        .isEqualTo(ids("0-2", "0-3", "1-0", "1-1", "1-2", "1-3"));
  }

  @Test
  void anEmptyRetrievalSetHasEmptyControls() {
    ControlHeads none = new ControlHeads(grid(2, 2), List.of());
    for (Control control : Control.values()) {
      assertThat(none.draw(control, 2, 0)).allMatch(d -> d.heads().isEmpty()).hasSize(2);
    }
  }

  @Test
  void controlsAreReadByTheirLabels() {
    for (Control control : Control.values()) {
      assertThat(Control.parse(control.label())).isSameAs(control);
    }
    assertThatIllegalArgumentException()
        .isThrownBy(() -> Control.parse("RANDOM"))
        .withMessage(
            "control \"RANDOM\": want one of random, non-retrieval, layer-matched, bottom");
  }
}
