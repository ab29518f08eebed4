package io.github.retmask.eval;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIllegalArgumentException;
import static org.assertj.core.api.Assertions.within;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadScores;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

class RetrievalScoreTest {
  private static JsonNode golden;
  private static int layers;
  private static int heads;

  @BeforeAll
  static void read() throws IOException {
    try (InputStream in =
        RetrievalScoreTest.class.getResourceAsStream("/goldens/retrieval/trace.json")) {
      golden = new ObjectMapper().readTree(in);
    }
    layers = golden.get("n_layers").asInt();
    heads = golden.get("n_heads").asInt();
  }

  private static int[] ints(JsonNode list) {
    int[] values = new int[list.size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = list.get(i).asInt();
    }
    return values;
  }

  private static double[] flat(JsonNode rows) {
    double[] values = new double[layers * heads];
    for (int i = 0; i < values.length; i++) {
      values[i] = rows.get(i / heads).get(i % heads).asDouble();
    }
    return values;
  }

  private static RetrievalTrace trace(JsonNode trial) {
    JsonNode steps = trial.get("steps");
    int[] tokens = new int[steps.size()];
    int[][] top1 = new int[steps.size()][layers * heads];
    for (int s = 0; s < tokens.length; s++) {
      tokens[s] = steps.get(s).get("token").asInt();
      for (int i = 0; i < layers * heads; i++) {
        top1[s][i] = steps.get(s).get("top1").get(i / heads).get(i % heads).asInt();
      }
    }
    int[] span = ints(trial.get("needle_span"));
    return new RetrievalTrace(ints(trial.get("prompt_ids")), span[0], span[1], tokens, top1);
  }

  @Test
  void everyReadingOfEveryTraceMatchesTheGoldens() {
    for (RetrievalScore reading : RetrievalScore.values()) {
      List<double[]> kept = new ArrayList<>();
      for (JsonNode trial : golden.get("trials")) {
        double[] scores = reading.scores(trace(trial), layers * heads);
        assertThat(scores)
            .as(reading + " of " + trial.get("needle_text"))
            .containsExactly(flat(trial.get("scores").get(reading.label())), within(1e-12));
        if (RetrievalScore.isSuccess(
            trial.get("needle_text").asText(), trial.get("response_text").asText())) {
          kept.add(scores);
        }
      }
      assertThat(kept).hasSize(golden.get("expected").get("trials_used").size());
      HeadScores mean = HeadScores.ofTrials(layers, heads, kept);
      double[] want = flat(golden.get("expected").get(reading.label()));
      for (HeadId id : mean.ids()) {
        assertThat(mean.mean(id)).isCloseTo(want[id.layer() * heads + id.head()], within(1e-12));
      }
    }
  }

  /// The published layout holds the script's sums as they come out of repeated addition.
  @Test
  void scriptScoresAreThoseOfTheScriptToTheLastBit() {
    int kept = 0;
    for (JsonNode used : golden.get("expected").get("trials_used")) {
      double[] scores =
          RetrievalScore.SCRIPT.scores(
              trace(golden.get("trials").get(used.asInt())), layers * heads);
      for (int i = 0; i < scores.length; i++) {
        String head = new HeadId(i / heads, i % heads).toString();
        assertThat(scores[i])
            .isEqualTo(
                golden.get("expected").get("head_score_json").get(head).get(kept).asDouble());
      }
      kept++;
    }
    assertThat(kept).isPositive();
  }

  @Test
  void spansAreFoundAsTheScriptFindsThem() {
    assertThat(golden.get("find_span").size()).isPositive();
    for (JsonNode c : golden.get("find_span")) {
      int[] span = ints(c.get("span"));
      assertThat(NeedleSpan.findByIds(ints(c.get("prompt_ids")), ints(c.get("needle_ids"))))
          .as(c.get("label").asText())
          .isEqualTo(new NeedleSpan(span[0], span[1]));
    }
  }

  @Test
  void aSpanMayReachPastTheEndOfThePrompt() {
    int[] needle = {5, 6, 5, 6};
    NeedleSpan span = NeedleSpan.findByIds(new int[] {1, 5, 6}, needle);
    assertThat(span).isEqualTo(new NeedleSpan(0, 4));
    RetrievalTrace past =
        new RetrievalTrace(new int[] {1, 5, 6}, 0, 4, new int[] {6, 6}, new int[][] {{3}, {2}});
    assertThat(RetrievalScore.SCRIPT.scores(past, 1)).containsExactly(0.25);
    assertThat(RetrievalScore.SET_TOKENS.scores(past, 1)).containsExactly(1 / 3.0);
    assertThat(NeedleSpan.findByIds(new int[] {1, 2}, new int[0])).isEqualTo(NeedleSpan.NONE);
  }

  @Test
  void aRepeatedAnswerExceedsOneInTheScriptOnly() {
    RetrievalTrace twice =
        new RetrievalTrace(
            new int[] {9, 7, 8, 9}, 1, 3, new int[] {7, 8, 7, 8}, new int[][] {{1}, {2}, {1}, {2}});
    assertThat(RetrievalScore.SCRIPT.scores(twice, 1)).containsExactly(2);
    assertThat(RetrievalScore.SET_TOKENS.scores(twice, 1)).containsExactly(1);
    assertThat(RetrievalScore.SET_POSITIONS.scores(twice, 1)).containsExactly(1);
  }

  @Test
  void readOutsMustMatchTheTokens() {
    assertThatIllegalArgumentException()
        .isThrownBy(() -> new RetrievalTrace(new int[1], 0, 1, new int[2], new int[1][1]))
        .withMessage("trace of 2 tokens with read-outs of 1 steps");
  }
}
