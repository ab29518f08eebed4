package io.github.retmask.io;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import io.github.retmask.heads.HeadId;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;

/// Lists of heads. Written as JSON `[[layer, head], …]`. Read from that, from lines `LAYER-HEAD`, and
/// from the ranked lists `[["LAYER-HEAD", score], …]` of princeton-pli/QRHead.
public final class HeadListFile {
  private static final String BYTE_ORDER_MARK = "\uFEFF";

  private HeadListFile() {}

  /// Reads a list; the order of the file is kept.
  ///
  /// @throws FormatException naming file and entry, when an entry is no head or occurs twice
  /// @throws IOException when the file cannot be read
  public static List<HeadId> read(Path file) throws IOException {
    String text;
    try (InputStream in = Gzip.open(file)) {
      text = new String(in.readAllBytes(), StandardCharsets.UTF_8);
    }
    text = (text.startsWith(BYTE_ORDER_MARK) ? text.substring(1) : text).strip();
    if (text.startsWith("{")) {
      throw new FormatException(
          file
              + ": a JSON object, want a list of heads; if these are scores, take heads from them first (retmask heads)");
    }
    List<HeadId> heads = text.startsWith("[") ? fromJson(file, text) : fromLines(file, text);
    Set<HeadId> seen = new HashSet<>();
    for (HeadId id : heads) {
      if (!seen.add(id)) {
        throw new FormatException(file + ": head " + id + " occurs twice");
      }
    }
    return heads;
  }

  /// Writes `[[layer, head], …]` on one line, whole or not at all.
  ///
  /// @throws IOException one line that names the file and says why it was not written
  public static void write(Path file, List<HeadId> heads) throws IOException {
    AtomicFiles.write(
        file,
        heads.stream()
            .map(id -> "[%d, %d]".formatted(id.layer(), id.head()))
            .collect(Collectors.joining(", ", "[", "]\n")));
  }

  private static List<HeadId> fromLines(Path file, String text) {
    List<HeadId> heads = new ArrayList<>();
    int line = 0;
    for (String entry : text.lines().toList()) {
      line++;
      if (!entry.isBlank()) {
        try {
          heads.add(HeadId.parse(entry));
        } catch (IllegalArgumentException e) {
          throw new FormatException(
              "%s line %d: head %s: want LAYER-HEAD, such as 12-7"
                  .formatted(file, line, FormatException.quote(entry)),
              e);
        }
      }
    }
    return heads;
  }

  private static List<HeadId> fromJson(Path file, String text) {
    JsonNode list;
    try {
      list = Json.READER.readTree(text);
    } catch (JsonProcessingException e) {
      throw new FormatException(file + ": not JSON: " + Json.reason(e), e);
    }
    List<HeadId> heads = new ArrayList<>();
    for (JsonNode entry : list) {
      heads.add(head(file, entry));
    }
    return heads;
  }

  private static HeadId head(Path file, JsonNode entry) {
    try {
      if (entry.size() == 2 && entry.get(0).isInt() && entry.get(1).isInt()) {
        return new HeadId(entry.get(0).intValue(), entry.get(1).intValue());
      }
      if (entry.size() == 2 && entry.get(0).isTextual() && entry.get(1).isNumber()) {
        return HeadId.parse(entry.get(0).textValue());
      }
    } catch (IllegalArgumentException e) {
      throw new FormatException(file + ": entry " + entry + ": " + e.getMessage(), e);
    }
    throw new FormatException(
        file + ": entry " + entry + ": want [layer, head] or [\"LAYER-HEAD\", score]");
  }
}
