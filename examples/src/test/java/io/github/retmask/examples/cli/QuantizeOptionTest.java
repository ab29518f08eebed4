package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;

import io.github.retmask.io.ScoreReportFile;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class QuantizeOptionTest {
  private static final Path MISTRAL = Cli.golden("mistral");

  @TempDir private Path dir;

  private static List<String> rows(Cli cli, String name) {
    return cli.out()
        .lines()
        .filter(line -> line.substring(0, 13).strip().equals(name))
        .map(line -> line.substring(14))
        .toList();
  }

  @Test
  void infoSaysHowFarEachKindOfMatrixIsFromTheStoredOne() {
    Cli cli = Cli.ok("info", MISTRAL, "--quantize", "q4_0", "--ids", "1,2,3,4,5");
    assertThat(rows(cli, "quantized"))
        .hasSize(9)
        .allMatch(
            row ->
                row.matches(
                    "[a-z_]+ Q[48]_0: relative error [0-9.]+ %, largest difference [0-9.e-]+;"
                        + " (1 matrix|3 matrices)"))
        .anyMatch(row -> row.startsWith("embed_tokens Q4_0: ") && row.endsWith("; 1 matrix"))
        .anyMatch(row -> row.startsWith("q_proj Q4_0: ") && row.endsWith("; 3 matrices"))
        .anyMatch(row -> row.startsWith("lm_head Q8_0: "));
    assertThat(rows(cli, "as stored")).isEmpty();
    assertThat(rows(cli, "weights")).singleElement().asString().contains("rounded from");
    assertThat(rows(cli, "predictions"))
        .singleElement()
        .asString()
        .matches(
            "divergence [0-9.e-]+ nats in the mean, [0-9.e-]+ at most; the same first choice after"
                + " [0-5] of 5 tokens");
  }

  @Test
  void infoNamesWhatStaysAsStored() {
    Cli cli = Cli.ok("info", Planted.MODEL, "--quantize", "q8_0");
    assertThat(rows(cli, "quantized"))
        .hasSize(2)
        .anyMatch(row -> row.startsWith("o_proj Q8_0: "))
        .anyMatch(row -> row.startsWith("down_proj Q8_0: "));
    assertThat(rows(cli, "as stored"))
        .contains("q_proj BF16: rows of 56 are no whole blocks of 32; 3 matrices");
  }

  @Test
  void withoutItInfoIsAsBefore() {
    Cli cli = Cli.ok("info", MISTRAL);
    assertThat(rows(cli, "quantized")).isEmpty();
    assertThat(rows(cli, "weights")).singleElement().asString().endsWith(", memory-mapped");
  }

  @Test
  void aScoreIsNotContinuedUnderAnotherRounding() throws IOException {
    Path trials = Planted.trials(dir.resolve("trials.jsonl"), 3, 3);
    Path out = dir.resolve("scores.json");
    Object[] args = {
      "score", Planted.MODEL, "--trials", trials, "--out", out, "--quantize", "q8_0"
    };
    Cli.ok(args);
    assertThat(ScoreReportFile.read(ScoreReportFile.beside(out)).options())
        .containsEntry("quantize", "q8_0");
    assertThat(Cli.ok(args).err()).contains("is finished already");
    args[7] = "q4_0";
    Cli other = Cli.run(args);
    assertThat(other.code()).isEqualTo(1);
    assertThat(other.error()).contains("quantize was q8_0, now q4_0");
    Cli stored = Cli.run("score", Planted.MODEL, "--trials", trials, "--out", out);
    assertThat(stored.code()).isEqualTo(1);
    assertThat(stored.error()).contains("quantize was q8_0, now nothing");
  }

  @Test
  void masksAndLogitsWorkOnRoundedWeights() throws IOException {
    for (String mask : List.of("0-1", "1-2")) {
      Path intact = dir.resolve("intact");
      Path masked = dir.resolve("masked" + mask);
      Object[] args = {
        "logits", MISTRAL, "--ids", "1,2,3", "--argmax", "--quantize", "q4_0", "--out", intact
      };
      Cli.ok(args);
      args[8] = masked;
      Object[] more = new Object[args.length + 2];
      System.arraycopy(args, 0, more, 0, args.length);
      more[args.length] = "--mask";
      more[args.length + 1] = mask;
      Cli.ok(more);
      assertThat(java.nio.file.Files.mismatch(intact, masked)).isNotEqualTo(-1);
    }
    String ids =
        Cli.ok(
                "generate",
                MISTRAL,
                "--ids",
                "1,2,3",
                "--print-ids",
                "--max-new-tokens",
                4,
                "--ignore-eos",
                "--quantize",
                "q4_0",
                "--mask",
                "0-1")
            .out();
    assertThat(ids.strip().split(",")).hasSize(4);
  }

  @Test
  void memoryThatIsTakenAlreadyCounts() {
    Object[] args = {
      "generate",
      MISTRAL,
      "--ids",
      "1",
      "--print-ids",
      "--max-new-tokens",
      2,
      "--quantize",
      "q8_0",
      "--memory",
      "40k"
    };
    Cli tooLittle = Cli.run(args);
    assertThat(tooLittle.code()).isEqualTo(1);
    assertThat(tooLittle.error()).contains("that holds no context at all");
    args[10] = "10m";
    Cli.ok(args);
  }

  @ParameterizedTest
  @ValueSource(
      strings = {
        "dpo MODEL --pairs p --out o",
        "train recipe.json --out o",
        "mask MODEL --mask 0-1 --out o",
        "export MODEL --out o"
      })
  void commandsThatTrainOrWriteWeightsRefuseIt(String line) {
    String[] args = (line.replace("MODEL", MISTRAL.toString()) + " --quantize q8_0").split(" ");
    Cli cli = Cli.run((Object[]) args);
    assertThat(cli.code()).isEqualTo(2);
    assertThat(cli.error())
        .contains("'--quantize': this command works on the weights as they are stored");
  }
}
