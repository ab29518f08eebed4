/// Training: losses over per-token log-probabilities, the optimiser, and two trainers that resume
/// exactly after an interruption: one from scratch on generated examples, one on preference pairs.
@org.jspecify.annotations.NullMarked
package io.github.retmask.train;
