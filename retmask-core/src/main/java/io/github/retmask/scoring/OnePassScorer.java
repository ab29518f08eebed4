package io.github.retmask.scoring;

import io.github.retmask.backend.AttentionReadout;
import io.github.retmask.eval.GreedyMatch;
import io.github.retmask.heads.HeadScores;
import io.github.retmask.model.Activations;
import io.github.retmask.model.Batch;
import io.github.retmask.model.ModelConfig;
import io.github.retmask.model.Observer;
import io.github.retmask.model.ReadoutRequest;
import io.github.retmask.model.Transformer;
import io.github.retmask.tensor.Tensor;
import io.github.retmask.tensor.TensorArena;
import java.util.ArrayList;
import java.util.List;

/// Strict retrieval scores (Wu et al. 2024, equation 1) of trials whose answer is known, in one
/// forward pass each instead of one per token.
///
/// Where the greedy continuation is the answer, feeding prompt and answer at once shows every head
/// the same queries and keys as decoding does, so the hits are the same. A trial counts only when
/// it is. A head's score in a trial is the number of distinct answer positions in the prompt that
/// it hit, divided by the answer's length; a hit is a step whose largest attention weight lies in
/// the span, on the token just produced.
public final class OnePassScorer {
  private static final int TRIALS_PER_BATCH = 64;

  private OnePassScorer() {}

  /// A prompt that holds its answer.
  ///
  /// @param prompt token ids
  /// @param answer the tokens to produce
  /// @param spanStart first position of the answer in the prompt
  /// @param spanEnd end of it, exclusive
  public record Trial(int[] prompt, int[] answer, int spanStart, int spanEnd) {
    public Trial {
      if (answer.length == 0 || spanStart < 0 || spanEnd > prompt.length || spanEnd <= spanStart) {
        throw new IllegalArgumentException(
            "trial: answer of %d tokens at [%d, %d) of a prompt of %d"
                .formatted(answer.length, spanStart, spanEnd, prompt.length));
      }
    }

    private GreedyMatch.Item item() {
      return new GreedyMatch.Item(prompt, answer);
    }
  }

  /// Scores of every head over the trials that the intact model answers.
  ///
  /// @throws IllegalStateException when it answers none
  public static HeadScores score(Transformer model, List<Trial> trials) {
    List<GreedyMatch.Item> items = trials.stream().map(Trial::item).toList();
    boolean[] answered = GreedyMatch.matches(model, model.noMask(), items);
    List<Trial> kept = new ArrayList<>();
    for (int i = 0; i < answered.length; i++) {
      if (answered[i]) {
        kept.add(trials.get(i));
      }
    }
    if (kept.isEmpty()) {
      throw new IllegalStateException(
          "retrieval scores: the model answers none of " + trials.size() + " trials");
    }
    ModelConfig config = model.config();
    List<double[]> scores = new ArrayList<>();
    try (TensorArena step = model.ops().arena(TensorArena.Lifetime.STEP)) {
      for (int from = 0; from < kept.size(); from += TRIALS_PER_BATCH) {
        scoreBatch(
            model,
            kept.subList(from, Math.min(kept.size(), from + TRIALS_PER_BATCH)),
            scores,
            step);
        step.reset();
      }
    }
    return HeadScores.ofTrials(config.layerCount(), config.heads(), scores);
  }

  private static void scoreBatch(
      Transformer model, List<Trial> trials, List<double[]> scores, TensorArena step) {
    List<Batch.Row> rows = new ArrayList<>();
    int queries = 0;
    for (Trial trial : trials) {
      int[] ids = trial.item().input();
      rows.add(Batch.Row.whole(ids, model.noMask()).ofPrompt(trial.prompt().length));
      queries += trial.answer().length;
    }
    int[] tokens = new int[queries]; // the queries that produce the answers
    int at = 0;
    int start = 0;
    for (int i = 0; i < trials.size(); i++) {
      for (int t = 0; t < trials.get(i).answer().length; t++) {
        tokens[at++] = start + trials.get(i).prompt().length - 1 + t;
      }
      start += rows.get(i).ids().length;
    }
    List<AttentionReadout> readouts =
        model
            .forward(
                new Batch(rows),
                null,
                Activations.Keep.RESULT,
                ReadoutRequest.of(tokens),
                step,
                Observer.NONE)
            .readouts();
    int query = 0;
    for (Trial trial : trials) {
      scores.add(trialScores(model.config(), trial, readouts, query));
      query += trial.answer().length;
    }
  }

  /// Scores of all heads in one trial, `[L H]`.
  private static double[] trialScores(
      ModelConfig config, Trial trial, List<AttentionReadout> readouts, int firstQuery) {
    int heads = config.heads();
    double[] scores = new double[config.totalHeads()];
    for (int l = 0; l < config.layerCount(); l++) {
      Tensor positions = readouts.get(l).topPosition(); // [Q,H]
      for (int h = 0; h < heads; h++) {
        boolean[] hit = new boolean[trial.spanEnd() - trial.spanStart()];
        for (int t = 0; t < trial.answer().length; t++) {
          long entry = (long) (firstQuery + t) * heads + h;
          int position = positions.getInt(entry);
          if (position >= trial.spanStart()
              && position < trial.spanEnd()
              && trial.prompt()[position] == trial.answer()[t]) {
            hit[position - trial.spanStart()] = true;
          }
        }
        int hits = 0;
        for (boolean one : hit) {
          hits += one ? 1 : 0;
        }
        scores[l * heads + h] = (double) hits / hit.length;
      }
    }
    return scores;
  }
}
