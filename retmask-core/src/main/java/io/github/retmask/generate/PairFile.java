package io.github.retmask.generate;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.FormatException;
import io.github.retmask.io.JsonLines;
import io.github.retmask.tokenizer.ChatMessage;
import java.io.Closeable;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// Reads preference pairs, a JSON object a line, plain or gzip-compressed. A line has `chosen` and
/// `rejected` as conversations that differ in their last turn, the assistant's (the published
/// layout), or `prompt_ids`, `chosen_ids` and `rejected_ids`, or both; then the tokens count.
public final class PairFile implements Closeable {
  private final JsonLines.Reader lines;

  private PairFile(JsonLines.Reader lines) {
    this.lines = lines;
  }

  /// Opens a pair file.
  ///
  /// @throws IOException when it cannot be read
  public static PairFile open(Path file) throws IOException {
    return new PairFile(JsonLines.read(file));
  }

  /// All pairs of a file as tokens.
  ///
  /// @throws IOException when it cannot be read
  /// @throws FormatException naming file and line, when a line is no pair
  public static List<PairTokens> read(Path file, ChatEncoder encoder, ChatEncoder.Ending ending)
      throws IOException {
    List<PairTokens> pairs = new ArrayList<>();
    try (PairFile in = open(file)) {
      for (PairRecord pair = in.next(); pair != null; pair = in.next()) {
        pairs.add(encoder.encode(pair, ending));
      }
    }
    return pairs;
  }

  /// The next pair, or null at the end.
  ///
  /// @throws FormatException naming file and line, when a line is no pair
  public @Nullable PairRecord next() throws IOException {
    ObjectNode line = lines.next();
    if (line == null) {
      return null;
    }
    String id = PromptRecords.id(line, lines);
    boolean hasTexts = line.hasNonNull("chosen") || line.hasNonNull("rejected");
    boolean hasIds = line.hasNonNull("chosen_ids") || line.hasNonNull("rejected_ids");
    if (!hasTexts && !hasIds) {
      throw lines.problem(
          "want \"chosen\" and \"rejected\", or \"prompt_ids\", \"chosen_ids\" and \"rejected_ids\"");
    }
    return new PairRecord(id, hasTexts ? texts(line) : null, hasIds ? tokens(id, line) : null);
  }

  private PairTokens tokens(String id, ObjectNode line) {
    return new PairTokens(
        id,
        PromptRecords.ids(line.path("prompt_ids"), "prompt_ids", lines),
        PromptRecords.ids(line.path("chosen_ids"), "chosen_ids", lines),
        PromptRecords.ids(line.path("rejected_ids"), "rejected_ids", lines));
  }

  private PairRecord.Texts texts(ObjectNode line) {
    List<ChatMessage> chosen = conversation(line.path("chosen"), "chosen");
    List<ChatMessage> rejected = conversation(line.path("rejected"), "rejected");
    List<ChatMessage> prompt = chosen.subList(0, chosen.size() - 1);
    if (!prompt.equals(rejected.subList(0, rejected.size() - 1))) {
      throw lines.problem("\"chosen\" and \"rejected\" differ before their last turn");
    }
    return new PairRecord.Texts(prompt, content(chosen.getLast()), content(rejected.getLast()));
  }

  private List<ChatMessage> conversation(JsonNode turns, String name) {
    List<ChatMessage> conversation = new ArrayList<>();
    if (turns.isArray()) {
      for (JsonNode turn : turns) {
        if (!turn.path("role").isTextual() || !turn.path("content").isTextual()) {
          throw lines.problem(
              "\"%s\" holds %s, want {\"role\", \"content\"} with texts"
                  .formatted(name, PromptRecords.shown(turn)));
        }
        conversation.add(
            ChatMessage.of(turn.get("role").textValue(), turn.get("content").textValue()));
      }
    }
    if (conversation.size() < 2
        || !"assistant".equals(conversation.getLast().fields().get("role"))) {
      throw lines.problem(
          "\"%s\" is %s, want turns that end with the assistant's"
              .formatted(name, PromptRecords.shown(turns)));
    }
    return conversation;
  }

  private static String content(ChatMessage turn) {
    return String.valueOf(turn.fields().get("content"));
  }

  /// A line of the published layout.
  static ObjectNode line(String id, List<ChatMessage> asked, String chosen, String rejected) {
    ObjectNode line = JsonNodeFactory.instance.objectNode();
    line.put("conversation_id", id);
    turns(line, "chosen", asked, chosen);
    turns(line, "rejected", asked, rejected);
    return line;
  }

  private static void turns(ObjectNode line, String name, List<ChatMessage> asked, String answer) {
    var turns = line.putArray(name);
    for (ChatMessage turn : asked) {
      turns
          .addObject()
          .put("role", String.valueOf(turn.fields().get("role")))
          .put("content", content(turn));
    }
    turns.addObject().put("role", "assistant").put("content", answer);
  }

  @Override
  public void close() throws IOException {
    lines.close();
  }
}
