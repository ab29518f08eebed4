package io.github.retmask.examples.quickstart;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonFiles;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ResultsFileTest {
  private static final String HOSTILE = "a\"b\\c\n<script>\u2028\ud83e\udd16&amp;";

  @TempDir private Path dir;

  @Test
  void whatIsWrittenIsReadBack() throws IOException {
    for (Results results :
        List.of(FakeResults.full(), FakeResults.empty(), FakeResults.named(HOSTILE))) {
      Path file = dir.resolve("results.json");
      ResultsFile.write(file, results);
      assertThat(ResultsFile.read(file)).isEqualTo(results);
    }
  }

  @Test
  void theSameResultsGiveTheSameBytes() throws IOException {
    ResultsFile.write(dir.resolve("a.json"), FakeResults.full());
    ResultsFile.write(dir.resolve("b.json"), ResultsFile.read(dir.resolve("a.json")));
    assertThat(dir.resolve("b.json")).hasSameBinaryContentAs(dir.resolve("a.json"));
  }

  @Test
  void keysHaveTheirPublishedNamesAndOrder() throws IOException {
    Path file = dir.resolve("results.json");
    ResultsFile.write(file, FakeResults.full());
    JsonNode root = JsonFiles.read(file);
    assertThat(keys(root))
        .containsExactly(
            "model",
            "seeds",
            "wall_seconds",
            "threshold",
            "trained_lengths",
            "layers",
            "heads_per_layer",
            "heads",
            "selected",
            "evaluation",
            "differences",
            "pairs",
            "curves",
            "stages",
            "options",
            "environment");
    assertThat(keys(root.get("heads").get(0))).containsExactly("layer", "head", "score", "ci95");
    assertThat(keys(root.get("evaluation").get(0)))
        .containsExactly("arm", "length", "metric", "value", "ci95", "trials");
    assertThat(keys(root.get("differences").get(0)))
        .containsExactly("arm", "against", "length", "metric", "value", "ci95");
    assertThat(keys(root.get("pairs").get(0)))
        .containsExactly("arm", "seed", "prompts", "kept", "identical");
    assertThat(keys(root.get("curves").get(0)))
        .containsExactly("arm", "seed", "step", "loss", "accuracy", "margin");
    assertThat(keys(root.get("stages").get(0))).containsExactly("name", "seconds");
    assertThat(keys(root.get("options"))).containsExactly("prompts", "learning-rate", "beta");
  }

  @Test
  void aNumberThatWasNotMeasuredIsNull() throws IOException {
    Path file = dir.resolve("results.json");
    ResultsFile.write(file, FakeResults.full());
    JsonNode evaluation = JsonFiles.read(file).get("evaluation");
    JsonNode last = evaluation.get(evaluation.size() - 1);
    assertThat(last.get("value").isNull()).isTrue();
    assertThat(last.get("ci95").isNull()).isTrue();
    assertThat(Files.readString(file)).doesNotContain("NaN");
  }

  @Test
  void aDamagedFileIsRefusedByNameAndKey() throws IOException {
    Path file = dir.resolve("results.json");
    ResultsFile.write(file, FakeResults.full());
    String sound = Files.readString(file);
    Map<String, String> damages =
        Map.of(
            "\"model\" : \"bundled:tiny\"", "\"model\" : 3",
            "\"layers\" : 6", "\"layers\" : 6.5",
            "\"selected\" : [ \"3-1\"", "\"selected\" : [ \"3+1\"",
            "\"trained_lengths\" : [ 48, 128 ]", "\"trained_lengths\" : [ 48 ]",
            "\"name\" : \"detect\"", "\"nome\" : \"detect\"");
    damages.forEach(
        (from, to) -> {
          assertThat(sound).contains(from);
          String key = from.substring(1, from.indexOf('"', 1));
          assertThatExceptionOfType(FormatException.class)
              .isThrownBy(
                  () -> {
                    Files.writeString(file, sound.replace(from, to));
                    ResultsFile.read(file);
                  })
              .withMessageContaining(file.toString())
              .withMessageContaining(key.equals("selected") ? "3+1" : key);
        });
  }

  private static List<String> keys(JsonNode node) {
    List<String> keys = new ArrayList<>();
    node.fieldNames().forEachRemaining(keys::add);
    return keys;
  }
}
