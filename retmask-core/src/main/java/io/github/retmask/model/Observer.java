package io.github.retmask.model;

import io.github.retmask.tensor.Tensor;

/// Looks at tensors as a forward pass produces them. A tensor is valid only during the call; copy
/// what must stay.
@FunctionalInterface
public interface Observer {
  /// Sees nothing.
  Observer NONE = (_, _, _) -> {};

  /// Called once per site and layer; `layer` is 0 for [Site#EMBED].
  void saw(Site site, int layer, Tensor tensor);
}
