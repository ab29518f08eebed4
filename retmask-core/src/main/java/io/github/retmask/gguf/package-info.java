/// GGUF, the one-file format of llama.cpp: read, written, and presented in the forms of Hugging Face
/// that the rest of the engine knows: a config.json, tensors under checkpoint names, a
/// tokenizer.json. What GGUF calls things is known here alone.
///
/// Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.
@org.jspecify.annotations.NullMarked
package io.github.retmask.gguf;
