package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Every wrong call ends in one line that names the command and what is wrong, and in the right exit
/// code.
class BadUsageTest {
  @TempDir private Path dir;

  /// Columns: exit code | arguments, LLAMA and DIR for folders | a part of the message.
  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      textBlock =
          """
          2 | | no command given
          2 | bogus | no command "bogus"
          2 | --bogus | Unknown option: '--bogus'
          2 | info | Missing required parameter: 'MODEL'
          2 | info LLAMA extra | 'extra'
          2 | info LLAMA --thread 2 | --thread
          2 | info LLAMA --threads two | '--threads': 'two'
          2 | info LLAMA --threads 0 | --threads 0: want at least 1
          2 | info LLAMA --backend fast | --backend "fast": want auto, cuda, vector or reference
          2 | info LLAMA --quantize q5_0 | "q5_0", want q8_0 or q4_0
          2 | info LLAMA --text a | --text and --ids are for --quantize
          1 | info DIR/none | no such folder
          1 | info DIR | no config.json
          1 | info LLAMA/config.json | no GGUF file: it does not begin with the letters GGUF
          1 | info bundled:tiny | bundled:tiny
          2 | info bundled:../x | want bundled:tiny, a folder or a file
          2 | generate LLAMA | --prompt=TEXT
          2 | generate LLAMA --prompt a --prompts DIR/x | mutually exclusive
          2 | generate LLAMA --prompt a --system b | --system belongs to --chat
          2 | generate LLAMA --prompt a --template-var x=1 | --template-var belongs to --chat and --prompts
          2 | generate LLAMA --prompt a --repetition-penalty 0 | --repetition-penalty 0.0: want a finite number > 0
          2 | generate LLAMA --prompt a --memory lots | "lots", want a size such as 12g
          1 | generate LLAMA --prompt a --memory 1k | a context of
          1 | generate LLAMA --prompts DIR/none | no such file or folder
          2 | score LLAMA --out DIR/s --think-tokens 0 | --think-tokens 0: want at least 1
          2 | logits LLAMA --ids 1,2 | '--out=FILE'
          2 | logits LLAMA --out DIR/x | --ids=IDS
          2 | logits LLAMA --ids 1 --text a --out DIR/x | mutually exclusive
          2 | logits LLAMA --ids 1,,2 --out DIR/x | "" at place 1
          2 | logits LLAMA --ids 1,two --out DIR/x | "two" at place 1
          2 | logits LLAMA --ids 1,320 --out DIR/x | id 320 at place 1, want 0 to 319
          2 | logits LLAMA --ids -1 --out DIR/x | --ids
          1 | logits LLAMA --ids @DIR/none --out DIR/x | no such file or folder
          1 | logits LLAMA --ids 1 --out DIR/none/x | not written: no such file or folder
          2 | logits LLAMA --ids 1 --out DIR/x --mask 3-0 | head 3-0 is not in the model
          2 | logits LLAMA --ids 1 --out DIR/x --mask 0-6 | heads 0-5
          2 | logits LLAMA --ids 1 --out DIR/x --mask 12 | want LAYER-HEAD
          2 | logits LLAMA --ids 1 --out DIR/x --mask 0-1,0-1 | head 0-1 occurs twice
          1 | logits LLAMA --ids 1 --out DIR/x --mask @DIR/none | no such file or folder
          2 | logits LLAMA --ids 1 --out DIR/x --mask 0-1 --mask-kind half | "half", want zero, uniform
          2 | logits LLAMA --ids 1 --out DIR/x --mask 0-1 --mask-kind scale=NaN | want zero, uniform
          2 | logits LLAMA --ids 1 --out DIR/x --mask 0-1 --mask-kind local=4 | want zero, uniform
          2 | logits LLAMA --ids 1 --out DIR/x --mask 0-1 --mask-kind local=4,0 | window >= 1
          2 | logits LLAMA --ids 1 --out DIR/x --mask-kind zero | --mask-kind without --mask
          2 | logits LLAMA --ids 1 --out DIR/x --mask 0-1 --mask 0-2 | should be specified only once
          2 | logits LLAMA --ids 1 --out DIR/x --mask-phase decode | '--mask-phase'
          2 | generate LLAMA --prompt a --mask-phase decode | --mask-phase without --mask
          2 | generate LLAMA --prompt a --mask 0-1 --mask-phase late | want everywhere or decode
          2 | generate LLAMA --prompt a --n 0 | --n 0: want 1 to 100000
          2 | generate LLAMA --prompt a --max-new-tokens 0 | --max-new-tokens 0: want at least 1
          2 | generate LLAMA --prompt a --temperature -1 | --temperature -1.0: want
          2 | generate LLAMA --prompt a --temperature 1 --top-p 0 | --top-p 0.0: want
          2 | generate LLAMA --prompt a --top-k 5 | no effect at temperature 0
          2 | generate LLAMA --prompt a --chat b | mutually exclusive
          1 | generate LLAMA --prompt a --max-new-tokens 5000 | the model has 1024
          2 | generate LLAMA --prompt a --template-var x=1 | --template-var belongs to --chat
          2 | generate LLAMA --chat a --template-var x=yes | "yes" is not JSON
          1 | encode DIR --text a | tokenizer.json
          1 | encode LLAMA --chat DIR/none | no such file
          2 | encode LLAMA --text a --render | belong to --chat
          2 | decode LLAMA --ids 400 | id 400 at place 0
          2 | heads | 'SCORES'
          1 | heads DIR/none --top-k 1 | no such file or folder
          2 | heads DIR/none | --threshold=SCORE
          2 | heads DIR/none --top-k 1 --threshold 2 | mutually exclusive
          2 | heads DIR/none --top-k 1 --seed 3 | belong to --control
          2 | heads DIR/none --top-k 1 --control worst | control "worst": want one of random
          2 | mask LLAMA --out DIR/x | --mask is missing
          1 | mask LLAMA --mask 0-1 --out LLAMA | it is the checkpoint that is being read
          2 | score LLAMA --out DIR/s | give --needles or --trials
          2 | score LLAMA --out DIR/s --method best | method "best": want one of wu, wu-compat
          1 | score LLAMA --out DIR/s --trials DIR/none | no such file or folder
          2 | score LLAMA --out DIR/s --trials DIR/t --needles DIR/n | --trials and --needles
          2 | score LLAMA --out DIR/s --trials DIR/t --lengths 5 | --lengths belongs to --needles
          2 | score LLAMA --out DIR/s --trials DIR/t --per-length 5 | --per-length and --seed belong
          2 | score LLAMA --out DIR/s --trials DIR/t --depths 50 | belong to --needles
          2 | score LLAMA --out DIR/s --needles DIR | no part1 beside it
          1 | score LLAMA --out DIR/s --needles DIR/n.jsonl | no such file or folder
          2 | score LLAMA --out DIR/s --needles DIR/n --lengths 5:1 | want whole numbers
          2 | score LLAMA --out DIR/s --needles DIR/n --depths 101 | depth 101
          2 | score LLAMA --out DIR/s --needles DIR/n --form talk | --form "talk"
          2 | score LLAMA --out DIR/s --needles DIR/n --provider glm | --provider belongs
          2 | score LLAMA --method wu-compat --out DIR/s --needles DIR --haystack DIR/h --provider x | --provider "x": want llama
          2 | sample LLAMA --prompts DIR/p --out DIR/o | --mask is missing
          1 | sample LLAMA --mask 0-1 --prompts DIR/none --out DIR/o | no such file or folder
          2 | sample LLAMA --mask 0-1 --prompts DIR/p --out DIR/o --max-length-ratio 0.5 | length ratio 0.5
          2 | sample LLAMA --mask 0-1 --prompts DIR/p --out DIR/o --max-new-tokens 0 | at most 0 new
          1 | dpo LLAMA --pairs DIR/none --out DIR/o | no such file or folder
          2 | dpo LLAMA --pairs DIR/p --out DIR/o --beta -1 | beta
          2 | dpo LLAMA --pairs DIR/p --out DIR/o --learning-rate 0 | peak 0.0
          2 | dpo LLAMA --pairs DIR/p --out DIR/o --batch-size 0 | 0 pairs
          2 | dpo LLAMA --pairs DIR/p --out DIR/o --max-grad-norm -1 | max gradient norm -1.0
          2 | dpo LLAMA --pairs DIR/p --out DIR/o --max-grad-norm NaN | max gradient norm NaN
          2 | dpo LLAMA --pairs DIR/p --out DIR/o --max-grad-norm none | --max-grad-norm
          2 | dpo LLAMA --pairs DIR/p --out DIR/o --schedule steps | --schedule "steps": want cosine
          2 | dpo LLAMA --pairs DIR/p --out DIR/o --eos never | --eos "never": want once or appended
          1 | train DIR/none --out DIR/o | no such file
          2 | train --out DIR/o | 'RECIPE'
          2 | eval LLAMA --out DIR/r | '--suite=SUITE'
          2 | eval LLAMA --suite helmet --out DIR/r | --suite "helmet": want niah or synthetic
          2 | eval LLAMA --suite niah --out DIR/r | needs --needles or --trials
          2 | eval LLAMA --suite synthetic --trials DIR/t --out DIR/r | belong to --suite niah
          2 | eval LLAMA --suite synthetic --arm x --out DIR/r | --arm without --mask
          1 | eval LLAMA --suite synthetic --out DIR/r | no language.json
          """)
  void aWrongCallIsOneLineAndItsExitCode(int code, String line, String message) {
    String[] args =
        line == null
            ? new String[0]
            : line.replace("LLAMA", Cli.golden("llama").toString())
                .replace("DIR", dir.toString())
                .split(" ");
    Cli cli = Cli.run((Object[]) args);
    assertThat(cli.error()).contains(message);
    String command =
        line == null || line.startsWith("-") || line.startsWith("bogus") ? "" : args[0];
    assertThat(cli.error()).startsWith(("retmask " + command).strip() + ": ");
    assertThat(cli.code()).as(cli.err()).isEqualTo(code);
    assertThat(cli.out()).isEmpty();
  }

  @Test
  void verboseShowsWhereAnErrorCameFrom() {
    Cli cli = Cli.run("info", dir, "--verbose");
    assertThat(cli.code()).isEqualTo(1);
    assertThat(cli.err()).startsWith("retmask info: ").contains("\tat io.github.retmask");
  }

  @Test
  void helpOfEveryCommandHasExamples() {
    String all = Cli.ok("--help").out();
    int commands = 0;
    for (String line : all.lines().dropWhile(l -> !l.equals("Commands:")).skip(1).toList()) {
      if (line.matches("  [a-z].*")) {
        String name = line.strip().split(" ")[0];
        String help = Cli.ok(name, "--help").out();
        assertThat(help).as(name).contains("Example").contains("  retmask " + name + " ");
        commands++;
      }
    }
    assertThat(commands).isEqualTo(14);
  }

  @Test
  void versionIsPrinted() {
    assertThat(Cli.ok("--version").out()).matches("retmask \\d+\\.\\d+.*\n");
    assertThat(Cli.ok("info", "--version").out()).isEqualTo(Cli.ok("--version").out());
  }

  @Test
  void anOutputThatCannotBeWrittenIsReportedBeforeTheWork() throws IOException {
    Path trials = Planted.trials(dir.resolve("trials.jsonl"), 3, 3);
    Path nowhere = dir.resolve("none").resolve("scores.json");
    Cli cli = Cli.run("score", Planted.MODEL, "--trials", trials, "--out", nowhere);
    assertThat(cli.code()).isEqualTo(1);
    assertThat(cli.error()).startsWith("retmask score: " + nowhere).contains("no such file");
  }

  @Test
  void aFullOutputIsReported() {
    Path full = Path.of("/dev/full");
    assumeTrue(Files.exists(full), "no /dev/full on this system");
    Cli cli = Cli.run("logits", Cli.golden("llama"), "--ids", "1,2", "--out", full);
    assertThat(cli.code()).isEqualTo(1);
    assertThat(cli.error()).contains("No space left on device");
  }

  @Test
  void aReaderThatWentAwayIsNoErrorToReport() {
    assertThat(errorsWith("Broken pipe")).isEmpty();
    assertThat(errorsWith("No space left on device"))
        .isEqualTo("retmask encode: standard output: No space left on device\n");
  }

  /// Standard error of a command whose standard output fails.
  private static String errorsWith(String failure) {
    OutputStream broken =
        new OutputStream() {
          @Override
          public void write(int b) throws IOException {
            throw new IOException(failure);
          }
        };
    java.io.ByteArrayOutputStream err = new java.io.ByteArrayOutputStream();
    Console console = new Console(broken, new PrintStream(err, true), false);
    int code = Retmask.run(console, "encode", Cli.golden("llama").toString(), "--text", "a");
    assertThat(code).isEqualTo(1);
    return err.toString(StandardCharsets.UTF_8);
  }

  @Test
  void memoryThatDoesNotSufficeIsOneLine() throws Exception {
    Path ids = dir.resolve("ids.txt");
    Files.writeString(ids, "1,".repeat(16 << 20));
    ProcessBuilder builder =
        Cli.process("logits", Cli.golden("llama"), "--ids", "@" + ids, "--out", dir.resolve("x"));
    builder.command().set(builder.command().indexOf("-Xmx512m"), "-Xmx24m");
    Process process = builder.start();
    String err = new String(process.getErrorStream().readAllBytes(), StandardCharsets.UTF_8);
    assertThat(process.waitFor()).as(err).isEqualTo(1);
    assertThat(err.lines().filter(l -> !l.contains("incubator")).toList())
        .singleElement()
        .asString()
        .startsWith("retmask logits: out of memory: Java heap space");
  }
}
