package io.github.retmask.generate;

import io.github.retmask.tokenizer.ChatMessage;
import java.util.List;

/// What a model is asked, in the forms that prompt files have.
public sealed interface Prompt {

  /// Token ids, taken as they are.
  ///
  /// @param ids at least one
  record Ids(int[] ids) implements Prompt {}

  /// Text to be continued, without a chat template.
  ///
  /// @param text the text
  record Text(String text) implements Prompt {}

  /// A user's turn to be answered, put through the model's chat template; continued as plain text
  /// when the model has none.
  ///
  /// @param content what the user says
  record Chat(String content) implements Prompt {}

  /// A conversation to be answered, put through the model's chat template whole; a model without one
  /// continues the text of a single user turn.
  ///
  /// @param turns at least one
  record Conversation(List<ChatMessage> turns) implements Prompt {
    public Conversation {
      turns = List.copyOf(turns);
    }
  }
}
