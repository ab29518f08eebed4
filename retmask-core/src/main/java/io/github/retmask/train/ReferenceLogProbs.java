package io.github.retmask.train;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.github.retmask.io.WorkJournal;
import io.github.retmask.model.Transformer;
import io.github.retmask.tensor.TensorArena;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/// Log-probabilities of all pairs by the model before training, computed once and kept in a
/// journal, so that no second model is needed while training. An interrupted computation goes on
/// with the next pair; since a row's result does not depend on its batch, the values are the same.
final class ReferenceLogProbs {
  private static final String CHOSEN = "chosen";
  private static final String REJECTED = "rejected";

  private ReferenceLogProbs() {}

  /// Name of the journal in the folder of a training.
  static String fileName() {
    return WorkJournal.path(output(Path.of(""))).getFileName().toString();
  }

  private static Path output(Path directory) {
    return directory.resolve("reference_logps");
  }

  /// Reads what is known and computes the rest.
  ///
  /// @param model before training, without a mask
  /// @param origin what decides the values, by option name
  /// @param batchTokens tokens that go through the model at once
  static List<PairLogProbs> of(
      Transformer model,
      List<PreferencePair> pairs,
      Map<String, String> origin,
      int batchTokens,
      Path directory,
      TrainingListener listener)
      throws IOException, InterruptedException {
    try (WorkJournal journal =
            WorkJournal.open(output(directory), origin, WorkJournal.Existing.RESUME);
        TensorArena step = model.ops().arena(TensorArena.Lifetime.STEP)) {
      List<PairLogProbs> known = new ArrayList<>();
      for (int p = 0; p < journal.size(); p++) {
        ObjectNode item = journal.item(p);
        known.add(
            new PairLogProbs(item.get(CHOSEN).doubleValue(), item.get(REJECTED).doubleValue()));
      }
      List<PreferencePair> rest = pairs.subList(known.size(), pairs.size());
      for (List<PreferencePair> group : RowPacker.pack(rest, PreferencePair::tokens, batchTokens)) {
        if (Thread.interrupted()) {
          throw new InterruptedException(
              "interrupted after the reference log-probabilities of %d of %d pairs; the same command continues"
                  .formatted(known.size(), pairs.size()));
        }
        step.reset();
        for (PairLogProbs logps : compute(model, group, step)) {
          ObjectNode item = JsonNodeFactory.instance.objectNode();
          journal.append(item.put(CHOSEN, logps.chosen()).put(REJECTED, logps.rejected()));
          known.add(logps);
        }
        listener.references(known.size(), pairs.size());
      }
      return known;
    }
  }

  private static List<PairLogProbs> compute(
      Transformer model, List<PreferencePair> group, TensorArena step) {
    LabelledBatch batch = LabelledBatch.of(rows(group), model.noMask());
    TokenLogProbs logps = LogProbs.of(model, batch, step);
    List<PairLogProbs> values = new ArrayList<>();
    for (int p = 0; p < group.size(); p++) {
      PairLogProbs pair = new PairLogProbs(logps.sum(2 * p), logps.sum(2 * p + 1));
      if (!Double.isFinite(pair.chosen()) || !Double.isFinite(pair.rejected())) {
        throw new ArithmeticException(
            "reference log-probabilities: %s: the model before training gives no finite numbers"
                .formatted(pair));
      }
      values.add(pair);
    }
    return values;
  }

  /// `chosen, rejected` of every pair.
  static List<Example> rows(List<PreferencePair> pairs) {
    List<Example> rows = new ArrayList<>();
    for (PreferencePair pair : pairs) {
      rows.add(pair.chosenRow());
      rows.add(pair.rejectedRow());
    }
    return rows;
  }
}
