package io.github.retmask.train;

/// Log-probabilities of both completions of a preference pair, each summed over its tokens.
///
/// @param chosen of the preferred completion
/// @param rejected of the other
public record PairLogProbs(double chosen, double rejected) {}
