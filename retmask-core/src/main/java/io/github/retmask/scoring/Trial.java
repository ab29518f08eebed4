package io.github.retmask.scoring;

import java.util.Collections;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import org.jspecify.annotations.Nullable;

/// A prompt with a needle in it, which the model is asked to repeat.
///
/// @param id name of the trial, for reports
/// @param prompt token ids, at least one; kept, not copied
/// @param needleStart first needle position in the prompt, or -1 when the needle was not found
/// @param needleEnd one past the last needle position, or -1
/// @param answer text that a successful response repeats; null where only tokens are known
/// @param maxNewTokens length limit of the response, at least 1
/// @param labels what the trial was made of, such as `length` and `depth`, by name
public record Trial(
    String id,
    int[] prompt,
    int needleStart,
    int needleEnd,
    @Nullable String answer,
    int maxNewTokens,
    SortedMap<String, String> labels) {

  public Trial {
    labels = Collections.unmodifiableSortedMap(new TreeMap<>(labels));
    boolean found = 0 <= needleStart && needleStart < needleEnd && needleEnd <= prompt.length;
    boolean lost = needleStart == -1 && needleEnd == -1;
    if (prompt.length == 0 || maxNewTokens < 1 || !(found || lost)) {
      throw new IllegalArgumentException(
          "trial %s: a prompt of %d tokens with its needle at [%d, %d) and %d new ones"
              .formatted(id, prompt.length, needleStart, needleEnd, maxNewTokens));
    }
  }

  /// A trial of which nothing but tokens is known.
  public static Trial of(
      String id, int[] prompt, int needleStart, int needleEnd, int maxNewTokens) {
    return new Trial(
        id, prompt, needleStart, needleEnd, null, maxNewTokens, new TreeMap<>(Map.of()));
  }

  /// Whether it is known where the needle lies.
  public boolean hasNeedle() {
    return needleStart >= 0;
  }
}
