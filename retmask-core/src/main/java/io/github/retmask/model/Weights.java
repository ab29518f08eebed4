package io.github.retmask.model;

import io.github.retmask.tensor.Tensor;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Function;
import java.util.function.UnaryOperator;

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
    return visited(this::map);
  }

  /// Every tensor that is handed to a change, in that order.
  static List<Tensor> visited(Function<UnaryOperator<Tensor>, ?> map) {
    List<Tensor> all = new ArrayList<>();
    map.apply(
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
    for (LayerWeights layer : layers) {
      changed.add(layer.map(change));
    }
    Tensor finalNorm = change.apply(norm);
    return new Weights(embed, changed, finalNorm, isTied() ? embed : change.apply(lmHead));
  }

  /// Whether lm_head and embed_tokens share memory.
  public boolean isTied() {
    return lmHead == embedTokens;
  }

  /// Some of the tensors: of the parameters, or the same ones of the gradients or of a moment.
  @FunctionalInterface
  public interface Part {
    /// The embedding; lm_head too when the two are tied.
    Part EMBED_TOKENS = weights -> List.of(weights.embedTokens());

    /// The final norm.
    Part NORM = weights -> List.of(weights.norm());

    /// An lm_head of its own.
    Part LM_HEAD = weights -> List.of(weights.lmHead());

    /// A layer.
    static Part layer(int l) {
      return weights -> weights.layers().get(l).tensors();
    }

    /// The tensors of it, in a fixed order.
    List<Tensor> of(Weights weights);
  }
}
