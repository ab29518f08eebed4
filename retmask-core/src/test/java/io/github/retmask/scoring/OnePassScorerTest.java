package io.github.retmask.scoring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.backend.Kernels;
import io.github.retmask.backend.Ops;
import io.github.retmask.backend.ReferenceBackend;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadScores;
import io.github.retmask.pretrained.PretrainedModel;
import java.net.URI;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.junit.jupiter.api.Test;

/// One pass sees the hits that decoding token by token sees: the goldens were made by decoding.
class OnePassScorerTest {

  @Test
  void everyHeadScoresAsInDecoding() throws Exception {
    ObjectMapper json = new ObjectMapper();
    Path folder =
        Path.of(
            URI.create(
                Objects.requireNonNull(getClass().getResource("/goldens/planted")).toString()));
    JsonNode golden = json.readTree(folder.resolve("planted.json").toFile());
    try (Kernels kernels = new ReferenceBackend().open(1);
        PretrainedModel model = PretrainedModel.open(folder, new Ops(kernels))) {
      List<OnePassScorer.Trial> trials = new ArrayList<>();
      List<JsonNode> expected = new ArrayList<>();
      for (JsonNode trial : golden.get("trials")) {
        if (trial.get("success").booleanValue()) {
          int[] span = json.convertValue(trial.get("needle_span"), int[].class);
          int[] prompt = json.convertValue(trial.get("prompt_ids"), int[].class);
          int[] answer = json.convertValue(trial.get("generated"), int[].class);
          trials.add(new OnePassScorer.Trial(prompt, answer, span[0], span[1]));
          expected.add(trial.get("scores").get("set_positions"));
        }
      }
      int answered = trials.size();
      OnePassScorer.Trial first = trials.getFirst();
      int[] wrong = first.answer().clone();
      wrong[0] = first.prompt()[0];
      trials.add(
          new OnePassScorer.Trial(first.prompt(), wrong, first.spanStart(), first.spanEnd()));

      HeadScores scores = OnePassScorer.score(model.transformer(), trials);
      assertThat(scores.trials())
          .as("the trial with a wrong answer is left out")
          .isEqualTo(answered);
      assertThat(scores.mean(new HeadId(1, 2))).isEqualTo(1.0);
      for (int t = 0; t < answered; t++) {
        for (HeadId id : scores.ids()) {
          double want = expected.get(t).get(id.layer()).get(id.head()).doubleValue();
          assertThat(scores.score(id, t))
              .as("head %s, trial %d", id, t)
              .isEqualTo(want, within(1e-9));
        }
      }
      assertThatThrownBy(
              () ->
                  OnePassScorer.score(model.transformer(), trials.subList(answered, answered + 1)))
          .hasMessage("retrieval scores: the model answers none of 1 trials");
    }
  }
}
