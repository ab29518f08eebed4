package io.github.retmask.model;

import io.github.retmask.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// Weights of one linear layer.
///
/// @param weight `[O,I]`, as checkpoints store it
/// @param bias `[O]` or null
public record Linear(Tensor weight, @Nullable Tensor bias) {}
