package io.github.retmask.backend;

import io.github.retmask.tensor.Tensor;

/// Where the keys and values of a layer's tokens go.
///
/// @param keys `[keys,Hkv,D]`
/// @param values `[keys,Hkv,D]`
/// @param rows I32 `[N]`, row of every token in both; distinct
public record CacheLines(Tensor keys, Tensor values, Tensor rows) {}
