package io.github.retmask.generate;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.ConfigReader;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonLines;
import io.github.retmask.tokenizer.ChatMessage;
import java.io.Closeable;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// Reads a prompt file, plain or gzip-compressed, a JSON object a line, in any of these forms:
///
/// | form | meaning |
/// |------|---------|
/// | `{"id", "prompt_ids": [1, 2, …]}` | token ids |
/// | `{"id", "prompt": "…"}` | text to be continued |
/// | `{"id", "messages": [{"role", "content"}, …]}` | a conversation to be answered, system prompt and all |
/// | `{"conversation_id", "conversation": [{"role", "content"}, …]}` | the first user turn is asked; the published layout |
///
/// `id` and `conversation_id` are the same thing; of several forms in one line the first of the table
/// counts. Records that the published pipeline leaves out are passed over and counted.
public final class PromptRecords implements Closeable {
  private final JsonLines.Reader lines;
  private final Set<String> ids = new HashSet<>();
  private final Map<DropReason, Long> dropped = new EnumMap<>(DropReason.class);
  private ObjectNode last = JsonNodeFactory.instance.objectNode();
  private long read;

  private PromptRecords(JsonLines.Reader lines) {
    this.lines = lines;
  }

  /// Opens a prompt file.
  ///
  /// @throws IOException when it cannot be read
  public static PromptRecords open(Path file) throws IOException {
    return new PromptRecords(JsonLines.read(file));
  }

  /// The next usable record, or null at the end.
  ///
  /// @throws FormatException naming file and line, when a line has none of the forms
  public @Nullable PromptRecord next() throws IOException {
    for (ObjectNode line = lines.next(); line != null; line = lines.next()) {
      read++;
      String id = id(line, lines);
      Prompt prompt = prompt(line);
      DropReason flagged = flagged(line);
      if (flagged != null) {
        drop(flagged);
      } else if (prompt == null) {
        drop(DropReason.NO_USER_TURN);
      } else if (!ids.add(id)) {
        drop(DropReason.DUPLICATE_ID);
      } else {
        last = line;
        return new PromptRecord(id, prompt);
      }
    }
    return null;
  }

  /// Everything that the line of the last record says.
  public ConfigReader fields() {
    return new ConfigReader(last, lines.file() + " line " + lines.line());
  }

  /// Lines read so far.
  public long read() {
    return read;
  }

  /// Records passed over so far, by reason.
  public Map<DropReason, Long> dropped() {
    return Map.copyOf(dropped);
  }

  private void drop(DropReason reason) {
    dropped.merge(reason, 1L, Long::sum);
  }

  @Override
  public void close() throws IOException {
    lines.close();
  }

  /// What the published pipeline leaves out.
  static @Nullable DropReason flagged(ObjectNode line) {
    if (line.path("redacted").asBoolean()) {
      return DropReason.REDACTED;
    }
    if (line.path("empty_user_instruction_ja").asBoolean()) {
      return DropReason.EMPTY_INSTRUCTION;
    }
    return line.hasNonNull("duplicate_user_instruction_ja")
        ? DropReason.DUPLICATE_INSTRUCTION
        : null;
  }

  /// The name of a record: `conversation_id` or `id`, text or a whole number.
  static String id(ObjectNode line, JsonLines.Reader lines) {
    JsonNode id =
        line.hasNonNull("conversation_id") ? line.get("conversation_id") : line.path("id");
    if (!id.isTextual() && !id.isIntegralNumber()) {
      throw lines.problem("want \"id\" or \"conversation_id\" as text, got " + shown(id));
    }
    return id.asText();
  }

  private @Nullable Prompt prompt(ObjectNode line) {
    if (line.hasNonNull("prompt_ids")) {
      return new Prompt.Ids(ids(line.get("prompt_ids"), "prompt_ids", lines));
    }
    if (line.hasNonNull("prompt")) {
      if (!line.get("prompt").isTextual()) {
        throw lines.problem("\"prompt\" is " + shown(line.get("prompt")) + ", want text");
      }
      return new Prompt.Text(line.get("prompt").textValue());
    }
    if (line.hasNonNull("messages")) {
      return new Prompt.Conversation(turns(line.get("messages")));
    }
    if (line.hasNonNull("conversation")) {
      String content = firstUserTurn(line.get("conversation"), lines);
      return content == null ? null : new Prompt.Chat(content);
    }
    throw lines.problem(
        "want \"prompt_ids\", \"prompt\", \"messages\" or \"conversation\", got none of them");
  }

  private List<ChatMessage> turns(JsonNode array) {
    List<ChatMessage> turns = new ArrayList<>();
    for (JsonNode turn : array) {
      if (!turn.path("role").isTextual() || !turn.path("content").isTextual()) {
        throw lines.problem(
            "\"messages\" holds %s, want {\"role\", \"content\"} with texts"
                .formatted(shown(turn)));
      }
      turns.add(ChatMessage.of(turn.get("role").textValue(), turn.get("content").textValue()));
    }
    if (!array.isArray() || turns.isEmpty()) {
      throw lines.problem(
          "\"messages\" is %s, want an array of {\"role\", \"content\"}".formatted(shown(array)));
    }
    return turns;
  }

  /// Token ids of an array.
  static int[] ids(JsonNode array, String name, JsonLines.Reader lines) {
    if (!array.isArray() || array.isEmpty()) {
      throw lines.problem("\"%s\" is %s, want an array of token ids".formatted(name, shown(array)));
    }
    int[] ids = new int[array.size()];
    for (int i = 0; i < ids.length; i++) {
      JsonNode id = array.get(i);
      if (!id.isIntegralNumber() || !id.canConvertToInt() || id.intValue() < 0) {
        throw lines.problem("\"%s\" holds %s at %d, want a token id".formatted(name, shown(id), i));
      }
      ids[i] = id.intValue();
    }
    return ids;
  }

  /// What the user says first; null when the user says nothing.
  static @Nullable String firstUserTurn(JsonNode conversation, JsonLines.Reader lines) {
    if (!conversation.isArray()) {
      throw lines.problem(
          "\"conversation\" is %s, want an array of {\"role\", \"content\"}"
              .formatted(shown(conversation)));
    }
    for (JsonNode turn : conversation) {
      if (turn.path("role").asText().equals("user")) {
        JsonNode content = turn.path("content");
        return content.isTextual() ? content.textValue() : null;
      }
    }
    return null;
  }

  static String shown(JsonNode node) {
    String text = node.isMissingNode() ? "nothing" : node.toString();
    return text.length() <= 40 ? text : text.substring(0, 40) + "…";
  }
}
