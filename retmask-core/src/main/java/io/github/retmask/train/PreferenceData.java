package io.github.retmask.train;

import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/// The pairs that a training uses, and how many were left out for what reason. A pair that does not
/// fit is left out as a whole: a completion without its prompt, or without its start, would teach
/// something that nobody said.
public final class PreferenceData {
  private final List<PreferencePair> pairs;
  private final Map<Dropped, Integer> dropped;

  /// Why a pair is left out.
  public enum Dropped {
    /// Prompt and longer completion have more tokens than allowed.
    TOO_LONG,
    /// There is no prompt, so nothing predicts the first token.
    EMPTY_PROMPT,
    /// A completion has no tokens.
    EMPTY_COMPLETION,
    /// Both completions are the same: there is nothing to prefer.
    IDENTICAL
  }

  private PreferenceData(List<PreferencePair> pairs, Map<Dropped, Integer> dropped) {
    this.pairs = pairs;
    this.dropped = dropped;
  }

  /// The usable pairs of `all`, in their order.
  ///
  /// @param maxTokens most tokens of prompt and completion together
  /// @throws IllegalArgumentException when none is usable
  public static PreferenceData of(List<PreferencePair> all, int maxTokens) {
    List<PreferencePair> pairs = new ArrayList<>();
    Map<Dropped, Integer> dropped = new EnumMap<>(Dropped.class);
    for (PreferencePair pair : all) {
      if (pair.prompt().length == 0) {
        dropped.merge(Dropped.EMPTY_PROMPT, 1, Integer::sum);
      } else if (pair.chosen().length == 0 || pair.rejected().length == 0) {
        dropped.merge(Dropped.EMPTY_COMPLETION, 1, Integer::sum);
      } else if (Arrays.equals(pair.chosen(), pair.rejected())) {
        dropped.merge(Dropped.IDENTICAL, 1, Integer::sum);
      } else if (pair.longest() > maxTokens) {
        dropped.merge(Dropped.TOO_LONG, 1, Integer::sum);
      } else {
        pairs.add(pair);
      }
    }
    if (pairs.isEmpty()) {
      throw new IllegalArgumentException(
          "preference pairs: none of %d is usable at up to %d tokens; left out: %s"
              .formatted(all.size(), maxTokens, dropped));
    }
    return new PreferenceData(List.copyOf(pairs), dropped);
  }

  /// The pairs in use, at least one.
  public List<PreferencePair> pairs() {
    return pairs;
  }

  /// How many pairs were left out, by reason; reasons without a pair are absent.
  public Map<Dropped, Integer> dropped() {
    return new EnumMap<>(dropped);
  }

  /// SHA-256 of the token ids of all pairs in use.
  String fingerprint() {
    MessageDigest digest = Fingerprint.sha256();
    for (PreferencePair pair : pairs) {
      for (int[] ids : List.of(pair.prompt(), pair.chosen(), pair.rejected())) {
        ByteBuffer bytes = ByteBuffer.allocate(4 * (ids.length + 1));
        bytes.putInt(ids.length);
        bytes.asIntBuffer().put(ids);
        digest.update(bytes.array());
      }
    }
    return Fingerprint.hex(digest);
  }
}
