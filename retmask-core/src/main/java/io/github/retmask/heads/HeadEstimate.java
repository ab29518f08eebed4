package io.github.retmask.heads;

import io.github.retmask.stats.Interval;

/// What the trials say about one head.
///
/// @param id the head
/// @param mean mean score over all trials
/// @param ci95 where the mean over ever more trials of the same kind lies, with 95 % confidence
public record HeadEstimate(HeadId id, double mean, Interval ci95) {}
