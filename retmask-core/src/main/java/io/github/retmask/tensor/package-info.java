/// Named, shaped views of memory. No arithmetic lives here; that is `io.github.retmask.backend`.
///
/// **Shape legend**, used in every comment of the project. Tensors are dense and row-major.
///
/// | letter | meaning                                                     |
/// |--------|-------------------------------------------------------------|
/// | B      | rows of a batch (independent sequences)                     |
/// | T      | tokens of one row in this call                              |
/// | N      | tokens of all rows of this call, packed without padding     |
/// | S      | keys that a row holds: past and present                     |
/// | L      | decoder layers                                              |
/// | H      | query heads                                                 |
/// | Hkv    | key/value heads; H is a multiple of it                      |
/// | D      | head dimension, read from the configuration, never C / H    |
/// | C      | hidden size, the width of the residual stream               |
/// | F      | feed-forward (intermediate) size                            |
/// | V      | vocabulary size                                             |
/// | Q      | query tokens for which attention read-outs were asked       |
@org.jspecify.annotations.NullMarked
package io.github.retmask.tensor;
