package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIOException;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// Writers in processes of their own: killed in the middle, or out of disk space.
class InterruptedWritesTest {
  @TempDir Path dir;

  private static Process start(List<String> before, String... args) throws IOException {
    List<String> command = new ArrayList<>(before);
    command.addAll(
        List.of(
            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-Xmx64m",
            "-cp",
            System.getProperty("java.class.path"),
            SavingProcess.class.getName()));
    command.addAll(List.of(args));
    return new ProcessBuilder(command).redirectErrorStream(true).start();
  }

  /// Starts a writer, and kills it when it has written half; `meanwhile` runs before the kill.
  private static void killHalfway(Meanwhile meanwhile, String... args) throws Exception {
    Process writer = start(List.of(), args);
    try {
      BufferedReader out = writer.inputReader();
      assertThat(out.readLine()).isEqualTo("writing");
      meanwhile.run();
    } finally {
      writer.destroyForcibly().waitFor();
    }
  }

  private interface Meanwhile {
    void run() throws Exception;
  }

  private static void assertSameFiles(Path folder, Path golden) throws IOException {
    for (String name : TestFiles.names(folder)) {
      assertThat(folder.resolve(name)).hasSameBinaryContentAs(golden.resolve(name));
    }
  }

  @Test
  void killedWriterOfAFileLeavesTheOldOneAndTheNextWriterCleansUp() throws Exception {
    Path file = dir.resolve("a.json");
    AtomicFiles.write(file, "old");
    killHalfway(
        () ->
            assertThatIOException()
                .isThrownBy(() -> AtomicFiles.write(file, "too early"))
                .withMessageContaining("another process is writing it"),
        "file",
        file.toString());
    assertThat(file).hasContent("old");
    assertThat(TestFiles.names(dir)).containsExactly(".a.json.partial", "a.json");
    AtomicFiles.write(file, "new");
    assertThat(file).hasContent("new");
    assertThat(TestFiles.names(dir)).containsExactly("a.json");
  }

  @Test
  void killedWriterOfANewCheckpointLeavesNoneAndTheNextWriterCleansUp() throws Exception {
    Path target = dir.resolve("out");
    killHalfway(
        () ->
            assertThatIOException()
                .isThrownBy(() -> CheckpointFolder.write(target, IfPresent.REFUSE, _ -> {}))
                .withMessageContaining("another process is writing it"),
        "half",
        target.toString());
    assertThat(TestFiles.names(dir)).containsExactly(".out.partial");
    Path golden = TestFiles.golden("llama");
    try (Checkpoint checkpoint = Checkpoint.open(golden)) {
      checkpoint.save(target, Map.of(), IfPresent.REFUSE);
    }
    assertThat(TestFiles.names(dir)).containsExactly("out");
    assertSameFiles(target, golden);
  }

  @Test
  void killedReplacementLeavesTheOldCheckpointAndTheNextWriterCleansUp() throws Exception {
    Path target = dir.resolve("out");
    Path mistral = TestFiles.golden("mistral");
    Path llama = TestFiles.golden("llama");
    try (Checkpoint checkpoint = Checkpoint.open(mistral)) {
      checkpoint.save(target, Map.of(), IfPresent.REFUSE);
    }
    List<String> before = TestFiles.names(target);
    killHalfway(() -> {}, "half", target.toString());
    Checkpoint.open(target).close();
    assertThat(TestFiles.names(target)).containsAll(before).hasSize(before.size() + 1);
    try (Checkpoint checkpoint = Checkpoint.open(llama)) {
      checkpoint.save(target, Map.of(), IfPresent.REPLACE);
    }
    assertThat(TestFiles.names(target))
        .containsExactly(
            "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json");
    assertSameFiles(target, llama);
  }

  /// A limit on the length of files stands in for a full disk: the write call fails in the middle of
  /// the weights.
  @Test
  void writerWithoutSpaceFailsInOneLineAndChangesNothing() throws Exception {
    assumeTrue(Files.isExecutable(Path.of("/bin/sh")), "no /bin/sh on this system");
    Path mistral = TestFiles.golden("mistral");
    Path target = dir.resolve("out");
    try (Checkpoint checkpoint = Checkpoint.open(mistral)) {
      checkpoint.save(target, Map.of(), IfPresent.REFUSE);
    }
    for (Path to : List.of(dir.resolve("new"), target)) {
      Process writer =
          start(
              List.of("/bin/sh", "-c", "ulimit -f 64; exec \"$@\"", "sh"), // 32 or 64 KiB
              "save",
              TestFiles.golden("llama").toString(),
              to.toString());
      List<String> lines = writer.inputReader().lines().toList();
      assertThat(writer.waitFor()).isEqualTo(1);
      assertThat(lines).containsExactly(to + ": not written: File too large");
    }
    assertThat(TestFiles.names(dir)).containsExactly("out");
    assertSameFiles(target, mistral);
    assertThat(TestFiles.names(target)).hasSize(6);
  }
}
