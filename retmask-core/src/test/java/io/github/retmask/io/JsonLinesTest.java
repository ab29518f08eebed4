package io.github.retmask.io;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatExceptionOfType;
import static org.assertj.core.api.Assertions.assertThatIOException;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.zip.GZIPOutputStream;
import org.assertj.core.api.ThrowableAssertAlternative;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class JsonLinesTest {
  @TempDir Path dir;

  private static List<ObjectNode> readAll(Path file) throws IOException {
    List<ObjectNode> objects = new ArrayList<>();
    try (JsonLines.Reader reader = JsonLines.read(file)) {
      for (ObjectNode next = reader.next(); next != null; next = reader.next()) {
        objects.add(next);
      }
    }
    return objects;
  }

  private static ObjectNode object(int i) {
    return JsonNodeFactory.instance.objectNode().put("id", i).put("text", "zwölf\n\u2028 \"" + i);
  }

  private static void writeObjects(Path file, int count) throws IOException {
    JsonLines.write(
        file,
        sink -> {
          for (int i = 0; i < count; i++) {
            sink.write(object(i));
          }
        });
  }

  private static byte[] gzip(String text) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (GZIPOutputStream out = new GZIPOutputStream(bytes)) {
      out.write(text.getBytes(StandardCharsets.UTF_8));
    }
    return bytes.toByteArray();
  }

  private ThrowableAssertAlternative<FormatException> refusal(Path file) {
    return assertThatExceptionOfType(FormatException.class).isThrownBy(() -> readAll(file));
  }

  @Test
  void whatIsWrittenIsReadBackPlainAndCompressed() throws IOException {
    for (String name : List.of("a.jsonl", "a.jsonl.gz")) {
      Path file = dir.resolve(name);
      writeObjects(file, 207);
      List<ObjectNode> read = readAll(file);
      assertThat(read).hasSize(207);
      for (int i = 0; i < 207; i++) {
        assertThat(read.get(i)).isEqualTo(object(i));
      }
    }
    assertThat(Files.readAllBytes(dir.resolve("a.jsonl.gz"))).startsWith(0x1f, 0x8b);
    assertThat(Files.readAllLines(dir.resolve("a.jsonl"))).hasSize(207);
  }

  @Test
  void compressedBytesDependOnTheContentAlone() throws IOException {
    Path first = dir.resolve("a.jsonl.gz");
    Path second = dir.resolve("b.jsonl.gz");
    writeObjects(first, 5000);
    writeObjects(second, 5000);
    byte[] bytes = Files.readAllBytes(first);
    assertThat(Files.readAllBytes(second)).isEqualTo(bytes);
    // RFC 1952: no flags, modification time 0
    assertThat(Arrays.copyOfRange(bytes, 2, 8)).containsExactly(8, 0, 0, 0, 0, 0);
    // the same text in pieces of another size
    Path third = dir.resolve("c.gz");
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < 5000; i++) {
      text.append(object(i)).append('\n');
    }
    byte[] plain = text.toString().getBytes(StandardCharsets.UTF_8);
    AtomicFiles.write(
        third,
        out -> {
          var stream = Gzip.wrap(third, out);
          for (int at = 0; at < plain.length; at += 1013) {
            stream.write(plain, at, Math.min(1013, plain.length - at));
          }
          Gzip.finish(stream);
        });
    assertThat(Files.readAllBytes(third)).isEqualTo(bytes);
  }

  @Test
  void compressionIsRecognisedByContentNotByName() throws IOException {
    Path misnamed = dir.resolve("a.jsonl");
    Files.write(misnamed, gzip("{\"id\": 1}\n{\"id\": 2}\n"));
    assertThat(readAll(misnamed)).hasSize(2);
    Path plain = dir.resolve("b.jsonl.gz");
    Files.writeString(plain, "{\"id\": 1}");
    assertThat(readAll(plain)).hasSize(1);
  }

  @Test
  void blankLinesWindowsLineEndsAndAByteOrderMarkArePassedOver() throws IOException {
    Path file = dir.resolve("a.jsonl");
    Files.writeString(file, "\ufeff{\"id\": 1}\r\n\n   \n{\"id\": 2}");
    try (JsonLines.Reader reader = JsonLines.read(file)) {
      assertThat(reader.next()).hasToString("{\"id\":1}");
      assertThat(reader.line()).isEqualTo(1);
      assertThat(reader.next()).hasToString("{\"id\":2}");
      assertThat(reader.line()).isEqualTo(4);
      assertThat(reader.problem("no \"prompt\"")).hasMessage(file + " line 4: no \"prompt\"");
      assertThat(reader.next()).isNull();
      assertThat(reader.next()).isNull();
    }
  }

  @Test
  void emptyFilesHoldNothing() throws IOException {
    Path plain = dir.resolve("a.jsonl");
    Files.write(plain, new byte[0]);
    assertThat(readAll(plain)).isEmpty();
    Path compressed = dir.resolve("a.jsonl.gz");
    writeObjects(compressed, 0);
    assertThat(Files.size(compressed)).isPositive();
    assertThat(readAll(compressed)).isEmpty();
  }

  @Test
  void brokenLinesAreNamed() throws IOException {
    Path file = dir.resolve("a.jsonl");
    Files.writeString(file, "{\"id\": 1}\n{\"id\": }\n");
    refusal(file).withMessageStartingWith(file + " line 2, column 8: not JSON: ");
    Files.writeString(file, "{\"id\": 1}\n[1, 2]\n");
    refusal(file).withMessage(file + " line 2: want a JSON object {…}, got array");
    Files.writeString(file, "{\"id\": 1}\n{\"id\": 1, \"id\": 2}\n");
    refusal(file).withMessageContaining(" line 2").withMessageContaining("uplicate");
    Files.writeString(file, "{\"id\": 1} {\"id\": 2}\n");
    refusal(file).withMessageContaining(" line 1");
    Files.writeString(file, "{\"id\": NaN}\n");
    refusal(file).withMessageContaining(" line 1");
    Files.write(file, new byte[] {'{', '"', (byte) 0xff, '"', ':', '1', '}'});
    refusal(file).withMessage(file + " line 1: not UTF-8 text");
    Files.writeString(file, "{\"id\": 1}\n{\"id\"");
    refusal(file).withMessageContaining(" line 2");
  }

  @Test
  void compressedFilesCutAnywhereAreRefused() throws IOException {
    Path whole = dir.resolve("a.jsonl.gz");
    writeObjects(whole, 23);
    byte[] bytes = Files.readAllBytes(whole);
    Path cut = dir.resolve("cut.jsonl.gz");
    for (int length = 2; length < bytes.length; length++) {
      Files.write(cut, Arrays.copyOf(bytes, length));
      refusal(cut).withMessage(cut + ": the compressed data end early: the file is incomplete");
    }
  }

  @Test
  void damagedCompressedDataAreRefused() throws IOException {
    Path file = dir.resolve("a.jsonl.gz");
    writeObjects(file, 23);
    byte[] bytes = Files.readAllBytes(file);
    bytes[bytes.length - 6] ^= 1; // check sum
    Files.write(file, bytes);
    refusal(file).withMessageStartingWith(file + ": damaged gzip data: ");
    bytes[2] = 7; // compression method
    Files.write(file, bytes);
    refusal(file).withMessageStartingWith(file + ": damaged gzip data: ");
  }

  @Test
  void failedWritersLeaveTheOldFile() throws IOException {
    Path file = dir.resolve("a.jsonl.gz");
    writeObjects(file, 3);
    assertThatIOException()
        .isThrownBy(
            () ->
                JsonLines.write(
                    file,
                    sink -> {
                      sink.write(object(0));
                      throw new IOException("No space left on device");
                    }))
        .withMessage(file + ": not written: No space left on device");
    assertThat(readAll(file)).hasSize(3);
    assertThat(TestFiles.names(dir)).containsExactly("a.jsonl.gz");
    Path full = Path.of("/dev/full");
    assumeTrue(Files.exists(full), "no /dev/full on this system");
    assertThatIOException()
        .isThrownBy(() -> writeObjects(full, 3))
        .withMessage("/dev/full: not written: No space left on device");
  }

  @Test
  void missingFilesAndFoldersAreNamed() {
    Path none = dir.resolve("none.jsonl");
    assertThatIOException()
        .isThrownBy(() -> JsonLines.read(none))
        .withMessage(none + ": not read: no such file or folder: " + none);
    assertThatIOException()
        .isThrownBy(() -> JsonLines.read(dir))
        .withMessageStartingWith(dir + ": not read: ");
  }

  @Test
  void longLinesAreRead() throws IOException {
    Path file = dir.resolve("a.jsonl");
    String text = "ö".repeat(300_000);
    JsonLines.write(
        file, sink -> sink.write(JsonNodeFactory.instance.objectNode().put("text", text)));
    assertThat(readAll(file).getFirst().get("text").asText()).isEqualTo(text);
  }
}
