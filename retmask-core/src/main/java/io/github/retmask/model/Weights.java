package io.github.retmask.model;

import io.github.retmask.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;

/// All weights of a decoder, under their checkpoint names. The same record holds parameters,
/// gradients and both Adam moments.
///
/// @param embedTokens `[V,C]`
/// @param layers one per layer
/// @param norm `[C]`, the final norm
/// @param lmHead `[V,C]`; the same tensor as embedTokens when the two are tied
public record Weights(Tensor embedTokens, List<LayerWeights> layers, Tensor norm, Tensor lmHead) {

  public Weights {
    layers = List.copyOf(layers);
  }

  /// Every tensor once, in a fixed order.
  public List<Tensor> tensors() {
    List<Tensor> all = new ArrayList<>();
    map(
        t -> {
          all.add(t);
          return t;
        });
    return all;
  }

  /// The same structure with every tensor replaced, in the order of [#tensors]. A tied lm_head
  /// stays tied and is visited once.
  public Weights map(UnaryOperator<Tensor> change) {
    Tensor embed = change.apply(embedTokens);
    List<LayerWeights> changed = new ArrayList<>();
    for (LayerWeights w : layers) {
      changed.add(
          new LayerWeights(
              change.apply(w.attentionNorm()),
              map(w.qProj(), change),
              map(w.kProj(), change),
              map(w.vProj(), change),
              mapNullable(w.qNorm(), change),
              mapNullable(w.kNorm(), change),
              map(w.oProj(), change),
              change.apply(w.mlpNorm()),
              map(w.gateProj(), change),
              map(w.upProj(), change),
              map(w.downProj(), change)));
    }
    Tensor finalNorm = change.apply(norm);
    return new Weights(embed, changed, finalNorm, isTied() ? embed : change.apply(lmHead));
  }

  /// Whether lm_head and embed_tokens share memory.
  public boolean isTied() {
    return lmHead == embedTokens;
  }

  private static Linear map(Linear linear, UnaryOperator<Tensor> change) {
    return new Linear(change.apply(linear.weight()), mapNullable(linear.bias(), change));
  }

  private static @Nullable Tensor mapNullable(
      @Nullable Tensor tensor, UnaryOperator<Tensor> change) {
    return tensor == null ? null : change.apply(tensor);
  }
}
