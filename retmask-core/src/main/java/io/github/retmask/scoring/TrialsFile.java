package io.github.retmask.scoring;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.JsonLines;
import io.github.retmask.tokenizer.ChatMessage;
import io.github.retmask.tokenizer.Encoding;
import io.github.retmask.tokenizer.TemplateException;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/// Reads trials that a user brings, a JSON object a line:
///
/// | key | meaning |
/// |---|---|
/// | `prompt_ids`, `prompt` or `chat` | exactly one: token ids; a text, encoded with special tokens; or messages `{"role", "content"}` for the chat template |
/// | `needle_span` | `[start, end)` in prompt tokens; `[-1, -1]` when there is no needle |
/// | `needle` | instead, a text: it replaces `{needle}` in the prompt or chat, or else occurs there once, and the tokens that cover it are the span |
/// | `answer` | what a successful response repeats; `needle` when absent |
/// | `max_new_tokens` | length limit of the response |
/// | `id` | name of the trial; the line number when absent |
///
/// Every other text, number or truth value is a label of the trial.
public final class TrialsFile {
  private static final String PLACE = "{needle}";
  private static final Set<String> KEYS =
      Set.of(
          "prompt_ids",
          "prompt",
          "chat",
          "needle_span",
          "needle",
          "answer",
          "max_new_tokens",
          "id");

  private final JsonLines.Reader lines;
  private final @Nullable Tokenizer tokenizer;
  private final int vocabSize;
  private final Map<String, ?> templateVariables;
  private final int maxNewTokens;

  private TrialsFile(
      JsonLines.Reader lines,
      @Nullable Tokenizer tokenizer,
      int vocabSize,
      Map<String, ?> templateVariables,
      int maxNewTokens) {
    this.lines = lines;
    this.tokenizer = tokenizer;
    this.vocabSize = vocabSize;
    this.templateVariables = templateVariables;
    this.maxNewTokens = maxNewTokens;
  }

  /// Reads all trials.
  ///
  /// @param tokenizer null when the checkpoint has none; then only `prompt_ids` can be read
  /// @param vocabSize ids of prompts are below it
  /// @param templateVariables for the chat template
  /// @param maxNewTokens for trials without `max_new_tokens`
  /// @throws io.github.retmask.io.FormatException naming file, line and key of what is not as it
  ///     should be
  /// @throws IOException when the file cannot be read
  public static List<Trial> read(
      Path file,
      @Nullable Tokenizer tokenizer,
      int vocabSize,
      Map<String, ?> templateVariables,
      int maxNewTokens)
      throws IOException {
    List<Trial> trials = new ArrayList<>();
    Set<String> ids = new HashSet<>();
    try (JsonLines.Reader lines = JsonLines.read(file)) {
      TrialsFile reader =
          new TrialsFile(lines, tokenizer, vocabSize, templateVariables, maxNewTokens);
      for (ObjectNode line = lines.next(); line != null; line = lines.next()) {
        Trial trial = reader.trial(line);
        if (!ids.add(trial.id())) {
          throw lines.problem("id \"" + trial.id() + "\" occurs twice");
        }
        trials.add(trial);
      }
      if (trials.isEmpty()) {
        throw lines.problem("no trials in the file");
      }
    }
    return trials;
  }

  /// Prompt tokens, and those of the needle where it was given as a text.
  private record Prompt(int[] ids, Encoding.@Nullable Span needle) {}

  private Trial trial(ObjectNode line) {
    int prompts = 0;
    for (String key : List.of("prompt_ids", "prompt", "chat")) {
      prompts += line.hasNonNull(key) ? 1 : 0;
    }
    if (prompts != 1) {
      throw lines.problem("want exactly one of prompt_ids, prompt and chat, got " + prompts);
    }
    if (line.hasNonNull("needle") == line.hasNonNull("needle_span")) {
      throw lines.problem(
          "want needle_span [start, end) in prompt tokens, or needle, a text; got "
              + (line.hasNonNull("needle") ? "both" : "neither"));
    }
    String needle = line.hasNonNull("needle") ? text(line, "needle") : null;
    Prompt prompt = prompt(line, needle);
    if (prompt.ids().length == 0) {
      throw lines.problem("the prompt has no tokens");
    }
    Encoding.Span span = prompt.needle() == null ? span(line, prompt) : prompt.needle();
    return new Trial(
        line.hasNonNull("id") ? line.get("id").asText() : "line " + lines.line(),
        prompt.ids(),
        span.start(),
        span.end(),
        line.hasNonNull("answer") ? text(line, "answer") : needle,
        maxNewTokens(line),
        labels(line));
  }

  private Prompt prompt(ObjectNode line, @Nullable String needle) {
    if (line.hasNonNull("prompt_ids")) {
      if (needle != null) {
        throw lines.problem("prompt_ids want needle_span, not needle");
      }
      return new Prompt(ids(line.get("prompt_ids")), null);
    }
    Tokenizer encoder = tokenizer;
    if (encoder == null) {
      throw lines.problem("a text prompt, but the model has no tokenizer.json; want prompt_ids");
    }
    if (line.hasNonNull("prompt")) {
      String text = text(line, "prompt");
      if (needle == null) {
        return new Prompt(encoder.encode(text, true), null);
      }
      int at = place(text, needle);
      String after = text.substring(at + (text.startsWith(PLACE, at) ? PLACE : needle).length());
      return covered(encoder, text.substring(0, at), needle, after, true);
    }
    List<ChatMessage> messages = messages(line.get("chat"));
    try {
      if (needle == null) {
        return new Prompt(encoder.encodeChat(messages, true, templateVariables), null);
      }
      TextSlot slot = TextSlot.of(encoder, marked(messages, needle), templateVariables);
      return covered(encoder, slot.before(), needle, slot.after(), false);
    } catch (IllegalArgumentException | IllegalStateException | TemplateException e) {
      throw lines.problem("chat: " + e.getMessage());
    }
  }

  private static Prompt covered(
      Tokenizer encoder, String before, String needle, String after, boolean specialTokens) {
    Encoding encoding = encoder.encodeWithOffsets(before + needle + after, specialTokens);
    return new Prompt(
        encoding.ids(),
        encoding.tokensCovering(before.length(), before.length() + needle.length()));
  }

  /// Where the needle goes or stands.
  private int place(String text, String needle) {
    String wanted = text.contains(PLACE) ? PLACE : needle;
    int at = text.indexOf(wanted);
    if (at < 0 || text.indexOf(wanted, at + 1) >= 0) {
      throw lines.problem(
          "the needle occurs %s in the prompt: write {needle} where it belongs, or give needle_span"
              .formatted(at < 0 ? "nowhere" : "more than once"));
    }
    return at;
  }

  /// The messages with the mark in place of the needle.
  private List<ChatMessage> marked(List<ChatMessage> messages, String needle) {
    boolean placed = messages.stream().anyMatch(m -> content(m).contains(PLACE));
    String wanted = placed ? PLACE : needle;
    List<ChatMessage> marked = new ArrayList<>();
    int found = 0;
    for (ChatMessage message : messages) {
      String content = content(message);
      if (content.contains(wanted)) {
        int at = place(content, needle);
        content =
            content.substring(0, at) + TextSlot.MARK + content.substring(at + wanted.length());
        found++;
      }
      Map<String, Object> fields = new TreeMap<>(message.fields());
      fields.put("content", content);
      marked.add(new ChatMessage(fields));
    }
    if (found != 1) {
      throw lines.problem(
          "the needle occurs in %d messages: write {needle} where it belongs, or give needle_span"
              .formatted(found));
    }
    return marked;
  }

  private static String content(ChatMessage message) {
    return message.fields().get("content") instanceof String text ? text : "";
  }

  private List<ChatMessage> messages(JsonNode chat) {
    List<ChatMessage> messages = new ArrayList<>();
    for (JsonNode message : chat) {
      if (!message.path("role").isTextual() || !message.path("content").isTextual()) {
        throw lines.problem("chat: " + message + ", want {\"role\": \"user\", \"content\": \"…\"}");
      }
      messages.add(
          ChatMessage.of(message.get("role").textValue(), message.get("content").textValue()));
    }
    if (messages.isEmpty()) {
      throw lines.problem("chat: want a list of messages");
    }
    return messages;
  }

  private int[] ids(JsonNode list) {
    if (!list.isArray()) {
      throw lines.problem("prompt_ids is %s, want an array of token ids".formatted(list));
    }
    int[] ids = new int[list.size()];
    for (int i = 0; i < ids.length; i++) {
      JsonNode id = list.get(i);
      if (id == null || !id.isInt() || id.intValue() < 0 || id.intValue() >= vocabSize) {
        throw lines.problem(
            "prompt_ids[%d] is %s, want a token id below %d".formatted(i, id, vocabSize));
      }
      ids[i] = id.intValue();
    }
    return ids;
  }

  private Encoding.Span span(ObjectNode line, Prompt prompt) {
    JsonNode list = line.get("needle_span");
    if (list.size() == 2 && list.get(0).isInt() && list.get(1).isInt()) {
      int start = list.get(0).intValue();
      int end = list.get(1).intValue();
      boolean within = 0 <= start && start < end && end <= prompt.ids().length;
      if (within || start == -1 && end == -1) {
        return new Encoding.Span(start, end);
      }
    }
    throw lines.problem(
        "needle_span is %s, want [start, end) within the prompt's %d tokens"
            .formatted(list, prompt.ids().length));
  }

  private int maxNewTokens(ObjectNode line) {
    if (!line.hasNonNull("max_new_tokens")) {
      return maxNewTokens;
    }
    JsonNode given = line.get("max_new_tokens");
    if (!given.isInt() || given.intValue() < 1) {
      throw lines.problem("max_new_tokens is " + given + ", want a whole number, 1 or more");
    }
    return given.intValue();
  }

  private String text(ObjectNode line, String key) {
    if (!line.get(key).isTextual() || line.get(key).textValue().isEmpty()) {
      throw lines.problem("\"" + key + "\" is " + line.get(key) + ", want a text");
    }
    return line.get(key).textValue();
  }

  private static TreeMap<String, String> labels(ObjectNode line) {
    TreeMap<String, String> labels = new TreeMap<>();
    for (Map.Entry<String, JsonNode> entry : line.properties()) {
      if (!KEYS.contains(entry.getKey())
          && entry.getValue().isValueNode()
          && !entry.getValue().isNull()) {
        labels.put(entry.getKey(), entry.getValue().asText());
      }
    }
    return labels;
  }
}
