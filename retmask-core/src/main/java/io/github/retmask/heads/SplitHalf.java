package io.github.retmask.heads;

/// How well two halves of the trials agree about the heads.
///
/// @param correlation Pearson correlation of the head means of the two halves, averaged over the
///     splits; 0 in a split where a half gives all heads the same mean
/// @param reliability the correlation to expect between two sets of trials as large as the whole
///     (Spearman-Brown: 2r / (1 + r); 0 when r is negative)
/// @param splits random splits averaged over
public record SplitHalf(double correlation, double reliability, int splits) {}
