/// Text from a model: continuous batching over key/value slots, sampling whose noise is addressed
/// instead of drawn, and pairs of intact and masked answers from one run.
///
/// What a request yields depends on the request alone, where activations are F32. Batch size, number
/// of slots, chunking of prompts, threads, order and interruptions change the time, never a token.
@org.jspecify.annotations.NullMarked
package io.github.retmask.generate;
