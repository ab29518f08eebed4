/// A checkpoint folder or GGUF file opened for use: weights bound to a [io.github.retmask.model.Transformer], its
/// tokenizer, and how it wants to generate.
@org.jspecify.annotations.NullMarked
package io.github.retmask.pretrained;
