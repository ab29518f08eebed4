package io.github.retmask.model;

import io.github.retmask.tensor.Tensor;
import java.util.List;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;

/// Weights of one decoder layer. The same record holds parameters, gradients and both Adam moments.
///
/// @param attentionNorm `[C]`, before or after attention as [LayerSpec#norms] says
/// @param qProj `[H D, C]`
/// @param kProj `[Hkv D, C]`
/// @param vProj `[Hkv D, C]`
/// @param qNorm `[D]` per head or `[H D]` whole; null without q/k norm
/// @param kNorm `[D]` per head or `[Hkv D]` whole; null without q/k norm
/// @param oProj `[C, H D]`
/// @param mlpNorm `[C]`, before or after the feed-forward block
/// @param gateProj `[F,C]`
/// @param upProj `[F,C]`
/// @param downProj `[C,F]`
public record LayerWeights(
    Tensor attentionNorm,
    Linear qProj,
    Linear kProj,
    Linear vProj,
    @Nullable Tensor qNorm,
    @Nullable Tensor kNorm,
    Linear oProj,
    Tensor mlpNorm,
    Linear gateProj,
    Linear upProj,
    Linear downProj) {

  /// Every tensor, in the order of [#map].
  public List<Tensor> tensors() {
    return Weights.visited(this::map);
  }

  /// The same structure with every tensor replaced.
  public LayerWeights map(UnaryOperator<Tensor> change) {
    return new LayerWeights(
        change.apply(attentionNorm),
        map(qProj, change),
        map(kProj, change),
        map(vProj, change),
        mapNullable(qNorm, change),
        mapNullable(kNorm, change),
        map(oProj, change),
        change.apply(mlpNorm),
        map(gateProj, change),
        map(upProj, change),
        map(downProj, change));
  }

  private static Linear map(Linear linear, UnaryOperator<Tensor> change) {
    return new Linear(change.apply(linear.weight()), mapNullable(linear.bias(), change));
  }

  private static @Nullable Tensor mapNullable(
      @Nullable Tensor tensor, UnaryOperator<Tensor> change) {
    return tensor == null ? null : change.apply(tensor);
  }
}
