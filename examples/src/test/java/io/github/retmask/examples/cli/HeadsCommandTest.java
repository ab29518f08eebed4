package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.SharedData;
import io.github.retmask.io.HeadListFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class HeadsCommandTest {
  @TempDir private Path dir;
  private Path scores;

  @BeforeEach
  void writeScores() throws IOException {
    scores = dir.resolve("scores.json");
    Files.writeString(
        scores,
        """
        {"0-0": [0, 0.1], "0-1": [0.5, 0.7], "0-2": [0, 0], "1-0": [1.0, 0.8], "1-1": [0, 0.2], \
        "1-2": [0.1, 0.1]}""");
  }

  /// The numbers of heads that the published thresholds select.
  @ParameterizedTest
  @CsvSource({"Llama-3.1-8B-Instruct, 0.1, 33", "Qwen3-8B, 0.05, 98", "Olmo-3-7B-Think, 0.05, 113"})
  void publishedScoresSelectThePublishedNumberOfHeads(String model, double threshold, int count) {
    Path file = SharedData.path("data/head_scores/" + model + ".json.gz");
    Cli cli = Cli.ok("heads", file, "--threshold", threshold);
    assertThat(cli.out().lines().toList()).hasSize(count);
  }

  @Test
  void headsComeBestFirst() {
    assertThat(Cli.ok("heads", scores, "--threshold", 0.1).out()).isEqualTo("1-0\n0-1\n1-1\n1-2\n");
    assertThat(Cli.ok("heads", scores, "--top-k", 2).out()).isEqualTo("1-0\n0-1\n");
    assertThat(Cli.ok("heads", scores, "--top-k", 2, "--json").out())
        .isEqualTo("[[1, 0], [0, 1]]\n");
  }

  @ParameterizedTest
  @ValueSource(strings = {"non-retrieval", "layer-matched", "random", "bottom"})
  void controlsAreAsManyHeadsAndRepeatable(String control) {
    Object[] args = {"heads", scores, "--top-k", 2, "--control", control, "--seed", 3};
    String drawn = Cli.ok(args).out();
    assertThat(drawn.lines().distinct().toList()).hasSize(2);
    assertThat(Cli.ok(args).out()).isEqualTo(drawn);
    if (!control.equals("random")) {
      assertThat(drawn.lines()).doesNotContain("1-0", "0-1");
    }
  }

  @Test
  void severalDrawsStandApart() throws IOException {
    Object[] args = {"heads", scores, "--top-k", 2, "--control", "non-retrieval", "--draws", 3};
    String[] sets = Cli.ok(args).out().split("\n\n");
    assertThat(sets).hasSize(3);
    Object[] json = java.util.Arrays.copyOf(args, args.length + 1);
    json[args.length] = "--json";
    assertThat(new ObjectMapper().readTree(Cli.ok(json).out())).hasSize(3);
  }

  @ParameterizedTest
  @ValueSource(booleans = {false, true})
  void theListCanBeReadBack(boolean json) throws IOException {
    Path list = dir.resolve("heads.txt");
    Object[] args = {"heads", scores, "--top-k", 3};
    Object[] withJson = {"heads", scores, "--top-k", 3, "--json"};
    Files.writeString(list, Cli.ok(json ? withJson : args).out());
    assertThat(HeadListFile.read(list).toString())
        .isEqualTo(List.of("1-0", "0-1", "1-1").toString());
  }

  @Test
  void aThresholdThatNoHeadReachesSaysWhichComesNearest() {
    Cli cli = Cli.ok("heads", scores, "--threshold", 2);
    assertThat(cli.out()).isEmpty();
    assertThat(cli.error()).contains("no head reaches 2.0").contains("1-0").contains("0.9");
  }
}
