package io.github.retmask.eval;

import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.AblationSweep;
import io.github.retmask.model.Transformer;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;

/// Whether a model, decoding greedily, would give a known answer, in one forward pass.
///
/// The greedy continuation equals the answer exactly when, with prompt and answer as input, the
/// largest logit before every answer token is that token (ties to the lowest id, as in sampling).
/// So nothing needs to be generated, and many items share a batch.
public final class GreedyMatch {
  private static final int LOGITS_AT_A_TIME = 1 << 22;

  private GreedyMatch() {}

  /// One question.
  ///
  /// @param prompt token ids, at least one
  /// @param answer the ids that must follow, at least one
  public record Item(int[] prompt, int[] answer) {

    /// What the model reads: prompt and answer but its last token, which nothing follows.
    public int[] input() {
      int[] ids = Arrays.copyOf(prompt, prompt.length + answer.length - 1);
      System.arraycopy(answer, 0, ids, prompt.length, answer.length - 1);
      return ids;
    }
  }

  /// For each item, whether its answer is the greedy continuation under `mask`.
  public static boolean[] matches(Transformer model, HeadMask mask, List<Item> items) {
    return matches(model, List.of(mask), items)[0];
  }

  /// The same under several masks, `[masks][items]`, for less work than one after the other.
  public static boolean[][] matches(Transformer model, List<HeadMask> masks, List<Item> items) {
    boolean[][] matched = new boolean[masks.size()][items.size()];
    for (boolean[] ofMask : matched) {
      Arrays.fill(ofMask, true);
    }
    List<AblationSweep.Sequence> sequences = new ArrayList<>();
    for (Item item : items) {
      int[] ids = item.input();
      int[] before = IntStream.range(item.prompt().length - 1, ids.length).toArray();
      sequences.add(new AblationSweep.Sequence(ids, item.prompt().length, before));
    }
    new AblationSweep(model)
        .run(
            sequences,
            masks,
            (places, hidden, call) -> {
              int[] likeliest = likeliest(model, hidden, call);
              for (AblationSweep.Place place : places) {
                int wanted = items.get(place.sequence()).answer()[place.chosen()];
                matched[place.mask()][place.sequence()] &= likeliest[place.row()] == wanted;
              }
            });
    return matched;
  }

  /// The likeliest token after each of some final states.
  ///
  /// @param hidden `[M,C]`
  private static int[] likeliest(Transformer model, Tensor hidden, TensorArena call) {
    int vocab = model.config().vocabSize();
    int states = (int) hidden.dim(0);
    int piece = Math.max(1, LOGITS_AT_A_TIME / vocab);
    int[] likeliest = new int[states];
    for (int from = 0; from < states; from += piece) {
      int to = Math.min(states, from + piece);
      float[] logits = model.logits(hidden.slice(from, to), call).toFloats(); // [to - from, V]
      for (int m = from; m < to; m++) {
        likeliest[m] = argmax(logits, (m - from) * vocab, vocab);
      }
      call.reset();
    }
    return likeliest;
  }

  /// Index of the largest of `count` values from `start` on, the lowest on ties.
  private static int argmax(float[] values, int start, int count) {
    int best = 0;
    for (int v = 1; v < count; v++) {
      if (values[start + v] > values[start + best]) {
        best = v;
      }
    }
    return best;
  }
}
