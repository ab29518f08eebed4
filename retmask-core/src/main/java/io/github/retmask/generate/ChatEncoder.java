package io.github.retmask.generate;

import io.github.retmask.io.FormatException;
import io.github.retmask.tokenizer.ChatMessage;
import io.github.retmask.tokenizer.Tokenizer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/// Prompts and answers as a model reads them.
///
/// @param tokenizer the model's
/// @param variables further variables of its chat template, such as `enable_thinking`
public record ChatEncoder(Tokenizer tokenizer, Map<String, ?> variables) {

  /// How an answer given as text ends.
  public enum Ending {
    /// With the end-of-sequence token, whether the chat template writes it or not.
    EOS_ONCE,
    /// With an end-of-sequence token after whatever the template writes, as TRL 0.24 has it.
    EOS_APPENDED
  }

  /// Without further variables.
  public ChatEncoder(Tokenizer tokenizer) {
    this(tokenizer, Map.of());
  }

  public ChatEncoder {
    variables = Collections.unmodifiableMap(new TreeMap<>(variables));
  }

  /// Token ids of a prompt.
  ///
  /// @throws IllegalStateException for a conversation of several turns without a chat template
  public int[] encode(Prompt prompt) {
    return switch (prompt) {
      case Prompt.Ids given -> given.ids();
      case Prompt.Text given -> tokenizer.encode(given.text(), true);
      case Prompt.Chat chat -> encode(turns(chat));
      case Prompt.Conversation chat -> encode(chat.turns());
    };
  }

  private int[] encode(List<ChatMessage> turns) {
    boolean plain = turns.size() == 1 && tokenizer.chatTemplate() == null;
    return plain
        ? tokenizer.encode(String.valueOf(turns.getFirst().fields().get("content")), true)
        : tokenizer.encodeChat(turns, true, variables);
  }

  /// A prompt as a conversation; what is no chat becomes the user's one turn.
  public List<ChatMessage> turns(Prompt prompt) {
    return switch (prompt) {
      case Prompt.Ids given -> List.of(ChatMessage.of("user", text(given.ids())));
      case Prompt.Text given -> List.of(ChatMessage.of("user", given.text()));
      case Prompt.Chat chat -> List.of(ChatMessage.of("user", chat.content()));
      case Prompt.Conversation chat -> chat.turns();
    };
  }

  /// The text of generated tokens without special ones. An id without a token, which a model with a
  /// padded vocabulary can draw, adds nothing.
  public String text(int[] ids) {
    return AnswerText.of(tokenizer, ids);
  }

  /// Token ids of a pair: its own when it has them, else those of its texts. An answer is then what
  /// the chat template writes after the prompt, encoded by itself.
  ///
  /// @throws FormatException when the template does not begin an answered conversation as it begins
  ///   the unanswered one, or there is no template for a conversation of several turns
  public PairTokens encode(PairRecord pair, Ending ending) {
    PairTokens own = pair.tokens();
    if (own != null) {
      return own;
    }
    PairRecord.Texts texts = pair.requireTexts();
    List<ChatMessage> turns = texts.prompt();
    if (tokenizer.chatTemplate() == null) {
      if (turns.size() != 1) {
        throw new FormatException(
            "pair %s: %d turns before the answer and no chat template; give prompt_ids, chosen_ids and rejected_ids"
                .formatted(pair.id(), turns.size()));
      }
      String asked = String.valueOf(turns.getFirst().fields().get("content"));
      return new PairTokens(
          pair.id(),
          tokenizer.encode(asked, true),
          ended(texts.chosen(), ending),
          ended(texts.rejected(), ending));
    }
    String prompt = tokenizer.renderChat(turns, true, variables);
    return new PairTokens(
        pair.id(),
        tokenizer.encode(prompt, false),
        ended(answer(pair.id(), prompt, turns, texts.chosen()), ending),
        ended(answer(pair.id(), prompt, turns, texts.rejected()), ending));
  }

  private String answer(String id, String prompt, List<ChatMessage> turns, String content) {
    List<ChatMessage> answered = new ArrayList<>(turns);
    answered.add(ChatMessage.of("assistant", content));
    String whole = tokenizer.renderChat(answered, false, variables);
    if (!whole.startsWith(prompt)) {
      throw new FormatException(
          "pair %s: the chat template renders the prompt otherwise once it is answered; give prompt_ids, chosen_ids and rejected_ids"
              .formatted(id));
    }
    return whole.substring(prompt.length());
  }

  private int[] ended(String answer, Ending ending) {
    int[] ids = tokenizer.encode(answer, false);
    int eos = tokenizer.eosId();
    boolean there = ids.length > 0 && ids[ids.length - 1] == eos;
    if (eos < 0 || (there && ending == Ending.EOS_ONCE)) {
      return ids;
    }
    int[] ended = Arrays.copyOf(ids, ids.length + 1);
    ended[ids.length] = eos;
    return ended;
  }
}
