package io.github.retmask.tokenizer;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.jspecify.annotations.Nullable;

/// Text to token ids and back, as a checkpoint's `tokenizer.json` defines it. Implementations may
/// be used by several threads at once.
public interface Tokenizer {
  /// Reads `tokenizer.json` and, where present, `tokenizer_config.json`, `special_tokens_map.json`
  /// and the chat template of a checkpoint directory. Truncation and padding that `tokenizer.json`
  /// asks for are switched off.
  ///
  /// @throws IOException if `tokenizer.json` is missing or a file cannot be read
  /// @throws io.github.retmask.io.FormatException if a file does not hold what it should
  static Tokenizer load(Path checkpointDirectory) throws IOException {
    return HuggingFaceTokenizer.load(checkpointDirectory);
  }

  /// A tokenizer from the texts of its files.
  ///
  /// @param source where they come from, for messages
  /// @param tokenizerJson text of the `tokenizer.json`
  /// @param tokenizerConfig text of the `tokenizer_config.json`, which holds the chat template too
  /// @throws io.github.retmask.io.FormatException if one does not hold what it should
  static Tokenizer of(Path source, String tokenizerJson, String tokenizerConfig) {
    return HuggingFaceTokenizer.of(source, tokenizerJson, tokenizerConfig);
  }

  /// The text of a folder's `tokenizer.json`, with the added tokens that only `tokenizer_config.json`
  /// knows.
  ///
  /// @throws IOException if `tokenizer.json` is missing or a file cannot be read
  /// @throws io.github.retmask.io.FormatException if a file does not hold what it should
  static String json(Path checkpointDirectory) throws IOException {
    return HuggingFaceTokenizer.json(checkpointDirectory);
  }

  /// The ids of `text`. The spelling of a special token inside the text becomes that token, whether
  /// `addSpecialTokens` or not; the flag is about what the tokenizer puts around a text: what the
  /// post-processor of `tokenizer.json` puts there, unless `add_bos_token` or `add_eos_token` of
  /// `tokenizer_config.json` says otherwise.
  int[] encode(String text, boolean addSpecialTokens);

  /// The ids of `text` and which characters each of them covers.
  Encoding encodeWithOffsets(String text, boolean addSpecialTokens);

  /// The text of `ids`, cleaned up if `clean_up_tokenization_spaces` says so. Bytes that are no
  /// UTF-8 become U+FFFD.
  ///
  /// @param skipSpecialTokens leave special tokens out
  /// @throws IllegalArgumentException for an id without a token
  String decode(int[] ids, boolean skipSpecialTokens);

  /// A decoder for ids that arrive one by one.
  Detokenizer detokenizer(boolean skipSpecialTokens);

  /// One more than the highest id. A model's own vocabulary may be padded beyond it.
  int vocabSize();

  /// The id of a token as `tokenizer.json` spells it, or -1.
  int idOf(String token);

  /// The spelling of a token in `tokenizer.json`, in which bytes may stand as other characters.
  ///
  /// @throws IllegalArgumentException for an id without a token
  String tokenOf(int id);

  /// Whether `id` is a token that decoding may skip. False for an id without a token.
  boolean isSpecial(int id);

  /// The id of the token that begins a text, or -1 if the tokenizer names none.
  int bosId();

  /// The id of the token that ends a text or a turn, or -1 if the tokenizer names none.
  int eosId();

  /// The id of the token that fills up a batch, or -1 if the tokenizer names none.
  int padId();

  /// The chat template, parsed anew at each call, or null if the checkpoint has none.
  ///
  /// @throws TemplateException if it is broken, or uses what no chat template is expected to use
  @Nullable ChatTemplate chatTemplate();

  /// The text of a chat template, not parsed, or null if the checkpoint has none of this name.
  ///
  /// @param name `default`, or `tool_use` for the one that conversations with tools take
  @Nullable String chatTemplateSource(String name);

  /// A conversation as the text the model was trained on, special tokens spelled out.
  ///
  /// @param addGenerationPrompt end with the opening of an assistant turn
  /// @param variables further template variables, such as `enable_thinking` or `tools`
  /// @throws IllegalStateException if the checkpoint has no chat template
  /// @throws TemplateException if the template refuses the conversation or is broken
  String renderChat(
      List<ChatMessage> messages, boolean addGenerationPrompt, Map<String, ?> variables);

  /// The ids of [#renderChat]; nothing is added around them, since the template writes BOS itself.
  default int[] encodeChat(
      List<ChatMessage> messages, boolean addGenerationPrompt, Map<String, ?> variables) {
    return encode(renderChat(messages, addGenerationPrompt, variables), false);
  }
}
