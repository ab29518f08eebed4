/// Files: safetensors, Hugging Face checkpoint directories, configuration trees, head scores and head
/// lists, JSON lines, journals of resumable work, and atomic writes.
/// Readers check everything a file says before they use it and report with [FormatException].
@org.jspecify.annotations.NullMarked
package io.github.retmask.io;
