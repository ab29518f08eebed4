package io.github.retmask.model;

import java.util.List;

/// Sizes of a decoder and the properties of its layers.
///
/// @param vocabSize V, rows of the embedding, padding rows included
/// @param hiddenSize C
/// @param heads H
/// @param kvHeads Hkv
/// @param headDim D; H D need not equal C
/// @param intermediateSize F
/// @param normEps epsilon of every rms_norm
/// @param tiedEmbeddings whether lm_head is embed_tokens
/// @param maxPositions longest context the model is meant for
/// @param layers one spec per layer
public record ModelConfig(
    int vocabSize,
    int hiddenSize,
    int heads,
    int kvHeads,
    int headDim,
    int intermediateSize,
    float normEps,
    boolean tiedEmbeddings,
    int maxPositions,
    List<LayerSpec> layers) {

  public ModelConfig {
    layers = List.copyOf(layers);
    if (vocabSize < 1
        || hiddenSize < 1
        || headDim < 1
        || intermediateSize < 1
        || maxPositions < 1) {
      throw new IllegalArgumentException(
          "model: vocabulary %d, hidden %d, head dimension %d, intermediate %d, positions %d: want all >= 1"
              .formatted(vocabSize, hiddenSize, headDim, intermediateSize, maxPositions));
    }
    if (layers.isEmpty() || kvHeads < 1 || heads < 1 || heads % kvHeads != 0) {
      throw new IllegalArgumentException(
          "model: %d layers, %d heads, %d kv heads: want layers >= 1 and heads a multiple of kv heads"
              .formatted(layers.size(), heads, kvHeads));
    }
  }

  /// L, the number of layers.
  public int layerCount() {
    return layers.size();
  }

  /// Whether keys and values computed in one context serve in a longer one, in every layer; where
  /// not, the sequence must be computed anew. See [RopeSpec#keepsKeys].
  public boolean keepsKeys(int context, int longer) {
    return layers.stream().allMatch(layer -> layer.rope().keepsKeys(context, longer));
  }

  /// Whether a token rotates alike in two contexts, in every layer.
  public boolean rotatesAlike(int context, int other) {
    return layers.stream().allMatch(layer -> layer.rope().rotatesAlike(context, other));
  }

  /// Query heads of the whole model, L H.
  public int totalHeads() {
    return layers.size() * heads;
  }
}
