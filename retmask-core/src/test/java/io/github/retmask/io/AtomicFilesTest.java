package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIOException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AtomicFilesTest {
  @TempDir Path dir;

  private List<String> names() throws IOException {
    try (Stream<Path> files = Files.list(dir)) {
      return files.map(f -> f.getFileName().toString()).sorted().toList();
    }
  }

  @Test
  void createsAndReplacesWithoutLeavingAnythingElse() throws IOException {
    Path file = dir.resolve("a.json");
    AtomicFiles.write(file, "one");
    assertThat(file).hasContent("one");
    AtomicFiles.write(file, "zwölf");
    assertThat(file).hasContent("zwölf");
    assertThat(names()).containsExactly("a.json");
  }

  @Test
  void failureInTheMiddleKeepsTheOldFile() throws IOException {
    Path file = dir.resolve("a.json");
    AtomicFiles.write(file, "old");
    assertThatIOException()
        .isThrownBy(
            () ->
                AtomicFiles.write(
                    file,
                    out -> {
                      out.write(new byte[100_000]);
                      throw new IOException("No space left on device");
                    }))
        .withMessage(file + ": not written: No space left on device");
    assertThatThrownBy(
            () ->
                AtomicFiles.write(
                    file,
                    _ -> {
                      throw new IllegalStateException("bug");
                    }))
        .isInstanceOf(IllegalStateException.class)
        .hasMessage("bug");
    assertThat(file).hasContent("old");
    assertThat(names()).containsExactly("a.json");
  }

  @Test
  void fullDiskIsOneLineThatNamesTheFile() {
    Path full = Path.of("/dev/full");
    assumeTrue(Files.exists(full), "no /dev/full on this system");
    assertThatIOException()
        .isThrownBy(() -> AtomicFiles.write(full, "text"))
        .withMessage("/dev/full: not written: No space left on device");
  }

  @Test
  void specialFilesAreWrittenStraightTo() throws IOException {
    Path sink = Path.of("/dev/null");
    assumeTrue(Files.exists(sink), "no /dev/null on this system");
    AtomicFiles.write(sink, "text");
    assertThat(Files.isRegularFile(sink)).isFalse();
  }

  @Test
  void missingFolderIsNamed() {
    Path file = dir.resolve("none").resolve("a.json");
    assertThatIOException()
        .isThrownBy(() -> AtomicFiles.write(file, "text"))
        .withMessage(
            "%s: not written: no such file or folder: %s"
                .formatted(file, dir.resolve("none").resolve(".a.json.partial")));
  }

  @Test
  void folderIsNoFile() {
    assertThatIOException()
        .isThrownBy(() -> AtomicFiles.write(dir, "text"))
        .withMessageStartingWith(dir + ": not written: ");
    assertThat(dir).isEmptyDirectory();
  }

  @Test
  void leftoverOfAKilledWriterIsReplaced() throws IOException {
    Path file = dir.resolve("a.json");
    Files.writeString(dir.resolve(".a.json.partial"), "half of something much longer");
    AtomicFiles.write(file, "whole");
    assertThat(file).hasContent("whole");
    assertThat(names()).containsExactly("a.json");
  }

  @Test
  void secondWriterAtTheSameTimeIsRefused() throws IOException {
    Path file = dir.resolve("a.json");
    AtomicFiles.write(
        file,
        out -> {
          out.write('1');
          assertThatIOException()
              .isThrownBy(() -> AtomicFiles.write(file, "2"))
              .withMessageContaining("another process is writing it");
        });
    assertThat(file).hasContent("1");
    assertThat(names()).containsExactly("a.json");
  }

  @Test
  void linkStaysALink() throws IOException {
    Path file = dir.resolve("a.json");
    Path link = dir.resolve("link.json");
    Files.writeString(file, "old");
    Files.createSymbolicLink(link, file.getFileName());
    AtomicFiles.write(link, "new");
    assertThat(Files.isSymbolicLink(link)).isTrue();
    assertThat(file).hasContent("new");
  }

  @Test
  void readerOfTheOldFileKeepsItsBytes() throws IOException {
    Path file = dir.resolve("a.json");
    AtomicFiles.write(file, "old");
    try (FileChannel reader = FileChannel.open(file, StandardOpenOption.READ)) {
      AtomicFiles.write(file, "new!");
      assertThat(reader.size()).isEqualTo(3);
    }
    assertThat(file).hasContent("new!");
  }
}
