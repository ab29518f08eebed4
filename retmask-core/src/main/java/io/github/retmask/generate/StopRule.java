package io.github.retmask.generate;

import io.github.retmask.tokenizer.ThinkTags;
import io.github.retmask.tokenizer.Tokenizer;
import java.util.Arrays;
import java.util.List;

/// When a continuation ends before its length limit. A rule looks at the generated tokens alone and
/// keeps no state, so that one rule serves many requests.
@FunctionalInterface
public interface StopRule {
  /// Only the length limit ends it; end-of-sequence tokens do not.
  StopRule NEVER = (_, _) -> false;

  /// Whether the continuation ends after its last token, which stays part of it.
  ///
  /// @param ids generated token ids; entries from `count` on are undefined
  /// @param count tokens generated so far, at least 1
  boolean stops(int[] ids, int count);

  /// Ends after any of these tokens, such as the end-of-sequence ids of a model.
  static StopRule at(int... tokens) {
    int[] sorted = tokens.clone();
    Arrays.sort(sorted);
    return (ids, count) -> Arrays.binarySearch(sorted, ids[count - 1]) >= 0;
  }

  /// Ends once the text, special tokens left out, contains one of these texts. The continuation then
  /// holds the whole token that completed it, which may say more.
  ///
  /// @param tokenizer the model's
  static StopRule atTexts(Tokenizer tokenizer, String... texts) {
    return new StopTexts(tokenizer, List.of(texts));
  }

  /// Ends after `maxThinking` tokens in a think block that is still open, and after `maxAnswer` tokens
  /// outside of such blocks. Serves one request only.
  ///
  /// @param open whether the prompt ends inside a block, see [ThinkTags#isLeftOpen]
  static StopRule afterThinking(
      Tokenizer tokenizer, ThinkTags tags, boolean open, int maxThinking, int maxAnswer) {
    return new ThinkBudget(tokenizer, tags, open, maxThinking, maxAnswer);
  }

  /// Ends where this rule or `other` does.
  default StopRule or(StopRule other) {
    return (ids, count) -> stops(ids, count) || other.stops(ids, count);
  }
}
