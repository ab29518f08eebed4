package io.github.retmask.generate;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonLines;
import io.github.retmask.tokenizer.ChatMessage;
import java.io.IOException;
import java.nio.file.Path;
import java.util.EnumMap;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// Joins two files of responses that were sampled elsewhere, as the published pipeline does: lines
/// with `conversation_id`, `conversation` and `synthesized_assistant_responses`, of which the first
/// with content counts. Redacted records, missing responses and identical ones are dropped.
///
/// Files in the same order are joined as a stream; as far as their orders differ, lines wait in
/// memory.
public final class PairBuilder {
  private PairBuilder() {}

  /// Writes the pairs of two response files, in the order of the first.
  ///
  /// @param chosen responses of the intact model
  /// @param rejected responses of the masked model
  /// @param out replaced, compressed when its name ends in `.gz`
  /// @throws IOException when a file cannot be read or written
  /// @throws FormatException naming file and line, when a line is no response record
  public static PairReport join(Path chosen, Path rejected, Path out) throws IOException {
    Map<DropReason, Long> dropped = new EnumMap<>(DropReason.class);
    long[] counts = {0, 0};
    try (JsonLines.Reader intact = JsonLines.read(chosen);
        JsonLines.Reader masked = JsonLines.read(rejected)) {
      Waiting others = new Waiting(masked);
      JsonLines.write(
          out,
          sink -> {
            for (ObjectNode line = intact.next(); line != null; line = intact.next()) {
              counts[0]++;
              String id = PromptRecords.id(line, intact);
              ObjectNode other = others.take(id);
              DropReason reason = reason(line, other, intact, masked);
              if (reason != null || other == null) {
                dropped.merge(reason == null ? DropReason.UNMATCHED : reason, 1L, Long::sum);
                continue;
              }
              String asked = PromptRecords.firstUserTurn(line.path("conversation"), intact);
              sink.write(
                  PairFile.line(
                      id,
                      List.of(ChatMessage.of("user", String.valueOf(asked))),
                      String.valueOf(response(line, intact)),
                      String.valueOf(response(other, masked))));
              counts[1]++;
            }
          });
      others.readAll();
      counts[0] += others.size();
      if (others.size() > 0) {
        dropped.merge(DropReason.UNMATCHED, (long) others.size(), Long::sum);
      }
    }
    return new PairReport(counts[0], counts[1], dropped, 0, 0);
  }

  private static @Nullable DropReason reason(
      ObjectNode line, @Nullable ObjectNode other, JsonLines.Reader in, JsonLines.Reader otherIn) {
    if (other == null) {
      return DropReason.UNMATCHED;
    }
    if (line.path("redacted").asBoolean() || other.path("redacted").asBoolean()) {
      return DropReason.REDACTED;
    }
    if (PromptRecords.firstUserTurn(line.path("conversation"), in) == null) {
      return DropReason.NO_USER_TURN;
    }
    String chosen = response(line, in);
    String rejected = response(other, otherIn);
    if (chosen == null || rejected == null) {
      return DropReason.NULL_RESPONSE;
    }
    return chosen.equals(rejected) ? DropReason.IDENTICAL : null;
  }

  /// The first response with content.
  private static @Nullable String response(ObjectNode line, JsonLines.Reader in) {
    JsonNode responses = line.path("synthesized_assistant_responses");
    if (responses.isMissingNode() || responses.isNull()) {
      return null;
    }
    if (!responses.isArray()) {
      throw in.problem(
          "\"synthesized_assistant_responses\" is %s, want an array or null"
              .formatted(PromptRecords.shown(responses)));
    }
    for (JsonNode response : responses) {
      if (response.path("content").isTextual()) {
        return response.get("content").textValue();
      }
    }
    return null;
  }

  /// Lines of a file by id, read no further than asked.
  private static final class Waiting {
    private final JsonLines.Reader lines;
    private final Map<String, ObjectNode> early = new HashMap<>();

    Waiting(JsonLines.Reader lines) {
      this.lines = lines;
    }

    @Nullable ObjectNode take(String id) throws IOException {
      ObjectNode waiting = early.remove(id);
      while (waiting == null) {
        ObjectNode line = lines.next();
        if (line == null) {
          return null;
        }
        String lineId = PromptRecords.id(line, lines);
        if (lineId.equals(id)) {
          return line;
        }
        early.put(lineId, line);
      }
      return waiting;
    }

    void readAll() throws IOException {
      for (ObjectNode line = lines.next(); line != null; line = lines.next()) {
        early.put(PromptRecords.id(line, lines), line);
      }
    }

    int size() {
      return early.size();
    }
  }
}
