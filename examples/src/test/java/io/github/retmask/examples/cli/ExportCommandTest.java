package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ExportCommandTest {
  private static final Path LLAMA = Cli.golden("llama");
  private static final String IDS = "312,5,6,7,100,200,33";

  @TempDir private Path dir;

  private byte[] logits(Path model, String... options) throws IOException {
    Path out = dir.resolve("logits.safetensors");
    Object[] args = new Object[6 + options.length];
    System.arraycopy(new Object[] {"logits", model, "--ids", IDS, "--out", out}, 0, args, 0, 6);
    System.arraycopy(options, 0, args, 6, options.length);
    Cli.ok(args);
    return Files.readAllBytes(out);
  }

  @ParameterizedTest
  @ValueSource(strings = {"f32", "bf16"})
  void anExportedModelHasTheSameLogitsWithAndWithoutAMask(String dtype) throws IOException {
    Path file = dir.resolve("llama.gguf");
    assertThat(Cli.ok("export", LLAMA, "--out", file, "--dtype", dtype).out())
        .startsWith(file + ": ");
    assertThat(logits(file)).isEqualTo(logits(LLAMA));
    assertThat(logits(file, "--mask", "0-1,2-3", "--argmax"))
        .isEqualTo(logits(LLAMA, "--mask", "0-1,2-3", "--argmax"));
  }

  @Test
  void everyCommandThatReadsTakesTheFile() {
    Path file = dir.resolve("llama.gguf");
    Cli.ok("export", LLAMA, "--out", file);
    assertThat(Cli.ok("encode", file, "--text", "the river").out())
        .isEqualTo(Cli.ok("encode", LLAMA, "--text", "the river").out());
    assertThat(Cli.ok("decode", file, "--ids", "83,257").out())
        .isEqualTo(Cli.ok("decode", LLAMA, "--ids", "83,257").out());
    assertThat(Cli.ok("generate", file, "--prompt", "the river", "--max-new-tokens", 5).out())
        .isEqualTo(Cli.ok("generate", LLAMA, "--prompt", "the river", "--max-new-tokens", 5).out());
    assertThat(Cli.ok("info", file).out())
        .contains("BF16")
        .contains("in 1 file")
        .contains("eos 317 <|eot_id|>, chat template");
    Path q8 = dir.resolve("q8.gguf");
    Cli.ok("export", Cli.golden("planted"), "--out", q8, "--dtype", "q8_0");
    assertThat(Cli.ok("info", q8).out()).contains("Q8_0");
  }

  @Test
  void aFileThatIsThereIsReplacedOnlyWhenAskedTo() throws IOException {
    Path file = dir.resolve("llama.gguf");
    Files.writeString(file, "precious");
    Cli refused = Cli.run("export", LLAMA, "--out", file);
    assertThat(refused.code()).isEqualTo(1);
    assertThat(refused.err())
        .isEqualTo(
            "retmask export: " + file + ": it is there already; give another name, or --replace\n");
    assertThat(file).hasContent("precious");
    Cli.ok("export", LLAMA, "--out", file, "--replace");
    Cli itself = Cli.run("export", file, "--out", file, "--replace");
    assertThat(itself.code()).isEqualTo(1);
    assertThat(itself.err()).contains("it is the model that is being read");
    Cli.ok("info", file);
  }

  @Test
  void otherTypesAreBadUsage() {
    Cli result = Cli.run("export", LLAMA, "--out", dir.resolve("m.gguf"), "--dtype", "q4_k");
    assertThat(result.code()).isEqualTo(2);
    assertThat(result.err()).contains("--dtype \"q4_k\": want f32, bf16, f16 or q8_0");
  }

  @Test
  void whatWritesAChangedCopyRefusesAFileBeforeItBegins() {
    Path file = dir.resolve("llama.gguf");
    Cli.ok("export", LLAMA, "--out", file);
    Path out = dir.resolve("out");
    for (Object[] args :
        new Object[][] {
          {"mask", file, "--mask", "0-1", "--out", out},
          {"dpo", file, "--pairs", dir.resolve("none.jsonl.gz"), "--out", out}
        }) {
      Cli result = Cli.run(args);
      assertThat(result.code()).isEqualTo(1);
      assertThat(result.err()).contains(file + ": a GGUF file; changed copies are written of");
      assertThat(out).doesNotExist();
    }
  }
}
