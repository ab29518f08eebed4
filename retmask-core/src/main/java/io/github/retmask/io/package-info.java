/// Files: safetensors, Hugging Face checkpoint directories, configuration trees, and atomic writes.
/// Readers check everything a file says before they use it and report with [FormatException].
@org.jspecify.annotations.NullMarked
package io.github.retmask.io;
