package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIOException;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.WorkJournal.Existing;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class WorkJournalTest {
  private static final Map<String, String> OPTIONS = Map.of("seed", "42", "temperature", "0.6");
  private static final int WORK = 7;

  @TempDir Path dir;
  private Path out;
  private Path partial;

  @BeforeEach
  void names() {
    out = dir.resolve("pairs.jsonl.gz");
    partial = dir.resolve("pairs.jsonl.gz.partial");
  }

  private static ObjectNode item(int i) {
    return JsonNodeFactory.instance
        .objectNode()
        .put("id", i)
        .put("text", "zwölf \n" + "x".repeat(i));
  }

  private WorkJournal open(Existing existing) throws IOException {
    return WorkJournal.open(out, OPTIONS, existing);
  }

  /// What a resumable command does: what is missing, then the final file in order.
  private void work(int upTo) throws IOException {
    try (WorkJournal journal = open(Existing.RESUME)) {
      Set<Integer> done = new TreeSet<>();
      for (int i = 0; i < journal.size(); i++) {
        done.add(journal.item(i).get("id").asInt());
      }
      for (int i = 0; i < upTo; i++) {
        if (!done.contains(i)) {
          journal.append(item(i));
        }
      }
      if (upTo == WORK) {
        journal.finish(
            () ->
                JsonLines.write(
                    out,
                    sink -> {
                      for (int i = 0; i < WORK; i++) {
                        sink.write(journal.item(i));
                      }
                    }));
      }
    }
  }

  @Test
  void aFinishedJournalLeavesTheFinalFileAlone() throws IOException {
    work(WORK);
    assertThat(TestFiles.names(dir)).containsExactly("pairs.jsonl.gz");
    try (JsonLines.Reader reader = JsonLines.read(out)) {
      for (int i = 0; i < WORK; i++) {
        assertThat(reader.next()).isEqualTo(item(i));
      }
      assertThat(reader.next()).isNull();
    }
  }

  @Test
  void cutAtAnyByteTheWorkGoesOnToTheSameBytes() throws IOException {
    work(WORK);
    byte[] want = Files.readAllBytes(out);
    Files.delete(out);
    work(WORK - 1);
    try (WorkJournal journal = open(Existing.RESUME)) {
      journal.append(item(WORK - 1));
    }
    byte[] whole = Files.readAllBytes(partial);
    List<Integer> ends = new ArrayList<>();
    for (int i = 0; i < whole.length; i++) {
      if (whole[i] == '\n') {
        ends.add(i + 1);
      }
    }
    assertThat(ends).hasSize(WORK + 1);
    for (int length = 0; length <= whole.length; length++) {
      Files.write(partial, Arrays.copyOf(whole, length));
      int cut = length;
      int kept = Math.max(0, (int) ends.stream().filter(end -> end <= cut).count() - 1);
      try (WorkJournal journal = open(Existing.RESUME)) {
        assertThat(journal.size()).as("items kept of %d bytes", length).isEqualTo(kept);
        for (int i = 0; i < kept; i++) {
          assertThat(journal.item(i)).isEqualTo(item(i));
        }
      }
      work(WORK);
      assertThat(Files.readAllBytes(out)).as("cut at byte %d", length).isEqualTo(want);
      assertThat(TestFiles.names(dir)).containsExactly("pairs.jsonl.gz");
      Files.delete(out);
    }
  }

  @Test
  void anOutputThatIsThereAlreadyIsReplacedOnlyWhenTold() throws IOException {
    Files.writeString(out, "mine");
    assertThatThrownBy(() -> open(Existing.RESUME).close())
        .isInstanceOf(FormatException.class)
        .hasMessageStartingWith(out + ": is there already");
    assertThat(TestFiles.names(dir)).containsExactly("pairs.jsonl.gz");
    open(Existing.RESTART).close();
    Files.delete(out);
    Files.createDirectory(out);
    assertThatThrownBy(() -> open(Existing.RESTART).close())
        .isInstanceOf(IOException.class)
        .hasMessageStartingWith(out + ": not a regular file");
  }

  @Test
  void noChangedByteIsEverTakenForWork() throws IOException {
    work(WORK - 1);
    byte[] whole = Files.readAllBytes(partial);
    int header = 0;
    while (whole[header] != '\n') {
      header++;
    }
    for (int at = header + 1; at < whole.length; at++) {
      byte[] damaged = whole.clone();
      damaged[at] ^= 4;
      Files.write(partial, damaged);
      try (WorkJournal journal = open(Existing.RESUME)) {
        assertThat(journal.size()).isLessThan(WORK - 1);
        for (int i = 0; i < journal.size(); i++) {
          assertThat(journal.item(i)).isEqualTo(item(i));
        }
      }
    }
  }

  @Test
  void aLostLineEndsTheValidPart() throws IOException {
    work(WORK - 1);
    List<String> lines = new ArrayList<>(Files.readAllLines(partial));
    lines.remove(3);
    Files.write(partial, lines);
    try (WorkJournal journal = open(Existing.RESUME)) {
      assertThat(journal.size()).isEqualTo(2);
    }
  }

  @Test
  void otherOptionsAreRefusedByName() throws IOException {
    work(3);
    refused(
        Map.of("seed", "42", "temperature", "0.7"),
        "begun with temperature=0.6, now 0.7; repeat those options to go on, or begin anew with"
            + " --restart");
    refused(
        Map.of("seed", "42"),
        "begun with temperature=0.6, now without; repeat those options to go on, or begin anew with"
            + " --restart");
    refused(
        Map.of("seed", "1", "temperature", "0.6", "top-p", "1"),
        "begun with seed=42, now 1; without top-p, now top-p=1; repeat those options to go on, or"
            + " begin anew with --restart");
    try (WorkJournal journal = open(Existing.RESUME)) {
      assertThat(journal.size()).isEqualTo(3);
    }
  }

  private void refused(Map<String, String> options, String message) {
    assertThatExceptionOfType(FormatException.class)
        .isThrownBy(() -> WorkJournal.open(out, options, Existing.RESUME))
        .withMessage(partial + ": " + message);
  }

  @Test
  void restartThrowsTheOldWorkAway() throws IOException {
    work(3);
    try (WorkJournal journal = WorkJournal.open(out, Map.of("seed", "9"), Existing.RESTART)) {
      assertThat(journal.size()).isZero();
      journal.append(item(5));
    }
    try (WorkJournal journal = WorkJournal.open(out, Map.of("seed", "9"), Existing.RESUME)) {
      assertThat(journal.item(0)).isEqualTo(item(5));
    }
  }

  @Test
  void filesOfAnotherKindAreNotOverwritten() throws IOException {
    for (String content : List.of("my notes", "my notes\n", "{\"id\": 1}\n{\"id\": 2}\n", "\n")) {
      Files.writeString(partial, content);
      assertThatExceptionOfType(FormatException.class)
          .isThrownBy(() -> open(Existing.RESUME))
          .withMessage(
              partial
                  + ": is no journal of unfinished work; remove it, or begin anew with --restart");
      assertThat(partial).hasContent(content);
    }
  }

  @Test
  void aJournalHasOneWorkerAtATime() throws IOException {
    try (WorkJournal journal = open(Existing.RESUME)) {
      assertThatIOException()
          .isThrownBy(() -> open(Existing.RESTART))
          .withMessage(partial + ": another process is working on it");
      journal.append(item(0));
      assertThat(journal.size()).isEqualTo(1);
    }
  }

  @Test
  void aFailedPublicationKeepsTheJournal() throws IOException {
    try (WorkJournal journal = open(Existing.RESUME)) {
      journal.append(item(0));
      assertThatIOException()
          .isThrownBy(
              () ->
                  journal.finish(
                      () ->
                          JsonLines.write(
                              out,
                              _ -> {
                                throw new IOException("No space left on device");
                              })));
    }
    assertThat(TestFiles.names(dir)).containsExactly("pairs.jsonl.gz.partial");
    try (WorkJournal journal = open(Existing.RESUME)) {
      assertThat(journal.size()).isEqualTo(1);
    }
  }

  @Test
  void itemsOfManyThreadsAreAllKept() throws IOException {
    try (WorkJournal journal = open(Existing.RESUME)) {
      IntStream.range(0, 200)
          .parallel()
          .forEach(
              i -> {
                try {
                  journal.append(item(i));
                } catch (IOException e) {
                  throw new AssertionError(e);
                }
              });
    }
    try (WorkJournal journal = open(Existing.RESUME)) {
      Set<Integer> ids = new TreeSet<>();
      for (int i = 0; i < journal.size(); i++) {
        ids.add(journal.item(i).get("id").asInt());
      }
      assertThat(ids).hasSize(200);
    }
  }

  @Test
  void missingFolderIsNamed() {
    Path there = dir.resolve("none").resolve("a.json");
    assertThatIOException()
        .isThrownBy(() -> WorkJournal.open(there, OPTIONS, Existing.RESUME))
        .withMessageStartingWith(there + ".partial: not opened: no such file or folder");
  }
}
