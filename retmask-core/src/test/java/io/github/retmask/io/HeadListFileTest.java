package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;

import io.github.retmask.heads.HeadId;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class HeadListFileTest {
  private static final List<HeadId> HEADS =
      List.of(new HeadId(15, 30), new HeadId(0, 1), new HeadId(2, 0));

  @TempDir Path dir;

  private List<HeadId> read(String content) throws IOException {
    Path file = dir.resolve("heads.json");
    Files.writeString(file, content);
    return HeadListFile.read(file);
  }

  private void refused(String content, String message) {
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> read(content))
        .withMessage(dir.resolve("heads.json") + message);
  }

  @Test
  void writtenListsAreReadBackInTheirOrder() throws IOException {
    Path file = dir.resolve("a.json");
    HeadListFile.write(file, HEADS);
    assertThat(file).hasContent("[[15, 30], [0, 1], [2, 0]]\n");
    assertThat(HeadListFile.read(file)).isEqualTo(HEADS);
    HeadListFile.write(file, List.of());
    assertThat(HeadListFile.read(file)).isEmpty();
  }

  @Test
  void linesAndRankedListsAreReadToo() throws IOException {
    assertThat(read("15-30\n\n 0-1 \r\n2-0")).isEqualTo(HEADS);
    assertThat(read("[\n [\"15-30\", 0.9],\n [\"0-1\", 0.5],\n [\"2-0\", 0]\n]\n"))
        .isEqualTo(HEADS);
    assertThat(read("")).isEmpty();
    assertThat(read("\uFEFF[[15, 30], [0, 1], [2, 0]]")).isEqualTo(HEADS);
  }

  @Test
  void brokenEntriesAreNamed() {
    refused("1-2\n3,4\n", " line 2: head \"3,4\": want LAYER-HEAD, such as 12-7");
    refused(
        "x".repeat(100_000),
        " line 1: head \"" + "x".repeat(160) + "...\": want LAYER-HEAD, such as 12-7");
    refused(
        "{\"1-2\": [0.5]}",
        ": a JSON object, want a list of heads; if these are scores, take heads from them first (retmask heads)");
    refused("[[1, 2], [3]]", ": entry [3]: want [layer, head] or [\"LAYER-HEAD\", score]");
    refused("[[1, 2.5]]", ": entry [1,2.5]: want [layer, head] or [\"LAYER-HEAD\", score]");
    refused("[[1, -2]]", ": entry [1,-2]: head 1--2: numbers start at 0");
    refused("[[1, 2], [1, 2]]", ": head 1-2 occurs twice");
    refused("1-2\n1-2", ": head 1-2 occurs twice");
  }

  @Test
  void cutListsAreNoJson() {
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> read("[[1, 2], [3"))
        .withMessageStartingWith(dir.resolve("heads.json") + ": not JSON: ");
  }
}
