package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.github.retmask.io.JsonFiles;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// `train`, `sample`, `dpo` and `eval`, one after the other as in RetMask.
class TrainingCommandsTest {
  @TempDir private Path dir;

  private static List<JsonNode> lines(Path file) throws IOException {
    List<JsonNode> lines = new ArrayList<>();
    for (String line : Files.readAllLines(file)) {
      lines.add(new ObjectMapper().readTree(line));
    }
    return lines;
  }

  @Test
  void aRecipeBecomesAModelFolder() throws IOException {
    Path model = dir.resolve("model");
    Cli cli = Cli.ok("train", Planted.recipe(dir.resolve("recipe.json"), 6), "--out", model);
    assertThat(cli.out()).contains("trained, 6 steps");
    assertThat(Cli.names(model)).contains("config.json", "model.safetensors", "metrics.jsonl");
    assertThat(lines(model.resolve("metrics.jsonl"))).hasSize(2);
    assertThat(Cli.ok("info", model).out()).contains("4 query heads in all");
    assertThat(Cli.ok("train", dir.resolve("recipe.json"), "--out", model).out())
        .contains("was trained already");
  }

  @Test
  void gradientCheckpointingGivesTheSameModel() throws IOException {
    Path recipe = Planted.recipe(dir.resolve("recipe.json"), 2);
    Path withKey = dir.resolve("with-key.json");
    Files.writeString(
        withKey,
        Files.readString(recipe)
            .replace("\"steps\"", "\"gradient_checkpointing\": true, \"steps\""));
    Cli.ok("train", recipe, "--out", dir.resolve("plain"));
    Cli.ok("train", recipe, "--out", dir.resolve("option"), "--gradient-checkpointing");
    Cli.ok("train", withKey, "--out", dir.resolve("key"));
    assertThat(dir.resolve("option/model.safetensors"))
        .hasSameBinaryContentAs(dir.resolve("plain/model.safetensors"));
    assertThat(dir.resolve("key/model.safetensors"))
        .hasSameBinaryContentAs(dir.resolve("plain/model.safetensors"));

    Path pairs = dir.resolve("pairs.jsonl");
    Files.writeString(
        pairs,
        """
        {"id": "a", "prompt_ids": [1, 2], "chosen_ids": [2], "rejected_ids": [3]}
        {"id": "b", "prompt_ids": [1, 2, 3, 4], "chosen_ids": [2], "rejected_ids": [3]}
        """);
    Cli.ok("dpo", Planted.MODEL, "--pairs", pairs, "--out", dir.resolve("kept"));
    Cli.ok(
        "dpo",
        Planted.MODEL,
        "--pairs",
        pairs,
        "--out",
        dir.resolve("again"),
        "--gradient-checkpointing");
    assertThat(dir.resolve("again/model.safetensors"))
        .hasSameBinaryContentAs(dir.resolve("kept/model.safetensors"));
  }

  @Test
  void aLargestGradientNormOfZeroIsNone() throws IOException {
    Path recipe = Planted.recipe(dir.resolve("recipe.json"), 2);
    Path pairs = dir.resolve("pairs.jsonl");
    Files.writeString(
        pairs,
        "{\"id\": \"a\", \"prompt_ids\": [1, 2], \"chosen_ids\": [2], \"rejected_ids\": [3]}\n");
    for (String norm : List.of("0", "1e30")) {
      Path withNorm = dir.resolve(norm + ".json");
      Files.writeString(
          withNorm,
          Files.readString(recipe)
              .replace("\"steps\"", "\"max_grad_norm\": %s, \"steps\"".formatted(norm)));
      Cli.ok("train", withNorm, "--out", dir.resolve(norm + "/train"));
      Path out = dir.resolve(norm + "/dpo");
      Cli.ok("dpo", Planted.MODEL, "--pairs", pairs, "--out", out, "--max-grad-norm", norm);
    }
    for (String file : List.of("train/model.safetensors", "dpo/model.safetensors")) {
      assertThat(dir.resolve("0").resolve(file))
          .hasSameBinaryContentAs(dir.resolve("1e30").resolve(file));
    }
  }

  @Test
  void anotherRecipeInTheSameFolderIsRefused() throws IOException {
    Path model = dir.resolve("model");
    Cli.ok("train", Planted.recipe(dir.resolve("recipe.json"), 2), "--out", model);
    Cli cli = Cli.run("train", Planted.recipe(dir.resolve("other.json"), 3), "--out", model);
    assertThat(cli.code()).isEqualTo(1);
    assertThat(cli.error()).contains("other options").contains("--restart");
    Cli.ok("train", dir.resolve("other.json"), "--out", model, "--restart");
  }

  @Test
  void anUnknownKeyOfARecipeIsRefusedByName() throws IOException {
    Path recipe = Planted.recipe(dir.resolve("recipe.json"), 2);
    Files.writeString(recipe, Files.readString(recipe).replace("\"steps\"", "\"stepz\""));
    Cli cli = Cli.run("train", recipe, "--out", dir.resolve("model"));
    assertThat(cli.code()).isEqualTo(1);
    assertThat(cli.error()).contains("stepz is unknown");
  }

  @Test
  void pairsAreSampledAndTrainedOn() throws IOException {
    Path prompts = Planted.prompts(dir.resolve("prompts.jsonl"), 8);
    Path pairs = dir.resolve("pairs.jsonl.gz");
    Object[] sample = {
      "sample",
      Planted.MODEL,
      "--mask",
      "1-2,0-0",
      "--prompts",
      prompts,
      "--out",
      pairs,
      "--max-new-tokens",
      6
    };
    assertThat(Cli.ok(sample).out()).contains("8 records, ");
    Path trained = dir.resolve("trained");
    Cli cli =
        Cli.ok(
            "dpo",
            Planted.MODEL,
            "--pairs",
            pairs,
            "--out",
            trained,
            "--batch-size",
            3,
            "--learning-rate",
            "1e-3",
            "--log-every",
            1);
    assertThat(cli.out()).contains("trained, ");
    List<JsonNode> metrics = lines(trained.resolve("metrics.jsonl"));
    assertThat(metrics.getFirst().get("loss").doubleValue()).isEqualTo(Math.log(2));
    double last = metrics.getLast().get("loss").doubleValue();
    assertThat(last).isLessThan(0.9 * Math.log(2));
    assertThat(Cli.ok("info", trained).out()).contains("BF16");
  }

  @Test
  void pairsInTheModelsOwnIdsMustBeInItsVocabulary() throws IOException {
    Path pairs = dir.resolve("pairs.jsonl");
    Files.writeString(
        pairs,
        """
        {"id": "a", "prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [327]}
        """);
    Cli cli = Cli.run("dpo", Planted.MODEL, "--pairs", pairs, "--out", dir.resolve("x"));
    assertThat(cli.code()).isEqualTo(1);
    assertThat(cli.error()).contains("pair a has token id 327, want 0 to 326");
  }

  @Test
  void pairsThatDoNotFitAreCounted() throws IOException {
    Path pairs = dir.resolve("pairs.jsonl");
    Files.writeString(
        pairs,
        """
        {"id": "a", "prompt_ids": [1, 2], "chosen_ids": [2], "rejected_ids": [3]}
        {"id": "b", "prompt_ids": [1, 2, 3, 4], "chosen_ids": [2], "rejected_ids": [3]}
        {"id": "c", "prompt_ids": [1, 2], "chosen_ids": [2], "rejected_ids": [2]}
        """);
    Object[] args = {
      "dpo", Planted.MODEL, "--pairs", pairs, "--out", dir.resolve("x"), "--max-length", 3
    };
    Cli cli = Cli.ok(args);
    assertThat(cli.error()).contains("1 of 3 pairs are used").contains("TOO_LONG=1");
    args[args.length - 1] = 2;
    Cli none = Cli.run(args);
    assertThat(none.code()).isEqualTo(1);
    assertThat(none.error()).contains("none of 3 is usable at up to 2 tokens");
  }

  @Test
  void needlesAreFoundUnlessTheirHeadIsMasked() throws IOException {
    Path trials = Planted.trials(dir.resolve("trials.jsonl"), 3, 3);
    Path out = dir.resolve("results.json");
    Cli cli =
        Cli.ok(
            "eval",
            Planted.MODEL,
            "--suite",
            "niah",
            "--trials",
            trials,
            "--mask",
            "1-2",
            "--arm",
            "ablated-retrieval",
            "--out",
            out);
    assertThat(cli.out()).contains("ablated-retrieval");
    JsonNode results = JsonFiles.read(out);
    assertThat(results.at("/heads/0/layer").intValue()).isEqualTo(1);
    assertThat(results.at("/heads/0/head").intValue()).isEqualTo(2);
    int compared = 0;
    for (JsonNode cell : results.get("evaluation")) {
      if (cell.get("metric").textValue().equals("needle_success")) {
        boolean base = cell.get("arm").textValue().equals("base");
        assertThat(cell.get("value").doubleValue()).as(cell.toString()).isEqualTo(base ? 1 : 0);
        assertThat(cell.get("length").intValue()).isEqualTo(131);
        assertThat(cell.at("/ci95/0").doubleValue())
            .isLessThanOrEqualTo(cell.at("/ci95/1").doubleValue());
        assertThat(cell.get("trials").intValue()).isEqualTo(cell.has("depth") ? 1 : 3);
        compared++;
      }
    }
    assertThat(compared).isEqualTo(2 * (1 + 3)); // two arms: all depths, and each of three
  }

  @Test
  void aLanguageModelIsEvaluatedOnItsLanguage() throws IOException {
    Path model = dir.resolve("model");
    Cli.ok("train", Planted.recipe(dir.resolve("recipe.json"), 2), "--out", model);
    Path out = dir.resolve("results.json");
    Object[] args = {
      "eval",
      model,
      "--suite",
      "synthetic",
      "--lengths",
      "40,60",
      "--per-length",
      5,
      "--mask",
      "0-1",
      "--mask-kind",
      "scale=0.5",
      "--out",
      out
    };
    String first = Cli.ok(args).out();
    JsonNode results = JsonFiles.read(out);
    assertThat(results.get("evaluation")).hasSize(2 * 2 * 2); // arms, kinds, lengths
    assertThat(results.at("/seeds/0").longValue()).isEqualTo(2);
    Cli again = Cli.ok(args);
    assertThat(again.out()).isEqualTo(first);
    assertThat(again.error()).contains("finished already");
  }
}
