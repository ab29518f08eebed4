package io.github.retmask.backend;

import io.github.retmask.tensor.Tensor;
import org.jspecify.annotations.Nullable;

/// One of the linear layers that read the same input, see [Kernels#matmuls].
///
/// @param out `[N,O]`
/// @param weight `[O,I]`
/// @param bias `[O]` or null
public record Projection(Tensor out, Tensor weight, @Nullable Tensor bias) {}
