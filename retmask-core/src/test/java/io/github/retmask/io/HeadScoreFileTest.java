package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIOException;
import static org.assertj.core.api.Assertions.within;

import io.github.retmask.SharedData;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadScores;
import io.github.retmask.heads.HeadStatistics;
import io.github.retmask.heads.ScoreReport;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class HeadScoreFileTest {
  @TempDir Path dir;

  private void refused(String content, String message) throws IOException {
    Path file = dir.resolve("scores.json");
    Files.writeString(file, content);
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> HeadScoreFile.read(file))
        .withMessageStartingWith(file + ": " + message);
  }

  /// Figures counted from the files themselves by a separate program; thresholds are those of the
  /// RetMask paper.
  @ParameterizedTest
  @CsvSource({
    "Llama-3.1-8B-Instruct, 32, 32, 342, 59, 0.1, 33, 0.935, 0.78, 15-30",
    "Qwen3-8B, 36, 32, 600, 98, 0.05, 98, 0.902, 0.71, 22-23",
    "Olmo-3-7B-Think, 32, 32, 30, 5, 0.05, 113, 0.850, 0.53, 19-26"
  })
  void publishedFilesGiveTheirPublishedHeads(
      String model,
      int layers,
      int heads,
      int trials,
      int distinct,
      double threshold,
      int selected,
      double gini,
      double topShare,
      String best)
      throws IOException {
    Path file = SharedData.path("data/head_scores/" + model + ".json.gz");
    HeadScores scores = HeadScoreFile.read(file);
    assertThat(scores.layers()).isEqualTo(layers);
    assertThat(scores.heads()).isEqualTo(heads);
    assertThat(scores.trials()).isEqualTo(trials);
    assertThat(scores.atLeast(threshold)).hasSize(selected);
    assertThat(scores.ranking().getFirst()).isEqualTo(HeadId.parse(best));
    HeadStatistics statistics = HeadStatistics.of(scores);
    assertThat(statistics.distinctTrials()).isEqualTo(distinct);
    assertThat(statistics.gini()).isCloseTo(gini, within(0.0005));
    assertThat(statistics.topShare(0.05)).isCloseTo(topShare, within(0.005));
    assertThat(statistics.estimates()).allMatch(e -> e.ci95().contains(e.mean()));
    // Written again, the file has the same bytes.
    Path copy = dir.resolve("copy.json");
    HeadScoreFile.write(copy, scores);
    try (InputStream original = Gzip.open(file)) {
      assertThat(Files.readAllBytes(copy)).isEqualTo(original.readAllBytes());
    }
  }

  @Test
  void writtenScoresAreReadBackExactly() throws IOException {
    HeadScores scores =
        HeadScores.ofHeads(
            2, 2, new double[][] {{0, 1}, {1 / 3.0, 1e-7}, {1.9411764705882355, 0}, {0.1, 1e300}});
    for (String name : new String[] {"a.json", "a.json.gz"}) {
      Path file = dir.resolve(name);
      HeadScoreFile.write(file, scores);
      assertThat(HeadScoreFile.read(file)).isEqualTo(scores);
    }
    assertThat(dir.resolve("a.json"))
        .content()
        .startsWith("{\"0-0\": [0, 1.0], \"0-1\": [0.3333333333333333, 1.0E-7], \"1-0\": [1.94");
  }

  @Test
  void headsMayComeInAnyOrder() throws IOException {
    Path file = dir.resolve("a.json");
    Files.writeString(file, "{\"1-0\": [0.5],\n \"0-0\": [0]}\n");
    assertThat(HeadScoreFile.read(file).mean(new HeadId(1, 0))).isEqualTo(0.5);
  }

  @Test
  void brokenFilesAreRefusedByHead() throws IOException {
    refused("{\"0-0\": [1], \"x\": [1]}", "key \"x\": want LAYER-HEAD, such as 12-7");
    refused("{\"0-00\": [1]}", "key \"0-00\": want LAYER-HEAD");
    refused("{\"0-0\": [1, \"1\"]}", "head 0-0, trial 1: 1 is no score: want a finite number");
    refused("{\"0-0\": [1, null]}", "head 0-0, trial 1: null is no score");
    refused("{\"0-0\": [-0.5]}", "head 0-0, trial 0: -0.5 is no score");
    refused("{\"0-0\": [1e999]}", "head 0-0, trial 0: 1e999 is no score");
    refused("{\"0-0\": [NaN]}", "not JSON: Non-standard token 'NaN'");
    refused("{\"0-0\": 1}", "head 0-0 has 1, want a list of scores");
    refused("{\"0-0\": [[1]]}", "head 0-0, trial 0: [ is no score");
    refused(
        "{\"0-0\": [1, 1], \"0-1\": [1]}",
        "head 0-1 has 1 scores, head 0-0 has 2: want one a trial for every head");
    refused("{\"0-0\": [1], \"0-0\": [1]}", "head 0-0 occurs twice");
    refused("{}", "no heads in it");
    refused("{\"0-0\": [], \"0-1\": []}", "empty lists: no trial succeeded");
    refused(
        "{\"0-0\": [1], \"0-1\": [1], \"1-1\": [1]}",
        "3 heads for 2 layers x 2 heads: 1-0 is the first one missing");
    refused("{\"2000000000-2000000000\": [1]}", "1 heads for 2000000001 layers");
    refused("[[\"0-0\", 0.5]]", "want {\"LAYER-HEAD\": [score, …], …}");
    refused("", "want {\"LAYER-HEAD\"");
    refused("{\"0-0\": [1], ", "not JSON: ");
    refused("{\"0-0\": [1", "not JSON: ");
    refused("{\"0-0\": [1]} {}", "more text after the scores");
    assertThatIOException().isThrownBy(() -> HeadScoreFile.read(dir.resolve("none.json")));
  }

  @Test
  void aReportSurvivesItsFile() throws IOException {
    HeadScores scores = HeadScores.ofHeads(1, 2, new double[][] {{0, 0.5, 0.5}, {0.1, 1, 1}});
    ScoreReport report =
        ScoreReport.of(
            "sha256:ab",
            "wu",
            new TreeMap<>(Map.of("lengths", "0,263")),
            new TreeMap<>(Map.of("answer not found", 4, "needle longer than the budget", 1)),
            HeadStatistics.of(scores));
    assertThat(report.tried()).isEqualTo(8);
    assertThat(report.distinct()).isEqualTo(2);
    Path file = ScoreReportFile.beside(dir.resolve("scores.json.gz"));
    assertThat(file).isEqualTo(dir.resolve("scores.meta.json"));
    assertThat(ScoreReportFile.beside(dir.resolve("s.json"))).isEqualTo(dir.resolve("s.meta.json"));
    ScoreReportFile.write(file, report);
    assertThat(ScoreReportFile.read(file)).isEqualTo(report);
  }

  @Test
  void brokenReportsAreRefusedByKey() throws IOException {
    Path file = dir.resolve("a.meta.json");
    HeadScores scores = HeadScores.ofHeads(1, 1, new double[][] {{0, 0.5}});
    ScoreReport report =
        ScoreReport.of("m", "wu", new TreeMap<>(), new TreeMap<>(), HeadStatistics.of(scores));
    ScoreReportFile.write(file, report);
    String good = Files.readString(file);
    for (String[] change :
        new String[][] {
          {"\"kept\" : 2", "\"kept\" : 3", "2 trials tried, but 3 kept"},
          {"\"gini\"", "\"genie\"", "\"gini\" is missing, want a JSON number"},
          {"\"gini\" : 0.0", "\"gini\" : NaN", "\"gini\" is NaN, want a finite number"},
          {"\"method\" : \"wu\"", "\"method\" : 1", "\"method\" is number, want a JSON string"},
          {"\"layer\" : 0", "\"layer\" : -1", "head -1-0: numbers start at 0"},
        }) {
      assertThat(good).contains(change[0]);
      Files.writeString(file, good.replace(change[0], change[1]));
      assertThatExceptionOfType(FormatException.class)
          .isThrownBy(() -> ScoreReportFile.read(file))
          .withMessageStartingWith(file + ": " + change[2]);
    }
  }
}
