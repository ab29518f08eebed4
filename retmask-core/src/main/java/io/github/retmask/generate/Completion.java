package io.github.retmask.generate;

import org.jspecify.annotations.Nullable;

/// What a request yielded.
///
/// @param index number of the request in its call, from 0
/// @param request what was asked
/// @param ids generated token ids, the one that stopped it included
/// @param finish why it ended
/// @param attention where the heads looked, when that was asked
public record Completion(
    int index,
    GenerationRequest request,
    int[] ids,
    FinishReason finish,
    @Nullable DecodeAttention attention) {}
