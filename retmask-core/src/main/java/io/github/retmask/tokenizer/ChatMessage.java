package io.github.retmask.tokenizer;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/// One message of a conversation: `role`, `content`, and whatever else its chat template reads,
/// such as `tool_calls`. Values are what JSON has: strings, numbers, booleans, null, lists and maps
/// with string keys.
public record ChatMessage(Map<String, Object> fields) {
  public ChatMessage {
    fields = Collections.unmodifiableMap(new LinkedHashMap<>(fields));
  }

  /// A message with a role, such as `user`, and plain text.
  public static ChatMessage of(String role, String content) {
    var fields = new LinkedHashMap<String, Object>();
    fields.put("role", role);
    fields.put("content", content);
    return new ChatMessage(fields);
  }
}
