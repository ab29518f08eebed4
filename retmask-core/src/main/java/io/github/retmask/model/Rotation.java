package io.github.retmask.model;

import io.github.retmask.tensor.Tensor;

/// How the tokens of one forward rotate in a layer.
///
/// @param cos `[P, R/2]`
/// @param sin `[P, R/2]`
/// @param rows I32 `[N]`, the row of every token
record Rotation(Tensor cos, Tensor sin, Tensor rows) {}
