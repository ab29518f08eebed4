package io.github.retmask.train;

/// How the weights of a model in training are stored. Gradients and moments are F32 either way.
public enum Precision {
  /// F32.
  F32,
  /// Matrices rounded to BF16 from F32 masters that the optimiser updates (Micikevicius et al. 2018). A
  /// backend that computes with BF16 activations then does.
  BF16
}
