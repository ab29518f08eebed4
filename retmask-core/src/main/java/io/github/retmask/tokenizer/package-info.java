/// Text to token ids and back, and chat messages to the text a checkpoint was trained on.
@org.jspecify.annotations.NullMarked
package io.github.retmask.tokenizer;
