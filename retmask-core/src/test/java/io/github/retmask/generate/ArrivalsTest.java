package io.github.retmask.generate;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.heads.HeadMask;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

class ArrivalsTest {

  private static Arrivals of(int rows, int... prompts) {
    return new Arrivals(
        Arrays.stream(prompts)
            .mapToObj(p -> GenerationRequest.greedy(new int[] {p}, HeadMask.none(1, 1), 1))
            .iterator(),
        rows);
  }

  private static List<Integer> begin(Arrivals arrivals, int free, boolean idle) {
    return arrivals.begin(free, idle).stream().map(request -> request.prompt()[0]).toList();
  }

  @Test
  void differentPromptsBeginAsRowsBecomeFree() {
    Arrivals arrivals = of(3, 1, 2, 3, 4, 5);
    assertThat(begin(arrivals, 3, true)).containsExactly(1, 2, 3);
    assertThat(begin(arrivals, 1, false)).containsExactly(4);
    assertThat(begin(arrivals, 0, false)).isEmpty();
    assertThat(begin(arrivals, 2, false)).containsExactly(5);
    assertThat(begin(arrivals, 3, true)).isEmpty();
  }

  @Test
  void twinsWaitForEachOther() {
    Arrivals arrivals = of(5, 1, 1, 2, 2, 3, 3, 4, 4);
    assertThat(begin(arrivals, 5, true)).containsExactly(1, 1, 2, 2);
    assertThat(begin(arrivals, 1, false)).isEmpty();
    assertThat(begin(arrivals, 2, false)).containsExactly(3, 3);
    assertThat(begin(arrivals, 1, false)).isEmpty();
    assertThat(begin(arrivals, 3, false)).containsExactly(4, 4);
  }

  @Test
  void twinsShareTheOnlyTwoRows() {
    Arrivals arrivals = of(2, 1, 1, 2, 2);
    assertThat(begin(arrivals, 2, true)).containsExactly(1, 1);
    assertThat(begin(arrivals, 1, false)).isEmpty();
    assertThat(begin(arrivals, 2, true)).containsExactly(2, 2);
  }

  @Test
  void aPromptOfFewerRequestsThanUsualDoesNotWait() {
    Arrivals arrivals = of(8, 1, 1, 1, 2, 3, 4, 4);
    assertThat(begin(arrivals, 4, true)).containsExactly(1, 1, 1);
    assertThat(begin(arrivals, 2, false)).containsExactly(2, 3);
    assertThat(begin(arrivals, 2, false)).containsExactly(4, 4);
  }

  @Test
  void manySamplesBeginInHalves() {
    Arrivals arrivals = of(4, 1, 1, 1, 1, 1);
    assertThat(begin(arrivals, 4, true)).containsExactly(1, 1, 1, 1);
    assertThat(begin(arrivals, 1, false)).containsExactly(1);
  }

  @Test
  void aLonelyRowIsNeverWaitedFor() {
    Arrivals arrivals = of(1, 1, 1, 2);
    assertThat(begin(arrivals, 1, true)).containsExactly(1);
    assertThat(begin(arrivals, 1, true)).containsExactly(1);
    assertThat(begin(arrivals, 1, true)).containsExactly(2);
  }
}
