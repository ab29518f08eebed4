package io.github.retmask.examples.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeFalse;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// Commands killed in the middle, each in a process of its own, go on to the same bytes. Most run on
/// the reference backend, which needs no C2 to be fast enough; that of a command does not matter here.
class KilledCommandsTest {
  private static final Duration PATIENCE = Duration.ofMinutes(3);

  @TempDir private Path dir;

  /// How a process is ended.
  private enum End {
    /// SIGKILL.
    KILL,
    /// SIGTERM, which is treated as Ctrl-C.
    TERMINATE
  }

  /// Starts a command and ends it once `progress` is at least `bytes` long.
  private void end(End how, Path progress, long bytes, Object... args) throws Exception {
    Process process = Cli.process(args).start();
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    while (process.isAlive() && (!Files.exists(progress) || Files.size(progress) < bytes)) {
      assertThat(System.nanoTime()).as("waited too long for " + progress).isLessThan(deadline);
      Thread.sleep(2);
    }
    if (how == End.KILL) {
      process.toHandle().destroyForcibly(); // unlike Process.destroy, it leaves the streams open
    } else {
      process.toHandle().destroy();
    }
    String err = new String(process.getErrorStream().readAllBytes(), StandardCharsets.UTF_8);
    int code = process.waitFor();
    assertThat(Files.exists(progress)).as("ended in the middle: " + err).isTrue();
    if (how == End.TERMINATE) {
      assertThat(code).as(err).isEqualTo(130);
      List<String> lines = err.lines().filter(line -> !line.contains("incubator")).toList();
      assertThat(lines.getLast())
          .contains("interrupted")
          .contains("goes on"); // progress may stand before it
    }
  }

  private static Object[] with(Object[] args, Object... more) {
    Object[] all = Arrays.copyOf(args, args.length + more.length);
    System.arraycopy(more, 0, all, args.length, more.length);
    return all;
  }

  @ParameterizedTest
  @EnumSource(End.class)
  void score(End how) throws Exception {
    assumeFalse(System.getProperty("os.name").startsWith("Windows"), "no signals on Windows");
    Path trials = Planted.trials(dir.resolve("trials.jsonl"), 4, 80);
    Object[] args = {
      "score", Planted.MODEL, "--trials", trials, "--backend", "reference", "--threads", 1
    };
    Path out = dir.resolve("scores.json");
    Path journal = dir.resolve("scores.json.partial");
    end(how, journal, 3000, with(args, "--out", out));
    assertThat(out).doesNotExist();
    Cli other = Cli.run(with(args, "--out", out, "--method", "wu-compat"));
    assertThat(other.code()).isEqualTo(1);
    assertThat(other.error()).contains("method=wu").contains("--restart");
    Cli.ok(with(args, "--out", out));
    Path whole = dir.resolve("whole.json");
    Cli.ok(with(args, "--out", whole));
    assertThat(out).hasSameBinaryContentAs(whole);
    assertThat(dir.resolve("scores.meta.json"))
        .hasSameBinaryContentAs(dir.resolve("whole.meta.json"));
    assertThat(journal).doesNotExist();
  }

  @ParameterizedTest
  @EnumSource(End.class)
  void sample(End how) throws Exception {
    assumeFalse(System.getProperty("os.name").startsWith("Windows"), "no signals on Windows");
    Path prompts = Planted.prompts(dir.resolve("prompts.jsonl"), 90);
    Object[] args = {
      "sample",
      Planted.MODEL,
      "--mask",
      "1-2",
      "--prompts",
      prompts,
      "--max-new-tokens",
      40,
      "--ignore-eos",
      "--backend",
      "reference",
      "--threads",
      1
    };
    Path out = dir.resolve("pairs.jsonl.gz");
    Path journal = dir.resolve("pairs.jsonl.gz.partial");
    end(how, journal, 5000, with(args, "--out", out));
    assertThat(out).doesNotExist();
    Cli other = Cli.run(with(args, "--out", out, "--seed", 43));
    assertThat(other.code()).isEqualTo(1);
    assertThat(other.error()).contains("seed=42").contains("--restart");
    Cli.ok(with(args, "--out", out));
    Path whole = dir.resolve("whole.jsonl.gz");
    Cli.ok(with(args, "--out", whole));
    assertThat(out).hasSameBinaryContentAs(whole);
  }

  @ParameterizedTest
  @EnumSource(End.class)
  void train(End how) throws Exception {
    assumeFalse(System.getProperty("os.name").startsWith("Windows"), "no signals on Windows");
    Path recipe = Planted.recipe(dir.resolve("recipe.json"), 60);
    String backend = how == End.KILL ? "vector" : "reference";
    Object[] args = {"train", recipe, "--backend", backend, "--threads", 1};
    Path out = dir.resolve("model");
    end(how, out.resolve("training-state.safetensors"), 1, with(args, "--out", out));
    assertThat(out.resolve("model.safetensors")).doesNotExist();
    Cli.ok(with(args, "--out", out));
    assertSameTraining(out, with(args));
  }

  @Test
  void dpo() throws Exception {
    Path prompts = Planted.prompts(dir.resolve("prompts.jsonl"), 24);
    Path pairs = dir.resolve("pairs.jsonl");
    Cli.ok(
        "sample",
        Planted.MODEL,
        "--mask",
        "1-2,0-0",
        "--prompts",
        prompts,
        "--max-new-tokens",
        8,
        "--out",
        pairs);
    Object[] args = {
      "dpo",
      Planted.MODEL,
      "--pairs",
      pairs,
      "--batch-size",
      2,
      "--epochs",
      3,
      "--learning-rate",
      "1e-4",
      "--checkpoint-every",
      1,
      "--log-every",
      2,
      "--backend",
      "reference",
      "--threads",
      1
    };
    Path out = dir.resolve("model");
    end(End.KILL, out.resolve("training-state.safetensors"), 1, with(args, "--out", out));
    assertThat(out.resolve("model.safetensors")).doesNotExist();
    Cli.ok(with(args, "--out", out));
    assertSameTraining(out, args);
  }

  private void assertSameTraining(Path out, Object[] args) throws IOException {
    Path whole = dir.resolve("whole");
    Cli.ok(with(args, "--out", whole));
    assertThat(Cli.names(out)).isEqualTo(Cli.names(whole));
    for (String name : Cli.names(whole)) {
      assertThat(out.resolve(name)).hasSameBinaryContentAs(whole.resolve(name));
    }
  }
}
