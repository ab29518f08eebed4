package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.heads.HeadId;
import io.github.retmask.heads.HeadScores;
import io.github.retmask.heads.ScoreReport;
import io.github.retmask.io.HeadScoreFile;
import io.github.retmask.io.ScoreReportFile;
import io.github.retmask.io.WorkJournal;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
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

  /// The planted model with words of its vocabulary as think tags and a template that knows them.
  private Path thinker(String template) throws IOException {
    Path model = Cli.copy(Planted.MODEL, dir.resolve("thinker"));
    Path tokenizer = model.resolve("tokenizer.json");
    Files.writeString(
        tokenizer,
        Files.readString(tokenizer)
            .replace("\\u0120anchor", "<think>")
            .replace("\\u0120bridge", "</think>"));
    Files.writeString(model.resolve("chat_template.jinja"), template);
    return model;
  }

  /// Trials whose prompts make the planted head copy a think block before the needle; in the last one
  /// the block has no end.
  private Path thoughtful() throws IOException {
    JsonNode trial = Planted.golden().at("/trials/0");
    StringBuilder lines = new StringBuilder();
    for (int[] block : new int[][] {{282, 316, 318, 283}, {282, 316}}) {
      int start = trial.at("/needle_span/0").intValue() + block.length + 1;
      List<Integer> ids = new ArrayList<>();
      for (JsonNode id : trial.get("prompt_ids")) {
        if (ids.size() == start - block.length - 2) {
          ids.add(307); // the cue, with which the prompt ends
          Arrays.stream(block).forEach(ids::add);
        }
        boolean taken = List.of(282, 316, 318, 283, 307).contains(id.intValue());
        ids.add(taken ? 317 : id.intValue());
      }
      ids.set(ids.size() - 1, 307);
      lines.append(
          """
          {"prompt_ids": %s, "needle_span": [%d, %d], "answer": "%s", "max_new_tokens": 9}
          """
              .formatted(ids, start, start + 8, trial.get("needle_text").textValue()));
    }
    return Files.writeString(dir.resolve("thoughtful.jsonl"), lines);
  }

  @Test
  void thinkingIsSkippedAndCountedInTheReport() throws IOException {
    Path model = thinker("{{ messages[0].content.split('</think>')[-1] }}");
    Path out = dir.resolve("scores.json");
    Object[] args = {"score", model, "--trials", thoughtful(), "--out", out, "--think-tokens", 30};
    assertThat(Cli.ok(args).out()).contains("2 tried, 1 kept {thinking_unfinished=1}");
    assertThat(HeadScoreFile.read(out).scores(new HeadId(1, 2))).containsExactly(1.0);
    ScoreReport report = ScoreReportFile.read(ScoreReportFile.beside(out));
    assertThat(report.options()).containsEntry("think-tokens", "30");
    assertThat(report.failed()).containsExactly(Map.entry("thinking_unfinished", 1));
    Path plain = dir.resolve("plain.json");
    assertThat(Cli.ok("score", model, "--trials", thoughtful(), "--out", plain).out())
        .as("nine tokens of block and answer: half of the needle, or six of eight words")
        .contains("2 tried, 1 kept {low_recall=1}");
    assertThat(HeadScoreFile.read(plain).scores(new HeadId(1, 2))).containsExactly(0.75);
  }

  @Test
  void thinkingNeedsATemplateThatKnowsItAndTheStrictMethod() throws IOException {
    Path out = dir.resolve("scores.json");
    Object[] args = {
      "score", Planted.MODEL, "--trials", thoughtful(), "--out", out, "--think-tokens", 30
    };
    Cli unknown = Cli.run(args);
    assertThat(unknown.code()).isEqualTo(2);
    assertThat(unknown.error()).contains("no chat template that knows a think block");
    args = Arrays.copyOf(args, args.length + 2);
    args[args.length - 2] = "--method";
    args[args.length - 1] = "wu-compat";
    Cli compat = Cli.run(args);
    assertThat(compat.code()).isEqualTo(2);
    assertThat(compat.error()).contains("--think-tokens: method wu-compat");
  }

  @Test
  void aTemplateThatKnowsEnableThinkingIsToldNotToThink() throws IOException {
    Path model =
        thinker(
            "{{ messages[0].content }}{% if enable_thinking is not defined or enable_thinking %}"
                + " window{% endif %}</think>");
    JsonNode golden = Planted.golden().at("/trials/0");
    Path trials =
        Files.writeString(
            dir.resolve("chat.jsonl"),
            "{\"chat\": [{\"role\": \"user\", \"content\": \"%s\"}], \"needle\": \"%s\"}\n"
                .formatted(
                    golden.get("prompt_text").textValue().replaceAll(" (anchor|bridge)", " acorn"),
                    golden.get("needle_text").textValue()));
    Map<String, String> byOptions = new TreeMap<>();
    for (String options :
        List.of(
            "",
            "--template-var enable_thinking=false",
            "--template-var enable_thinking=true",
            "--think-tokens 9")) {
      List<Object> args =
          new ArrayList<>(List.of("score", model, "--trials", trials, "--out", dir.resolve("x")));
      if (!options.isEmpty()) {
        args.addAll(List.of(options.split(" ")));
      }
      Cli.run(args.toArray()); // no trial succeeds; the journal tells the options
      Path journal = WorkJournal.path(dir.resolve("x"));
      byOptions.put(options, Files.readString(journal).lines().findFirst().orElseThrow());
      Files.delete(journal);
    }
    assertThat(byOptions.get(""))
        .contains("template-var enable_thinking")
        .isEqualTo(byOptions.get("--template-var enable_thinking=false"))
        .isNotEqualTo(byOptions.get("--template-var enable_thinking=true"));
    assertThat(byOptions.get("--think-tokens 9")).doesNotContain("enable_thinking");
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
