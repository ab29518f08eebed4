package io.github.retmask.scoring;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.generate.GenerationRequest;
import io.github.retmask.generate.Generator;
import io.github.retmask.generate.StopRule;
import io.github.retmask.generate.TokenListener;
import io.github.retmask.heads.HeadMask;
import io.github.retmask.io.WorkJournal;
import io.github.retmask.model.Transformer;
import io.github.retmask.tokenizer.Tokenizer;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// How well a model finds needles under different masks: the recall of every greedy response, as
/// [RetrievalHeadScorer] counts it. All masks run side by side on one copy of the weights.
public final class NeedleRecall {
  private final Transformer model;
  private final AnswerRecall recall;
  private final StopRule stop;

  /// Recall of a model that outlives it.
  ///
  /// @param tokenizer for answer texts; null where trials have none
  /// @param eosIds tokens that end a response
  public NeedleRecall(Transformer model, @Nullable Tokenizer tokenizer, int... eosIds) {
    this.model = model;
    this.recall = new AnswerRecall(tokenizer);
    this.stop = StopRule.at(eosIds);
  }

  /// Whether a recall is a success: more than half of the answer.
  public static boolean isSuccess(double recall) {
    return recall > AnswerRecall.REQUIRED;
  }

  /// Whether the model's context holds a trial.
  public boolean fits(Trial trial) {
    return (long) trial.prompt().length + trial.maxNewTokens() <= model.config().maxPositions();
  }

  /// The recall of every trial under every mask, `[masks][trials]`.
  ///
  /// @param trials each of which [#fits]
  /// @param journal keeps finished trials; begun with options that determine model, trials and masks
  /// @param limits what may run at a time; changes no result
  /// @throws IOException when the journal cannot be written
  /// @throws IllegalArgumentException when a trial fits neither the context nor the memory
  public double[][] run(
      List<Trial> trials,
      List<HeadMask> masks,
      WorkJournal journal,
      Generator.Options limits,
      RetrievalHeadScorer.Progress progress)
      throws IOException {
    double[][] recalls = new double[masks.size()][trials.size()];
    for (double[] ofMask : recalls) {
      Arrays.fill(ofMask, Double.NaN);
    }
    int all = masks.size() * trials.size();
    for (int i = 0; i < journal.size(); i++) {
      ObjectNode item = journal.item(i);
      recalls[item.path("mask").intValue()][item.path("trial").intValue()] =
          item.path("recall").doubleValue();
    }
    int[] done = {journal.size()};
    progress.done(done[0], all);
    List<int[]> toRun = new ArrayList<>(); // mask, trial
    List<GenerationRequest> requests = new ArrayList<>();
    for (int t = 0; t < trials.size(); t++) {
      for (int m = 0; m < masks.size(); m++) {
        if (Double.isNaN(recalls[m][t])) {
          Trial trial = trials.get(t);
          toRun.add(new int[] {m, t});
          requests.add(
              GenerationRequest.greedy(trial.prompt(), masks.get(m), trial.maxNewTokens())
                  .withStop(stop));
        }
      }
    }
    try (Generator generator = new Generator(model, limits)) {
      generator.generate(
          requests,
          Generator.Order.READY,
          TokenListener.NONE,
          completion -> {
            int m = toRun.get(completion.index())[0];
            int t = toRun.get(completion.index())[1];
            recalls[m][t] = recall.of(trials.get(t), completion.ids());
            keep(journal, m, t, recalls[m][t]);
            progress.done(++done[0], all);
          });
    } catch (UncheckedIOException e) {
      throw e.getCause();
    }
    return recalls;
  }

  private static void keep(WorkJournal journal, int mask, int trial, double recall) {
    ObjectNode item = JsonNodeFactory.instance.objectNode();
    item.put("mask", mask).put("trial", trial).put("recall", recall);
    try {
      journal.append(item);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }
}
