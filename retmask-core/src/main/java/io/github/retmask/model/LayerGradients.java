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
/// @param dSharedK `[S,Hkv,D]` of the keys that attention read; dK where no row has a prefix
/// @param dSharedV `[S,Hkv,D]` of the values likewise
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
    Tensor dSharedK,
    Tensor dSharedV,
    @Nullable Tensor dQProj,
    @Nullable Tensor dKProj) {

  /// Room for `tokens` tokens of any layer of a model.
  ///
  /// @param shared keys of rows with prefixes, or null
  static LayerGradients allocate(
      Transformer model, int tokens, @Nullable SharedKeys shared, TensorArena arena) {
    ModelConfig config = model.config();
    int h = config.heads();
    int hkv = config.kvHeads();
    int d = config.headDim();
    int f = config.intermediateSize();
    boolean qkNorm =
        config.layers().stream().anyMatch(layer -> layer.qkNorm() != LayerSpec.QkNorm.NONE);
    Tensor dK = model.activation(arena, "d_k", tokens, hkv, d);
    Tensor dV = model.activation(arena, "d_v", tokens, hkv, d);
    return new LayerGradients(
        model.activation(arena, "d_block", tokens, config.hiddenSize()),
        model.activation(arena, "d_gate", tokens, f),
        model.activation(arena, "d_up", tokens, f),
        model.activation(arena, "d_z", tokens, h, d),
        model.activation(arena, "d_q", tokens, h, d),
        dK,
        dV,
        shared == null ? dK : model.activation(arena, "d_shared_k", shared.count(), hkv, d),
        shared == null ? dV : model.activation(arena, "d_shared_v", shared.count(), hkv, d),
        qkNorm ? model.activation(arena, "d_q_proj", tokens, h, d) : null,
        qkNorm ? model.activation(arena, "d_k_proj", tokens, hkv, d) : null);
  }
}
