package io.github.retmask.model;

import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import org.jspecify.annotations.Nullable;

/// Working memory of a layer's backward; all layers share one.
///
/// @param dBlock `[N,C]` gradient of a block's normalised input (pre-norm) or raw output (post-norm)
/// @param dGate `[N,F]`
/// @param dUp `[N,F]` of up_proj's output; of act before that
/// @param dZ `[N,H,D]`
/// @param dQ `[N,H,D]`
/// @param dK `[N,Hkv,D]`
/// @param dV `[N,Hkv,D]`
/// @param dQProj `[N,H,D]` of q before its norm; null where no layer has q/k norm
/// @param dKProj `[N,Hkv,D]` of k before its norm; null likewise
record LayerGradients(
    Tensor dBlock,
    Tensor dGate,
    Tensor dUp,
    Tensor dZ,
    Tensor dQ,
    Tensor dK,
    Tensor dV,
    @Nullable Tensor dQProj,
    @Nullable Tensor dKProj) {

  /// Room for `tokens` tokens of any layer of a model.
  static LayerGradients allocate(Transformer model, int tokens, TensorArena arena) {
    ModelConfig config = model.config();
    int h = config.heads();
    int hkv = config.kvHeads();
    int d = config.headDim();
    int f = config.intermediateSize();
    boolean qkNorm =
        config.layers().stream().anyMatch(layer -> layer.qkNorm() != LayerSpec.QkNorm.NONE);
    return new LayerGradients(
        model.activation(arena, "d_block", tokens, config.hiddenSize()),
        model.activation(arena, "d_gate", tokens, f),
        model.activation(arena, "d_up", tokens, f),
        model.activation(arena, "d_z", tokens, h, d),
        model.activation(arena, "d_q", tokens, h, d),
        model.activation(arena, "d_k", tokens, hkv, d),
        model.activation(arena, "d_v", tokens, hkv, d),
        qkNorm ? model.activation(arena, "d_q_proj", tokens, h, d) : null,
        qkNorm ? model.activation(arena, "d_k_proj", tokens, hkv, d) : null);
  }
}
