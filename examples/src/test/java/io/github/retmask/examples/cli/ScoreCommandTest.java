package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadScores;
import io.github.retmask.heads.ScoreReport;
import io.github.retmask.io.HeadScoreFile;
import io.github.retmask.io.ScoreReportFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ScoreCommandTest {
  @TempDir private Path dir;

  @Test
  void plantedHeadScoresOneAndAllOthersAsInTheReference() throws IOException {
    Path trials = Planted.trials(dir.resolve("trials.jsonl"), 4, 4);
    Path out = dir.resolve("scores.json");
    Cli cli = Cli.ok("score", Planted.MODEL, "--trials", trials, "--out", out);
    assertThat(cli.out())
        .contains("4 tried, 3 kept {needle_not_found=1}")
        .contains("1-2     1.0000");
    HeadScores scores = HeadScoreFile.read(out);
    JsonNode expected = Planted.golden().at("/expected/set_positions");
    for (HeadId id : scores.ids()) {
      double wanted = expected.get(id.layer()).get(id.head()).doubleValue();
      assertThat(scores.mean(id)).as(id.toString()).isCloseTo(wanted, within(1e-9));
    }
    assertThat(scores.scores(new HeadId(1, 2))).containsExactly(1.0, 1.0, 1.0);
    ScoreReport report = ScoreReportFile.read(ScoreReportFile.beside(out));
    assertThat(report.method()).isEqualTo("wu");
    assertThat(report.model()).startsWith("sampled:");
    assertThat(report.tried()).isEqualTo(4);
    assertThat(report.options()).containsKeys("trials", "eos", "backend");
    assertThat(Cli.names(dir))
        .containsExactlyInAnyOrder("scores.json", "scores.meta.json", "trials.jsonl");
    assertThat(Cli.ok("heads", out, "--threshold", 0.1).out()).isEqualTo("1-2\n");
  }

  @Test
  void trialsWithoutTextsNeedNoTokenizer() throws IOException {
    Path bare = Cli.copy(Planted.MODEL, dir.resolve("bare"));
    Files.delete(bare.resolve("tokenizer.json"));
    Path trials = Planted.trials(dir.resolve("trials.jsonl"), 3, 3);
    Path out = dir.resolve("scores.json");
    Cli.ok("score", bare, "--trials", trials, "--out", out);
    Path withTokenizer = dir.resolve("with.json");
    Cli.ok("score", Planted.MODEL, "--trials", trials, "--out", withTokenizer);
    assertThat(out).hasSameTextualContentAs(withTokenizer);
  }

  @Test
  void compatibleScoresMayExceedOne() throws IOException {
    Path trials = Planted.trials(dir.resolve("trials.jsonl"), 4, 4);
    Path out = dir.resolve("scores.json");
    Cli cli =
        Cli.ok("score", Planted.MODEL, "--trials", trials, "--method", "wu-compat", "--out", out);
    assertThat(cli.out()).contains("4 tried, 3 kept {low_recall=1}");
    assertThat(HeadScoreFile.read(out).mean(new HeadId(1, 2))).isGreaterThanOrEqualTo(1);
  }

  @Test
  void needleFilesArePlacedInTheirHaystacks() throws IOException {
    Path needles = dir.resolve("needles.jsonl");
    Files.writeString(
        needles,
        """
        {"needle": "The boat is in the harbor.", "question": "Where is the boat?", \
        "real_needle": "in the harbor."}
        """);
    Path haystack = Files.writeString(dir.resolve("hay.txt"), "One more word. ".repeat(50));
    Object[] args = {
      "score",
      Planted.MODEL,
      "--needles",
      needles,
      "--haystack",
      haystack,
      "--lengths",
      "300:400:2",
      "--depths",
      "0,100",
      "--out",
      dir.resolve("scores.json")
    };
    // The model copies words of its own only, so no trial succeeds; all of them are run.
    Cli cli = Cli.run(args);
    assertThat(cli.code()).isEqualTo(1);
    assertThat(cli.error()).contains("none of 4 trials succeeded {low_recall=4}");
  }

  @Test
  void aFinishedRunIsNotRepeatedAndNotMistakenForAnother() throws IOException {
    Path trials = Planted.trials(dir.resolve("trials.jsonl"), 3, 3);
    Path out = dir.resolve("scores.json");
    String first = Cli.ok("score", Planted.MODEL, "--trials", trials, "--out", out).out();
    Cli again = Cli.ok("score", Planted.MODEL, "--trials", trials, "--out", out);
    assertThat(again.out()).isEqualTo(first);
    assertThat(again.error()).contains("finished already");
    Cli other =
        Cli.run("score", Planted.MODEL, "--trials", trials, "--method", "wu-compat", "--out", out);
    assertThat(other.code()).isEqualTo(1);
    assertThat(other.error()).contains("method was wu, now wu-compat").contains("--restart");
    Cli.ok(
        "score",
        Planted.MODEL,
        "--trials",
        trials,
        "--method",
        "wu-compat",
        "--out",
        out,
        "--restart");
  }

  @Test
  void aModelWithoutTrialsIsAskedForThem() {
    Cli cli = Cli.run("score", Planted.MODEL, "--out", dir.resolve("scores.json"));
    assertThat(cli.code()).isEqualTo(2);
    assertThat(cli.error()).contains("give --needles or --trials");
  }

  @Test
  void aLanguageModelIsScoredOnProbesOfItsLanguage() throws IOException {
    Path model = dir.resolve("model");
    Cli.ok("train", Planted.recipe(dir.resolve("recipe.json"), 2), "--out", model);
    Cli cli =
        Cli.run(
            "score",
            model,
            "--lengths",
            "40,44",
            "--per-length",
            3,
            "--out",
            dir.resolve("s.json"));
    assertThat(cli.code()).isEqualTo(1); // after two steps it answers nothing
    assertThat(cli.error()).contains("none of 6 trials succeeded {low_recall=6}");
  }
}
