package io.github.retmask.model;

import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.tensor.Tensor;
import java.util.List;

/// What a forward yields for chosen tokens. Lives as long as the step arena that it was given.
///
/// @param hidden the final normalised hidden states, `[M,C]`: what lm_head reads
/// @param readouts one per layer; empty when none were asked for
public record TokenStates(Tensor hidden, List<AttentionReadout> readouts) {}
