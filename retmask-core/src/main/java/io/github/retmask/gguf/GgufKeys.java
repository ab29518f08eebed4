package io.github.retmask.gguf;

import java.util.List;

/// Metadata keys of tokenizers.
final class GgufKeys {
  static final String MODEL = "tokenizer.ggml.model";
  static final String PRE = "tokenizer.ggml.pre";
  static final String TOKENS = "tokenizer.ggml.tokens";
  static final String TYPES = "tokenizer.ggml.token_type";
  static final String SCORES = "tokenizer.ggml.scores";
  static final String MERGES = "tokenizer.ggml.merges";
  static final String BOS = "tokenizer.ggml.bos_token_id";
  static final String EOS = "tokenizer.ggml.eos_token_id";
  static final String UNKNOWN = "tokenizer.ggml.unknown_token_id";
  static final String PADDING = "tokenizer.ggml.padding_token_id";
  static final String ADD_BOS = "tokenizer.ggml.add_bos_token";
  static final String ADD_EOS = "tokenizer.ggml.add_eos_token";
  static final String ADD_SPACE = "tokenizer.ggml.add_space_prefix";
  static final String HUGGING_FACE = "tokenizer.huggingface.json";
  static final String TEMPLATE = "tokenizer.chat_template";
  static final String TOOL_TEMPLATE = "tokenizer.chat_template.tool_use";

  /// Tokens that end a text, a turn and a message; llama.cpp stops at any of them.
  static final List<String> ENDS =
      List.of(EOS, "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id");

  private GgufKeys() {}
}
