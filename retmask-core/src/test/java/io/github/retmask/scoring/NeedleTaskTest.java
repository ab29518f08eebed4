package io.github.retmask.scoring;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import io.github.retmask.io.FormatException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.assertj.core.api.ThrowableAssert.ThrowingCallable;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class NeedleTaskTest {
  @TempDir private Path dir;

  private void needles(String... lines) throws IOException {
    Files.writeString(dir.resolve("needles.jsonl"), String.join("\n", lines));
  }

  @Test
  void everyNeedleHasAFolderOfTextOfItsOwn() throws IOException {
    needles(
        "{\"needle\": \"It is red.\", \"question\": \"What ?\", \"real_needle\": \"red\"}",
        "{\"question\": \"Who ?\", \"needle\": \"Tom did it.\", \"real_needle\": \"Tom\"}");
    for (String file : List.of("part1/b.txt", "part1/a.txt", "part1/c.md", "part2/p1.txt")) {
      Files.createDirectories(dir.resolve(file).getParent());
      Files.writeString(dir.resolve(file), file + ";");
    }
    assertThat(NeedleTask.readFolder(dir))
        .containsExactly(
            new NeedleTask("1", "It is red.", "What ?", "red", "part1/a.txt;part1/b.txt;"),
            new NeedleTask("2", "Tom did it.", "Who ?", "Tom", "part2/p1.txt;"));
    assertThat(NeedleTask.readText(dir.resolve("part1/c.md"))).isEqualTo("part1/c.md;");
  }

  @Test
  void brokenNeedlesAndTextsAreNamed() throws IOException {
    Path file = dir.resolve("needles.jsonl");
    needles("{\"needle\": \"It is red.\", \"question\": \"What ?\"}");
    refused(
        () -> NeedleTask.read(file, ""), file + " line 1: \"real_needle\" is null, want a text");
    needles("{\"needle\": 5, \"question\": \"What ?\", \"real_needle\": \"red\"}");
    refused(() -> NeedleTask.read(file, ""), file + " line 1: \"needle\" is 5, want a text");
    needles("");
    refused(() -> NeedleTask.read(file, ""), file + ": no needles in it");
    Path none = dir.resolve("part1");
    refused(() -> NeedleTask.readText(none), none + ": no such file or folder");
    Files.createDirectories(none);
    refused(
        () -> NeedleTask.readText(none),
        none + ": no text in it, want .txt files to hide needles in");
    Files.write(none.resolve("a.txt"), new byte[] {'a', (byte) 0xff});
    refused(() -> NeedleTask.readText(none), none.resolve("a.txt") + ": not UTF-8 text");
  }

  private static void refused(ThrowingCallable call, String message) {
    assertThatExceptionOfType(FormatException.class).isThrownBy(call).withMessage(message);
  }
}
