package io.github.retmask.eval;

import io.github.retmask.heads.HeadMask;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.model.Transformer;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.List;

/// Whether a model, decoding greedily, would give a known answer, in one forward pass.
///
/// The greedy continuation equals the answer exactly when, with prompt and answer as input, the
/// largest logit before every answer token is that token (ties to the lowest id, as in sampling).
/// So nothing needs to be generated, and many items share a batch.
public final class GreedyMatch {
  private static final int TOKENS_PER_BATCH = 8192; // enough to fill the kernels, small in memory

  private GreedyMatch() {}

  /// One question.
  ///
  /// @param prompt token ids, at least one
  /// @param answer the ids that must follow, at least one
  public record Item(int[] prompt, int[] answer) {

    /// What the model reads: prompt and answer but its last token, which nothing follows.
    public int[] input() {
      int[] ids = java.util.Arrays.copyOf(prompt, prompt.length + answer.length - 1);
      System.arraycopy(answer, 0, ids, prompt.length, answer.length - 1);
      return ids;
    }
  }

  /// For each item, whether its answer is the greedy continuation under `mask`.
  public static boolean[] matches(Transformer model, HeadMask mask, List<Item> items) {
    boolean[] matched = new boolean[items.size()];
    try (TensorArena step = model.ops().arena(TensorArena.Lifetime.STEP)) {
      int from = 0;
      while (from < items.size()) {
        List<Batch.Row> rows = new ArrayList<>();
        int to = from;
        for (int tokens = 0; to < items.size() && tokens < TOKENS_PER_BATCH; to++) {
          int[] ids = items.get(to).input();
          rows.add(Batch.Row.whole(ids, mask).ofPrompt(items.get(to).prompt().length));
          tokens += ids.length;
        }
        matchBatch(model, rows, items.subList(from, to), matched, from, step);
        step.reset();
        from = to;
      }
    }
    return matched;
  }

  private static void matchBatch(
      Transformer model,
      List<Batch.Row> rows,
      List<Item> items,
      boolean[] matched,
      int offset,
      TensorArena step) {
    Activations a = model.forward(new Batch(rows), step);
    int total = items.stream().mapToInt(item -> item.answer().length).sum();
    int[] tokens = new int[total];
    int at = 0;
    for (int i = 0; i < items.size(); i++) {
      int before = a.layout().tokenStart(i) + items.get(i).prompt().length - 1;
      for (int t = 0; t < items.get(i).answer().length; t++) {
        tokens[at++] = before + t;
      }
    }
    Tensor logits = model.logits(a, step, tokens); // [total,V]
    float[] values = logits.toFloats();
    int vocab = model.config().vocabSize();
    int row = 0;
    for (int i = 0; i < items.size(); i++) {
      boolean all = true;
      for (int wanted : items.get(i).answer()) {
        all &= argmax(values, row++ * vocab, vocab) == wanted;
      }
      matched[offset + i] = all;
    }
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
