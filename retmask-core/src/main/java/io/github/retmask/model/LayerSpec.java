package io.github.retmask.model;

import io.github.retmask.backend.AttentionSpec;

/// What distinguishes one decoder layer from another. Layer code asks for these properties, never
/// for an architecture's name.
///
/// @param norms where the two norms of the layer stand
/// @param qkNorm whether queries and keys are normalised before rope
/// @param attention window and score scale
/// @param rope rotary embedding
public record LayerSpec(
    NormPlacement norms, QkNorm qkNorm, AttentionSpec attention, RopeSpec rope) {

  /// Where a layer normalises.
  public enum NormPlacement {
    /// The input of attention and of the feed-forward block (Llama).
    PRE,
    /// Their output, before it joins the residual stream.
    POST
  }

  /// Normalisation of queries and keys.
  public enum QkNorm {
    NONE,
    /// Each head by itself, with one weight of length D.
    PER_HEAD,
    /// The whole projection, with a weight of length H D (or Hkv D).
    WHOLE
  }
}
