package io.github.retmask.model;

import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import org.jspecify.annotations.Nullable;

/// What one layer computes on the way forward, but for its result. All layers share one when nobody
/// goes back, or computes every layer again on the way. Otherwise every layer keeps its own, except
/// for what [DecoderLayer#restore] makes from the rest or the backward does not read: the normalised
/// inputs, act and, with pre-norm, the outputs of both blocks.
///
/// @param attnIn `[N,C]` normalised input of attention; null with post-norm
/// @param attnRstd `[N]`
/// @param q `[N,H,D]` as projected; the rotated queries too unless q/k norm needs both
/// @param k `[N,Hkv,D]` likewise
/// @param v `[N,Hkv,D]`
/// @param rotQ `[N,H,D]` rotated queries
/// @param rotK `[N,Hkv,D]` rotated keys
/// @param qRstd `[N H]` or `[N]`; null without q/k norm
/// @param kRstd `[N Hkv]` or `[N]`; null without q/k norm
/// @param z `[N,H,D]` head outputs before their gates
/// @param gatedZ `[N,H,D]` after them
/// @param lse `[N,H]`
/// @param attnOut `[N,C]` output of o_proj
/// @param residMid `[N,C]`
/// @param mlpIn `[N,C]` normalised input of the feed-forward block; null with post-norm
/// @param mlpRstd `[N]`
/// @param gate `[N,F]`
/// @param up `[N,F]`
/// @param act `[N,F]` swiglu(gate, up)
/// @param mlpOut `[N,C]` output of down_proj
record LayerActivations(
    @Nullable Tensor attnIn,
    Tensor attnRstd,
    Tensor q,
    Tensor k,
    Tensor v,
    Tensor rotQ,
    Tensor rotK,
    @Nullable Tensor qRstd,
    @Nullable Tensor kRstd,
    Tensor z,
    Tensor gatedZ,
    Tensor lse,
    Tensor attnOut,
    Tensor residMid,
    @Nullable Tensor mlpIn,
    Tensor mlpRstd,
    Tensor gate,
    Tensor up,
    Tensor act,
    Tensor mlpOut) {

  /// Room for `tokens` tokens of a layer.
  ///
  /// @param gated whether gates must be applied to a copy of z because z is needed later
  /// @param other of a layer of the same kind, to share what is not kept per layer; or null
  static LayerActivations allocate(
      Transformer model,
      LayerSpec spec,
      int tokens,
      boolean gated,
      @Nullable LayerActivations other,
      TensorArena arena) {
    ModelConfig config = model.config();
    int h = config.heads();
    int hkv = config.kvHeads();
    int d = config.headDim();
    int c = config.hiddenSize();
    int f = config.intermediateSize();
    boolean pre = spec.norms() == LayerSpec.NormPlacement.PRE;
    boolean qkNorm = spec.qkNorm() != LayerSpec.QkNorm.NONE;
    boolean perHead = spec.qkNorm() == LayerSpec.QkNorm.PER_HEAD;
    Tensor attnIn = null;
    Tensor mlpIn = null;
    if (pre) {
      attnIn = other != null ? other.attnIn : model.activation(arena, "attn_in", tokens, c);
      mlpIn = other != null ? other.mlpIn : model.activation(arena, "mlp_in", tokens, c);
    }
    LayerActivations branches = pre ? other : null; // the backward of a post-norm reads its branch
    Tensor q = model.activation(arena, "q", tokens, h, d);
    Tensor k = model.activation(arena, "k", tokens, hkv, d);
    Tensor z = model.activation(arena, "z", tokens, h, d);
    return new LayerActivations(
        attnIn,
        arena.floats("attn_rstd", tokens),
        q,
        k,
        model.activation(arena, "v", tokens, hkv, d),
        qkNorm ? model.activation(arena, "rot_q", tokens, h, d) : q,
        qkNorm ? model.activation(arena, "rot_k", tokens, hkv, d) : k,
        qkNorm ? arena.floats("q_rstd", perHead ? (long) tokens * h : tokens) : null,
        qkNorm ? arena.floats("k_rstd", perHead ? (long) tokens * hkv : tokens) : null,
        z,
        gated ? model.activation(arena, "gated_z", tokens, h, d) : z,
        arena.floats("lse", tokens, h),
        branches != null ? branches.attnOut : model.activation(arena, "attn_out", tokens, c),
        model.activation(arena, "resid_mid", tokens, c),
        mlpIn,
        arena.floats("mlp_rstd", tokens),
        model.activation(arena, "gate", tokens, f),
        model.activation(arena, "up", tokens, f),
        other != null ? other.act : model.activation(arena, "act", tokens, f),
        branches != null ? branches.mlpOut : model.activation(arena, "mlp_out", tokens, c));
  }

  /// The room of the first `tokens` tokens.
  LayerActivations first(int tokens) {
    if (tokens == attnRstd.dim(0)) {
      return this;
    }
    return new LayerActivations(
        attnIn == null ? null : first(attnIn, tokens),
        first(attnRstd, tokens),
        first(q, tokens),
        first(k, tokens),
        first(v, tokens),
        first(rotQ, tokens),
        first(rotK, tokens),
        qRstd == null ? null : first(qRstd, tokens),
        kRstd == null ? null : first(kRstd, tokens),
        first(z, tokens),
        first(gatedZ, tokens),
        first(lse, tokens),
        first(attnOut, tokens),
        first(residMid, tokens),
        mlpIn == null ? null : first(mlpIn, tokens),
        first(mlpRstd, tokens),
        first(gate, tokens),
        first(up, tokens),
        first(act, tokens),
        first(mlpOut, tokens));
  }

  /// The rstds of q/k norm may have several entries per token.
  private Tensor first(Tensor t, int tokens) {
    return t.slice(0, t.dim(0) / attnRstd.dim(0) * tokens);
  }
}
