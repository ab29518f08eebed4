package io.github.retmask.scoring;

import io.github.retmask.tokenizer.ChatMessage;
import io.github.retmask.tokenizer.Tokenizer;
import java.util.List;
import java.util.Map;

/// The rendered text of a chat around a place that is still to be filled. Found with a mark that no
/// template and no text contains, so what is filled in need not be searched for.
///
/// @param before rendered text up to the place
/// @param after rendered text behind it
record TextSlot(String before, String after) {
  /// Private-use characters: trimming templates leave them alone.
  static final String MARK = "\ue0f0\ue0f1";

  /// A single user turn `left` … `right` with a generation prompt.
  ///
  /// @throws IllegalArgumentException when the chat template does not print the turn exactly once
  static TextSlot of(
      Tokenizer tokenizer, String left, String right, Map<String, ?> templateVariables) {
    return of(tokenizer, List.of(ChatMessage.of("user", left + MARK + right)), templateVariables);
  }

  /// The place of the mark in a conversation.
  ///
  /// @throws IllegalArgumentException when the chat template does not print the mark exactly once
  static TextSlot of(
      Tokenizer tokenizer, List<ChatMessage> messages, Map<String, ?> templateVariables) {
    String rendered = tokenizer.renderChat(messages, true, templateVariables);
    int at = rendered.indexOf(MARK);
    if (at < 0 || rendered.indexOf(MARK, at + 1) >= 0) {
      throw new IllegalArgumentException(
          "the chat template prints the message with the needle %s: its place cannot be told"
              .formatted(at < 0 ? "not at all or changed" : "more than once"));
    }
    return new TextSlot(rendered.substring(0, at), rendered.substring(at + MARK.length()));
  }
}
