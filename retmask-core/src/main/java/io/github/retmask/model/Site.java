package io.github.retmask.model;

/// Places in the forward pass that an [Observer] can see, with TransformerLens' names.
public enum Site {
  /// Token embedding, `[N,C]` (hook_embed).
  EMBED,
  /// Residual stream entering a layer, `[N,C]` (hook_resid_pre).
  RESID_PRE,
  /// Queries before q_norm and rope, `[N,H,D]` (attn.hook_q).
  Q,
  /// Keys before k_norm and rope, `[N,Hkv,D]` (attn.hook_k).
  K,
  /// Values, `[N,Hkv,D]` (attn.hook_v).
  V,
  /// Rotated queries, `[N,H,D]` (attn.hook_rot_q).
  ROT_Q,
  /// Rotated keys, `[N,Hkv,D]` (attn.hook_rot_k).
  ROT_K,
  /// Head outputs before their gates, `[N,H,D]` (attn.hook_z).
  Z,
  /// What attention adds to the residual stream, `[N,C]` (hook_attn_out).
  ATTN_OUT,
  /// Residual stream between the two blocks, `[N,C]` (hook_resid_mid).
  RESID_MID,
  /// What the feed-forward block adds, `[N,C]` (hook_mlp_out).
  MLP_OUT,
  /// Residual stream leaving a layer, `[N,C]` (hook_resid_post).
  RESID_POST
}
