package io.github.retmask.backend;

/// Scalars of one AdamW update (Loshchilov and Hutter 2019, Algorithm 2, decoupled decay).
///
/// @param step number of this update, from 1
/// @param learningRate lr
/// @param beta1 decay of the first moment
/// @param beta2 decay of the second moment
/// @param eps added to the root of the corrected second moment
/// @param weightDecay decoupled decay: the weight is scaled by 1 - lr * decay
/// @param gradScale factor on the gradient, from global-norm clipping
public record AdamWStep(
    long step,
    double learningRate,
    double beta1,
    double beta2,
    double eps,
    double weightDecay,
    double gradScale) {}
