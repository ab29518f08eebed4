package io.github.retmask.io;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.json.JsonReadFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;

/// Whole JSON files as trees. A key that occurs twice in one object is an error, as is anything after
/// the end. `NaN` and `Infinity`, which Python writes, are read; whoever wants a finite
/// number checks for them.
public final class JsonFiles {
  /// Longer files are refused before they are read: a tree takes several times its text.
  public static final long MAX_BYTES = 100_000_000;

  private static final JsonMapper MAPPER =
      JsonMapper.builder()
          .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
          .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
          .enable(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS)
          .build();

  private JsonFiles() {}

  /// Reads a JSON file.
  ///
  /// @throws FormatException when it is missing, too long, or no JSON
  /// @throws IOException when the system refuses to read it
  public static JsonNode read(Path file) throws IOException {
    requireFile(file);
    long bytes = Files.size(file);
    if (bytes > MAX_BYTES) {
      throw new FormatException(
          "%s: %d bytes of JSON, want at most %d".formatted(file, bytes, MAX_BYTES));
    }
    try (InputStream in = Files.newInputStream(file)) {
      JsonNode tree = MAPPER.readTree(in);
      if (tree == null || tree.isMissingNode()) {
        throw new FormatException(file + ": empty, want JSON");
      }
      return tree;
    } catch (JsonProcessingException e) {
      throw notJson(file, e);
    } catch (IOException e) {
      throw new IOException("%s: not read: %s".formatted(file, AtomicFiles.reason(e)), e);
    }
  }

  /// What is wrong with the text of a JSON file, and where.
  public static FormatException notJson(Path file, JsonProcessingException e) {
    return new FormatException("%s: not JSON: %s".formatted(file, Json.reason(e)), e);
  }

  /// Requires a regular file (or a link to one); opening a pipe would wait for ever.
  static void requireFile(Path file) {
    if (!Files.exists(file)) {
      throw new FormatException(file + ": no such file");
    }
    if (!Files.isRegularFile(file)) {
      throw new FormatException(file + ": not a regular file");
    }
  }
}
