package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatIOException;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CheckpointFolderTest {
  @TempDir Path dir;

  private static void fill(Path folder) throws IOException {
    Files.writeString(folder.resolve("config.json"), "new config");
    Files.writeString(folder.resolve("model.safetensors"), "new weights");
  }

  @Test
  void leftoversOfAKilledWriterBesideANewFolderAreReplaced() throws IOException {
    Path target = dir.resolve("out");
    Path leftover = Files.createDirectories(dir.resolve(".out.partial/sub"));
    Files.writeString(leftover.resolve("x"), "half");
    Files.writeString(leftover.resolveSibling("model.safetensors"), "half");
    Files.writeString(leftover.resolveSibling(".lock"), "");
    CheckpointFolder.write(target, IfPresent.REFUSE, CheckpointFolderTest::fill);
    assertThat(TestFiles.names(target)).containsExactly("config.json", "model.safetensors");
    assertThat(target.resolve("model.safetensors")).hasContent("new weights");
    assertThat(TestFiles.names(dir)).containsExactly("out");
  }

  /// Killed between two moves: weights are in place, config.json is not.
  @Test
  void interruptedMovesAreCompletedByTheSameWriteBegunAgain() throws IOException {
    Path target = Files.createDirectory(dir.resolve("out"));
    Files.writeString(target.resolve("model.safetensors"), "moved");
    Path partial = Files.createDirectory(target.resolve(".checkpoint.partial"));
    Files.writeString(partial.resolve("config.json"), "not moved");
    Files.writeString(partial.resolve(".lock"), "");
    CheckpointFolder.write(target, IfPresent.REFUSE, CheckpointFolderTest::fill);
    assertThat(TestFiles.names(target)).containsExactly("config.json", "model.safetensors");
    assertThat(target.resolve("config.json")).hasContent("new config");
  }

  @Test
  void emptyFolderIsFilledWithoutBeingAsked() throws IOException {
    CheckpointFolder.write(dir, IfPresent.REFUSE, CheckpointFolderTest::fill);
    assertThat(TestFiles.names(dir)).containsExactly("config.json", "model.safetensors");
  }

  @Test
  void secondWriterAtTheSameTimeIsRefusedAndTheFirstFinishes() throws IOException {
    Path target = dir.resolve("out");
    CheckpointFolder.write(
        target,
        IfPresent.REFUSE,
        folder -> {
          fill(folder);
          assertThatIOException()
              .isThrownBy(
                  () ->
                      CheckpointFolder.write(target, IfPresent.REPLACE, CheckpointFolderTest::fill))
              .withMessageStartingWith(target + ": not written: another process is writing it");
        });
    assertThat(TestFiles.names(target)).containsExactly("config.json", "model.safetensors");
    assertThat(TestFiles.names(dir)).containsExactly("out");
  }

  @Test
  void fileInThePlaceOfTheFolderIsRefused() throws IOException {
    Path file = Files.writeString(dir.resolve("out"), "x");
    assertThatIOException()
        .isThrownBy(
            () -> CheckpointFolder.write(file, IfPresent.REPLACE, CheckpointFolderTest::fill))
        .withMessage(file + ": not written: it is a file; give a folder");
    assertThat(file).hasContent("x");
  }

  @Test
  void linkInALeftoverIsDeletedAndWhatItPointsToStays() throws IOException {
    Path precious = Files.createDirectory(dir.resolve("precious"));
    Files.writeString(precious.resolve("x"), "x");
    Path partial = Files.createDirectory(dir.resolve(".out.partial"));
    Files.createSymbolicLink(partial.resolve("link"), precious);
    CheckpointFolder.write(dir.resolve("out"), IfPresent.REFUSE, CheckpointFolderTest::fill);
    assertThat(precious.resolve("x")).hasContent("x");
    assertThat(TestFiles.names(dir)).containsExactly("out", "precious");
  }
}
