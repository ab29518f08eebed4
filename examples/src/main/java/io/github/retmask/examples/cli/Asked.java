package io.github.retmask.examples.cli;

import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Sampling;
import io.github.retmask.generate.StopRule;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.pretrained.PretrainedModel;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// One prompt and how it is continued.
///
/// @param id name of the prompt
/// @param prompt token ids
/// @param mask switched heads
/// @param sampling how tokens are chosen
/// @param maxNewTokens length limit; null for what the context leaves, 256 at most
/// @param stopTexts texts that end a continuation
/// @param ignoreEos whether end-of-sequence tokens do not
/// @param samples continuations asked for
record Asked(
    String id,
    int[] prompt,
    HeadMask mask,
    Sampling sampling,
    @Nullable Integer maxNewTokens,
    List<String> stopTexts,
    boolean ignoreEos,
    int samples) {
  private static final int DEFAULT_NEW_TOKENS = 256;

  Asked {
    stopTexts = List.copyOf(stopTexts);
  }

  /// The same for another prompt.
  Asked with(String newId, int[] newPrompt) {
    return new Asked(newId, newPrompt, mask, sampling, maxNewTokens, stopTexts, ignoreEos, samples);
  }

  /// Length limit in a model of so many positions.
  int newTokens(int positions) {
    return maxNewTokens == null
        ? Math.clamp((long) positions - prompt.length, 1, DEFAULT_NEW_TOKENS)
        : maxNewTokens;
  }

  /// One request a sample. Noise belongs to the number of the sample, so that a prompt has the same
  /// continuations whatever is asked beside it, and the same prompt under two masks the same noise.
  List<GenerationRequest> requests(PretrainedModel model) throws IOException {
    StopRule stop = ignoreEos ? StopRule.NEVER : StopRule.at(model.eosIds());
    if (!stopTexts.isEmpty()) {
      stop = stop.or(StopRule.atTexts(model.tokenizer(), stopTexts.toArray(String[]::new)));
    }
    int newTokens = newTokens(model.config().maxPositions());
    List<GenerationRequest> requests = new ArrayList<>();
    for (int i = 0; i < samples; i++) {
      requests.add(new GenerationRequest(prompt, mask, sampling, i, newTokens, stop, false));
    }
    return requests;
  }
}
