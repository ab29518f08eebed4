package io.github.retmask.io;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.Closeable;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import org.jspecify.annotations.Nullable;

/// Files of one JSON object a line, plain or gzip-compressed, read and written as a stream.
public final class JsonLines {
  /// No line of ours comes near; a longer one is a file of another kind.
  private static final int MAX_LINE = 1 << 28;

  private JsonLines() {}

  /// Takes the objects of a file one by one.
  @FunctionalInterface
  public interface Sink {
    /// Writes one line.
    void write(ObjectNode object) throws IOException;
  }

  /// Writes the content of a file.
  @FunctionalInterface
  public interface Body {
    /// Called once.
    void writeTo(Sink sink) throws IOException;
  }

  /// Replaces `file` by what `body` writes, whole or not at all ([AtomicFiles]); compressed when the
  /// name ends in `.gz`. Equal objects give equal bytes.
  ///
  /// @throws IOException one line that names the file and says why it was not written
  public static void write(Path file, Body body) throws IOException {
    AtomicFiles.write(
        file,
        out -> {
          OutputStream lines = Gzip.wrap(file, out);
          body.writeTo(
              object -> {
                lines.write(Json.WRITER.writeValueAsBytes(object));
                lines.write('\n');
              });
          Gzip.finish(lines);
        });
  }

  /// Opens `file`; whether it is compressed is told by its first bytes.
  ///
  /// @throws IOException naming the file that cannot be read
  public static Reader read(Path file) throws IOException {
    return new Reader(file, Gzip.open(file));
  }

  /// The objects of a file in turn. Blank lines are passed over.
  public static final class Reader implements Closeable {
    private final Path file;
    private final InputStream in;
    private byte[] bytes = new byte[1 << 12];
    private int line;

    private Reader(Path file, InputStream in) {
      this.file = file;
      this.in = in;
    }

    /// The next object, or null at the end.
    ///
    /// @throws FormatException naming file and line, when the line is not a JSON object in UTF-8 or
    ///     compressed data are damaged
    public @Nullable ObjectNode next() throws IOException {
      for (int length = readLine(); length >= 0; length = readLine()) {
        String text;
        try {
          text =
              StandardCharsets.UTF_8
                  .newDecoder()
                  .decode(ByteBuffer.wrap(bytes, 0, length))
                  .toString();
        } catch (CharacterCodingException e) {
          throw new FormatException(where() + "not UTF-8 text", e);
        }
        if (line == 1 && text.startsWith("\ufeff")) {
          text = text.substring(1);
        }
        if (!text.isBlank()) {
          return parse(text);
        }
      }
      return null;
    }

    /// The file that is read.
    public Path file() {
      return file;
    }

    /// The line of the last object, from 1.
    public int line() {
      return line;
    }

    /// An error about the last object: file, line, then `problem`.
    public FormatException problem(String problem) {
      return new FormatException(where() + problem);
    }

    @Override
    public void close() throws IOException {
      in.close();
    }

    private String where() {
      return file + " line " + line + ": ";
    }

    private ObjectNode parse(String text) {
      JsonNode node;
      try {
        node = Json.READER.readTree(text);
      } catch (JsonProcessingException e) {
        String column = e.getLocation() == null ? "" : ", column " + e.getLocation().getColumnNr();
        throw new FormatException(
            "%s line %d%s: not JSON: %s".formatted(file, line, column, Json.problem(e)), e);
      }
      if (node instanceof ObjectNode object) {
        return object;
      }
      throw problem("want a JSON object {…}, got " + node.getNodeType().name().toLowerCase());
    }

    /// Bytes of the next line without its end, or -1 at the end of the file.
    private int readLine() throws IOException {
      line++;
      int length = 0;
      try {
        for (int b = in.read(); b >= 0; b = in.read()) {
          if (b == '\n') {
            return length;
          }
          if (length == bytes.length) {
            if (length >= MAX_LINE) {
              throw problem("longer than " + MAX_LINE + " bytes: not a file of lines");
            }
            bytes = Arrays.copyOf(bytes, length * 2);
          }
          bytes[length++] = (byte) b;
        }
      } catch (FormatException e) {
        throw e;
      } catch (IOException e) {
        throw new IOException(where() + "not read: " + AtomicFiles.reason(e), e);
      }
      return length == 0 ? -1 : length;
    }
  }
}
