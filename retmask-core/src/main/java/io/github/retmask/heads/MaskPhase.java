package io.github.retmask.heads;

/// When a [HeadMask] holds.
public enum MaskPhase {
  /// Prefill and decode: the twin whose answers RetMask rejects.
  EVERYWHERE,
  /// Only while tokens are generated; the prompt but its last token is read unmasked, as the masked
  /// needle test of nightdessert/Retrieval_Head does.
  DECODE_ONLY
}
