/// The decoder: configuration as data, weights, one forward pass on a page with its backward below.
///
/// Read [io.github.retmask.model.Transformer] first, then [io.github.retmask.model.DecoderLayer].
/// Differences between models are fields of [io.github.retmask.model.LayerSpec]; nothing here knows
/// an architecture's name.
@org.jspecify.annotations.NullMarked
package io.github.retmask.model;
